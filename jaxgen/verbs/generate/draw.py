"""Drawing pictures of texts: which noise each picture gets, batches, and the ways between two.

A picture is a function of the model, its text and its `Draw` alone. To keep it so to the last bit,
texts are read one by one and pictures are drawn in batches of one size, the last one filled up: how
many pictures are asked for, and of what other texts, changes nothing. Another batch size is
another program, whose sums round differently: at most one level of 255.
"""

from __future__ import annotations

import functools
import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.data.text.prompt import Prompt
from jaxgen.errors import UserError
from jaxgen.task import Generate, PyTree

# Normal noise is cut off here where it is truncated (BigGAN, Brock et al. 2019, section 3.1).
CUT = 2.0
# Pixels of a batch on a CPU, whose caches more would leave, and pictures of one at most.
CPU_PIXELS, CPU_MOST = 128 * 128, 16
ACCELERATOR_PIXELS, ACCELERATOR_MOST = 64 * 256 * 256, 256

Progress = Callable[[int, int], None]


class Draw(NamedTuple):
    """Which noise a picture is drawn from.

    Attributes:
      seed: 0 to 2**32 - 1.
      text: a number of the text, so that texts differ in their noise; 0: the same for all.
      number: of the picture among those of the seed and text, from 0.
    """

    seed: int
    text: int
    number: int


class Features(NamedTuple):
    """What a model knows of one text: `embed`'s pytree, NumPy arrays (1, ...)."""

    tree: PyTree

    def towards(self, other: Features, weight: float) -> Features:
        """Between two texts: (1 - weight) * this + weight * other; masks are joined."""
        if weight in (0.0, 1.0):
            return other if weight else self

        def mix(a, b):
            if a.dtype == bool:
                return a | b
            return ((1 - weight) * a + weight * b).astype(a.dtype)

        return Features(jax.tree.map(mix, self.tree, other.tree))


def text_number(prompt: Prompt) -> int:
    """A number of the prompt's words, for `Draw`: the same for capitals and other spaces."""
    return zlib.crc32(" ".join(prompt.words).encode())


def check_draws(seed: int, first: int, count: int, truncation: float) -> None:
    """Raises UserError unless there are such pictures."""
    if not 0 <= seed < 2**32:
        raise UserError(f"the seed must be from 0 to 4294967295, not {seed}")
    if count < 1:
        raise UserError(f"at least 1 picture can be drawn, not {count}")
    if first < 0 or first + count > 2**32:
        raise UserError(f"pictures of a seed are numbered from 0 to 4294967295, not {first}")
    if not 0 < truncation <= 1:
        raise UserError(f"the truncation must be above 0 and at most 1, not {truncation:g}")


def default_batch(size: int) -> int:
    """Pictures of side `size` to draw at a time; depends on nothing else but the platform."""
    cpu = jax.default_backend() == "cpu"
    pixels, most = (CPU_PIXELS, CPU_MOST) if cpu else (ACCELERATOR_PIXELS, ACCELERATOR_MOST)
    return min(most, max(1, pixels // size**2))


def embed(verb: Generate, nets: Mapping[str, Any], prompt: Prompt) -> Features:
    """The features of one text."""
    tree = _embed_program(verb)(nets, prompt.tokens[None], prompt.mask[None])
    return Features(jax.tree.map(np.asarray, tree))


def noise(verb: Generate, one: Draw, truncation: float = 1.0) -> np.ndarray:
    """z of a picture, float32 (*noise).

    Args:
      truncation: 1: N(0, I). Below: truncation * (the normal cut off at 2 on either side), as in
        BigGAN; DF-GAN's published figures are at 0.88. Each number stays on its side of zero and
        in its order, so that a picture becomes more usual and not another one.
    """
    program = _noise_program(verb.noise)
    return np.asarray(program(np.array(one, np.uint32), np.float32(truncation)))


def sample(key: jax.Array, shape: tuple[int, ...], truncation: jax.Array | float) -> jax.Array:
    """Noise of one key, float32; the truncation is `noise`'s and may be traced."""
    cut = truncation * jax.random.truncated_normal(key, -CUT, CUT, shape)
    return jnp.where(truncation < 1, cut, jax.random.normal(key, shape))


def draw(
    verb: Generate,
    nets: Mapping[str, Any],
    rows: Iterable[tuple[Features, np.ndarray]],
    count: int,
    batch: int | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, ...]]]:
    """Draws one picture after the other.

    Args:
      nets: variables of the verb's nets, on the device.
      rows: (text, z (*noise)) of each picture; taken as they are needed.
      count: of the pictures.
      batch: pictures at a time; None: `default_batch`.
      progress: called as progress(pictures done, pictures in all).

    Yields: (picture uint8 (size, size, 3), its masks, each (h, w) float32 in [0, 1]).

    Raises:
      UserError: the batch is below 1, or does not fit in memory.
    """
    batch = default_batch(verb.size) if batch is None else batch
    if batch < 1:
        raise UserError(f"the batch must be at least 1, not {batch}")
    program = _draw_program(verb)
    waiting, done = iter(rows), 0
    while part := list(itertools.islice(waiting, batch)):
        filled = part + part[-1:] * (batch - len(part))
        trees = [features.tree for features, _ in filled]
        features = jax.tree.map(lambda *leaves: np.concatenate(leaves), *trees)
        try:
            results = program(nets, features, np.stack([z for _, z in filled]))
            pictures, masks = jax.tree.map(np.asarray, results)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) and "Out of memory" not in str(error):
                raise
            raise UserError(
                f"{batch} pictures at a time do not fit in the device's memory: give a smaller "
                "batch"
            ) from None
        done += len(part)
        for i in range(len(part)):
            yield pictures[i], tuple(mask[i] for mask in masks)
        if progress:
            progress(done, count)


def weights_between(steps: int) -> list[float]:
    """0 to 1 in `steps` equal steps, both ends included.

    Raises:
      UserError: fewer than two.
    """
    if steps < 2:
        raise UserError(f"a way between two pictures has at least 2 steps, not {steps}")
    return [i / (steps - 1) for i in range(steps)]


def between_noises(start: np.ndarray, end: np.ndarray, weight: float) -> np.ndarray:
    """Spherical interpolation (White 2016): z on the way is as long as the ends, as z mostly is."""
    if weight in (0.0, 1.0):
        return end if weight else start
    a, b = start.astype(np.float64).ravel(), end.astype(np.float64).ravel()
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    angle = np.arccos(np.clip(a @ b / lengths, -1, 1)) if lengths else 0.0
    if np.sin(angle) < 1e-6:  # on one line: straight ahead
        mixed = (1 - weight) * a + weight * b
    else:
        mixed = (np.sin((1 - weight) * angle) * a + np.sin(weight * angle) * b) / np.sin(angle)
    return mixed.reshape(start.shape).astype(np.float32)


@functools.lru_cache(maxsize=16)
def _embed_program(verb: Generate) -> Callable[..., Any]:
    return jax.jit(verb.embed)


@functools.lru_cache(maxsize=16)
def _draw_program(verb: Generate) -> Callable[..., Any]:
    @jax.jit
    def program(nets, features, z):
        pictures, masks = verb.draw(nets, features, z)
        levels = jnp.clip(jnp.round((pictures + 1.0) * 127.5), 0, 255)
        return levels.astype(jnp.uint8), tuple(mask.astype(jnp.float32) for mask in masks)

    return program


@functools.lru_cache(maxsize=16)
def _noise_program(shape: tuple[int, ...]) -> Callable[..., Any]:
    """(seed, text, number) uint32 (3,), truncation -> z of `shape`."""

    @jax.jit
    def program(numbers, truncation):
        key = jax.random.key(numbers[0])
        key = jax.random.fold_in(jax.random.fold_in(key, numbers[1]), numbers[2])
        return sample(key, shape, truncation)

    return program
