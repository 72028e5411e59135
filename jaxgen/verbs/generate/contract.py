"""The verb `generate` as a text-to-image family offers it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.data.text.prompt import Prompt
from jaxgen.task import Nets, PyTree
from jaxgen.verbs import Option
from jaxgen.verbs.generate.stepwise import Stepwise, levels

# Normal noise is cut off here where it is truncated (BigGAN, Brock et al. 2019, section 3.1).
CUT = 2.0
TRUNCATION = Option(
    1.0, "1: noise as in training; less: nearer to the mean, more usual, less varied", above=0.0,
    most=1.0,
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Generate:
    """Pictures of a text, each a function of the nets, the text and its noise alone.

    size: side of the pictures in pixels; of `sized` ones, of a square as large.
    noise: shape of one picture's z, drawn from N(0, I), or truncated by the option "truncation".
    read: text -> Prompt.
    embed: (nets, tokens (b, t) int32, mask (b, t) bool) -> the texts' features, a pytree of arrays
      (b, ...) that may be interpolated.
    draw: (nets, features, z (b, *noise) float32, given) -> (pictures (b, size, size, 3) float32 in
      [-1, 1], masks: a tuple of (b, h, w) float32 in [0, 1] to be shown beside them, empty for
      most families). A picture depends on its own row and `given` alone. Pure, jit-able.
    options: that a user may set, see `jaxgen.verbs.Option`.
    give: every option's value -> `given`, traced; None: `given` is None.
    numbers: key -> z, where a family's noise is of another kind than `noise` says, such as a key of
      its own; there is no way between two such. None: normal noise.
    sized: (height, width) -> the same verb for pictures (b, height, width, 3); raises UserError for
      a size that cannot be. None: there is one size alone.
    begin: (every option's value, picture uint8 (h, w, 3) of any size, mask (h, w) bool or uint8 of
      the same or None; see `begin.fit`) -> `given` of drawings that begin with a picture and, where
      there is a mask, differ from it only where that is bright; raises UserError for what cannot
      be. None: the model draws from noise alone.
    stepwise: the same drawing in parts, which is then what is done. None: it has no parts.
    """

    nets: tuple[str, ...]
    size: int
    noise: tuple[int, ...]
    read: Callable[[str], Prompt]
    embed: Callable[[Nets, jax.Array, jax.Array], PyTree]
    draw: Callable[[Nets, PyTree, jax.Array, PyTree], tuple[jax.Array, tuple[jax.Array, ...]]]
    options: Mapping[str, Option] = dataclasses.field(default_factory=dict)
    give: Callable[[Mapping[str, Any]], PyTree] | None = None
    numbers: Callable[[jax.Array], jax.Array] | None = None
    sized: Callable[[int, int], Generate] | None = None
    begin: Callable[[Mapping[str, Any], np.ndarray, np.ndarray | None], PyTree] | None = None
    stepwise: Stepwise | None = None

    def facts(self) -> dict[str, Any]:
        """See `jaxgen.verbs.Verb`."""
        return {"size": self.size}

    def says(self) -> str:
        """See `jaxgen.verbs.Verb`."""
        return f"Text to image, {self.size} x {self.size} pixels"

    def example(self, name: str, prompt: str) -> tuple[str, str]:
        """See `jaxgen.verbs.Verb`."""
        return (
            f'pictures = model.generate("{prompt}", n=8)  # uint8 (8, {self.size}, {self.size}, 3)',
            f'jaxgen generate "{prompt}" --model {name} -n 8 --seed 1 -o out.png',
        )

    def trace(self, nets: Nets) -> tuple[tuple[int, ...], ...]:
        """See `jaxgen.verbs.Verb`.

        Returns: (height, width) of each mask that is given beside a picture.
        """
        length = self.read("").tokens.shape[0]
        given = self.default()

        def one(nets, tokens, mask, z):
            return self.draw(nets, self.embed(nets, tokens, mask), z, given)

        _, masks = jax.eval_shape(
            one,
            nets,
            jax.ShapeDtypeStruct((1, length), np.int32),
            jax.ShapeDtypeStruct((1, length), np.bool_),
            jax.eval_shape(lambda: self.sample(jax.random.key(0), 1.0)[None]),
        )
        return tuple(tuple(mask.shape[1:]) for mask in masks)

    def default(self) -> PyTree:
        """`given` where nobody sets an option."""
        settings = {key: option.default for key, option in self.options.items()}
        return self.give(settings) if self.give else None

    def sample(self, key: jax.Array, truncation: jax.Array | float) -> jax.Array:
        """One picture's z."""
        if self.numbers is not None:
            return self.numbers(key)
        return sample(key, self.noise, truncation)

    @functools.cached_property
    def embed_program(self) -> Callable[..., PyTree]:
        """`embed`, jitted."""
        return jax.jit(self.embed)

    @functools.cached_property
    def draw_program(self) -> Callable[..., Any]:
        """`draw`, jitted, with uint8 pictures."""

        @jax.jit
        def program(nets, features, z, given):
            pictures, masks = self.draw(nets, features, z, given)
            return levels(pictures), tuple(mask.astype(jnp.float32) for mask in masks)

        return program

    @functools.cached_property
    def noise_program(self) -> Callable[[np.ndarray, np.float32], jax.Array]:
        """Jitted (seed, text, number) uint32 (3,), truncation -> z."""

        @jax.jit
        def program(numbers, truncation):
            key = jax.random.key(numbers[0])
            key = jax.random.fold_in(jax.random.fold_in(key, numbers[1]), numbers[2])
            return self.sample(key, truncation)

        return program


def sample(key: jax.Array, shape: tuple[int, ...], truncation: jax.Array | float) -> jax.Array:
    """Noise of one key, float32.

    Args:
      truncation: 1: N(0, I). Below: truncation * (the normal cut off at 2 on either side), as in
        BigGAN; DF-GAN's published figures are at 0.88. Each number stays on its side of zero and
        in its order, so that a picture becomes more usual and not another one. May be traced.
    """
    cut = truncation * jax.random.truncated_normal(key, -CUT, CUT, shape)
    return jnp.where(truncation < 1, cut, jax.random.normal(key, shape))
