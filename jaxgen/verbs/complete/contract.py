"""The verb `complete` as a prior offers it: the beginning of a picture is kept, the rest drawn."""

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


@dataclasses.dataclass(frozen=True, eq=False)
class Complete:
    """Pictures whose cells are kept in part, each a function of the picture and its key alone.

    factor: pixels per cell along each axis. grid: cells of the smallest picture.
    cells: (height, width) in pixels -> the cells that such a picture gets, (rows, columns) rounded
      down; raises UserError for a size that cannot be.
    read: text -> Prompt; of a prior without texts any text is the same.
    embed: (nets, tokens (b, t) int32, mask (b, t) bool) -> the texts' features, a pytree.
    draw: (nets, features, pictures (b, h, w, 3) float32 in [-1, 1], keep (h/factor, w/factor) bool,
      keys (b, 2) uint32, given) -> pictures (b, h, w, 3) float32, about [-1, 1]. Pure, jit-able.
    options: that a user may set, see `jaxgen.verbs.Option`.
    give: every option's value -> `given`, traced.
    """

    nets: tuple[str, ...]
    factor: int
    grid: tuple[int, int]
    cells: Callable[[int, int], tuple[int, int]]
    read: Callable[[str], Prompt]
    embed: Callable[[Nets, jax.Array, jax.Array], PyTree]
    draw: Callable[..., jax.Array]
    options: Mapping[str, Option]
    give: Callable[[Mapping[str, Any]], PyTree]

    def facts(self) -> dict[str, Any]:
        """See `jaxgen.verbs.Verb`."""
        return {"least": self.grid[0] * self.factor}

    def says(self) -> str:
        """See `jaxgen.verbs.Verb`."""
        return "Pictures completed from their beginning"

    def example(self, name: str, prompt: str) -> tuple[str, str]:
        """See `jaxgen.verbs.Verb`."""
        del prompt
        return (
            "pictures = model.complete(array, keep=0.5, n=4)",
            f"jaxgen complete photo.png --keep 0.5 --model {name} -o out.png",
        )

    def trace(self, nets: Nets) -> None:
        """See `jaxgen.verbs.Verb`."""
        prompt = self.read("")
        size = tuple(n * self.factor for n in self.grid)
        given = self.give({key: option.default for key, option in self.options.items()})

        def one(nets, picture, keys):
            tokens, mask = jnp.asarray(prompt.tokens), jnp.asarray(prompt.mask)
            features = self.embed(nets, tokens[None], mask[None])
            return self.draw(nets, features, picture, jnp.zeros(self.grid, bool), keys, given)

        jax.eval_shape(
            one,
            nets,
            jax.ShapeDtypeStruct((1, *size, 3), np.float32),
            jax.ShapeDtypeStruct((1, 2), np.uint32),
        )

    @functools.cached_property
    def embed_program(self) -> Callable[..., PyTree]:
        """`embed`, jitted."""
        return jax.jit(self.embed)

    @functools.cached_property
    def draw_program(self) -> Callable[..., jax.Array]:
        """`draw`, jitted, with uint8 pictures in and out and (seed, number) for each key."""

        def key_of(numbers):
            return jax.random.key_data(jax.random.fold_in(jax.random.key(numbers[0]), numbers[1]))

        @jax.jit
        def program(nets, features, pictures, keep, numbers, given):
            seen = pictures.astype(jnp.float32) / 127.5 - 1.0
            keys = jax.vmap(key_of)(numbers)
            drawn = self.draw(nets, features, seen, keep, keys, given)
            return jnp.clip(jnp.round((drawn + 1.0) * 127.5), 0, 255).astype(jnp.uint8)

        return program
