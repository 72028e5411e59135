"""Drawing pictures of texts: which noise each picture gets, batches, and the ways between two.

A picture is a function of the model, its text and its `Draw` alone. To keep it so to the last bit,
texts are read one by one and pictures are drawn in batches of one size, the last one filled up: how
many pictures are asked for, and of what other texts, changes nothing. Another batch size is
another program, whose sums round differently: at most one level of 255.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgen import devices
from jaxgen.data.text.prompt import Prompt
from jaxgen.errors import UserError, shown
from jaxgen.task import Nets, PyTree
from jaxgen.verbs.generate.contract import Generate
from jaxgen.verbs.generate.stepwise import Watch
from jaxgen.verbs.memory import LIVE, SMALLER, check_batch, check_holds

# Pixels of a batch on a CPU, whose caches more would leave, and pictures of one at most.
CPU_PIXELS, CPU_MOST = 128 * 128, 16
ACCELERATOR_PIXELS, ACCELERATOR_MOST = 64 * 256 * 256, 256
LARGE = 2**28  # bytes of pictures at a time, from which their noise may not fit either

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

    def shapes(self) -> list[tuple[int, ...]]:
        """Of its arrays."""
        return [x.shape for x in jax.tree.leaves(self.tree)]

    def towards(self, other: Features, weight: float) -> Features:
        """Between two texts: (1 - weight) * this + weight * other; masks are joined."""
        if weight in (0.0, 1.0):
            return other if weight else self
        if self.shapes() != other.shapes():
            raise UserError(
                "there is no way between a text that is read at once and one that is read in "
                "parts: make them alike in length"
            )

        def mix(a, b):
            if a.dtype == bool:
                return a | b
            return ((1 - weight) * a + weight * b).astype(a.dtype)

        return Features(jax.tree.map(mix, self.tree, other.tree))


def text_number(prompt: Prompt) -> int:
    """A number of the prompt's words, for `Draw`: the same for capitals and other spaces."""
    return zlib.crc32(" ".join(prompt.words).encode())


def check_draws(seed: int, first: int, count: int) -> None:
    """Raises UserError unless there are such pictures."""
    if not 0 <= seed < 2**32:
        raise UserError(f"the seed must be from 0 to 4294967295, not {shown(seed)}")
    if count < 1:
        raise UserError(f"at least 1 picture can be drawn, not {shown(count)}")
    if first < 0 or first + count > 2**32:
        asked = shown(first) if count == 1 else f"{shown(first)} and so on, {shown(count)} of them"
        raise UserError(f"pictures of a seed are numbered from 0 to 4294967295, not {asked}")


def default_batch(size: int) -> int:
    """Pictures of side `size` to draw at a time; depends on nothing else but the platform."""
    cpu = jax.default_backend() == "cpu"
    pixels, most = (CPU_PIXELS, CPU_MOST) if cpu else (ACCELERATOR_PIXELS, ACCELERATOR_MOST)
    return min(most, max(1, pixels // size**2))


def embed(verb: Generate, nets: Nets, prompt: Prompt) -> Features:
    """The features of one text."""
    tree = verb.embed_program(nets, prompt.tokens[None], prompt.mask[None])
    return Features(jax.tree.map(np.asarray, tree))


def noise(verb: Generate, one: Draw, truncation: float = 1.0) -> np.ndarray:
    """z of a picture, float32 (*noise); the truncation as for `contract.sample`."""
    numbers = np.array(one, np.uint32)
    return np.asarray(verb.noise_program(numbers, np.float32(truncation)))


def draw(
    verb: Generate,
    nets: Nets,
    rows: Iterable[tuple[Features, np.ndarray]],
    count: int,
    given: PyTree = None,
    batch: int | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, ...]]]:
    """Draws one picture after the other.

    Args:
      nets: variables of the verb's nets, on the device.
      rows: (text, z (*noise)) of each picture; taken as they are needed.
      count: of the pictures.
      given: what `verb.give` made of the options.
      batch: pictures per device at a time; None: `default_batch`.
      progress: called as progress(pictures done, pictures in all).
      watch: of a verb that draws in parts, who looks on; its batches are without what fills them.

    Yields: (picture uint8 (size, size, 3), its masks, each (h, w) float32 in [0, 1]).

    Raises:
      UserError: the batch is below 1, or does not fit in memory.
    """
    batch = check_batch(default_batch(verb.size) if batch is None else batch)
    used = devices.usable()
    size = batch * len(used)

    def room(largest: float) -> None:
        check_holds(largest / len(used), _size_of(verb, batch))

    # Not even the noise and the pictures may fit: this is known before they are made.
    room(4.0 * size * max(math.prod(verb.noise), 3 * verb.size**2))
    done = 0
    for part in _parts(rows, size):
        filled = part + part[-1:] * (size - len(part))
        trees = [features.tree for features, _ in filled]
        features = jax.tree.map(lambda *leaves: np.concatenate(leaves), *trees)
        try:
            noises = np.stack([z for _, z in filled])
            placed, z = devices.split((features, noises), used)
            pictures, masks = _pictures(verb, nets, placed, z, given, _of(watch, len(part)), room)
        except jax.errors.JaxRuntimeError as error:
            if not devices.out_of_memory(error):
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


def check_large(verb: Generate, nets: Nets, prompt: Prompt, given: PyTree, batch: int) -> None:
    """Raises UserError where pictures are so large that the net does not hold them.

    By shapes alone, since the noise of such pictures may take all memory already; smaller ones are
    looked at when they are drawn, which traces nothing twice.
    """
    if 12 * batch * verb.size**2 < LARGE:
        return
    one = jax.eval_shape(lambda: verb.sample(jax.random.key(0), 1.0))
    features = jax.eval_shape(verb.embed, nets, prompt.tokens[None], prompt.mask[None])
    features, z = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((batch, *a.shape), a.dtype),
        (jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), features), one),
    )
    function = verb.draw if verb.stepwise is None else verb.stepwise.draw
    needed = LIVE * devices.largest_activation(function, nets, features, z, given)
    devices.check_room(needed, _size_of(verb, batch), SMALLER)


def _size_of(verb: Generate, batch: int) -> str:
    side = f"{verb.size} x {verb.size} pixels"
    return f"a picture of {side} needs" if batch == 1 else f"{batch} pictures of {side} need"


def _parts(
    rows: Iterable[tuple[Features, np.ndarray]], size: int
) -> Iterator[list[tuple[Features, np.ndarray]]]:
    """Rows in lists of at most `size`; texts of other lengths begin another."""
    part: list[tuple[Features, np.ndarray]] = []
    for row in rows:
        if part and (len(part) == size or row[0].shapes() != part[-1][0].shapes()):
            yield part
            part = []
        part.append(row)
    if part:
        yield part


def _pictures(
    verb: Generate,
    nets: Nets,
    features: PyTree,
    z: Any,
    given: PyTree,
    watch: Watch | None,
    room: Callable[[float], None],
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    if verb.stepwise is not None:
        return verb.stepwise.pictures(nets, features, z, given, watch, room), ()
    room(devices.largest_activation(verb.draw_program, nets, features, z, given))
    pictures, masks = verb.draw_program(nets, features, z, given)
    return np.asarray(pictures), tuple(np.asarray(mask) for mask in masks)


def _of(watch: Watch | None, count: int) -> Watch | None:
    """The same, which sees the first `count` pictures of a batch."""
    if watch is None:
        return None
    seen = watch.seen
    return watch._replace(seen=lambda done, calls, look: seen(done, calls, lambda: look()[:count]))


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
