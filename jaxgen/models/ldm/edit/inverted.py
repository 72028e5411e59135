"""What a way from a picture to its noise gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.models.ldm.edit.editing import Asked


class Inverted(NamedTuple):
    """What an inversion found of pictures x0 (b, ...).

    Attributes:
      noise: (b, ...), from which the plan's steps begin.
      path: (rows, b, ...): where the source shall be after each of the plan's steps; None: wherever
        the steps bring it.
      unasked: what guidance leads away from in each step, arrays (rows, b, ...); None: as asked.
      noises: (rows, b, ...) of each step, where the plan draws them.
    """

    noise: jax.Array
    path: jax.Array | None = None
    unasked: Asked | None = None
    noises: jax.Array | None = None

    def each(self) -> dict[str, Any]:
        """By field, what is not None, the pictures' axis first in all arrays."""
        rest = {name: x for name, x in self._asdict().items() if name != "noise" and x is not None}
        return {"noise": self.noise, **jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), rest)}

    @classmethod
    def of_each(cls, found: Mapping[str, Any]) -> Inverted:
        """The inverse of `each`."""
        rest = {name: x for name, x in found.items() if name != "noise"}
        return cls(found["noise"], **jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1), rest))

    def held(self, i: jax.Array, x: jax.Array) -> jax.Array:
        """x (b, r, ...) after the step i, its first rows, the sources', where they shall be."""
        return x if self.path is None else x.at[:, 0].set(self.path[i])

    def away_from(self, i: jax.Array, rows: int, unasked: Asked | None) -> Asked | None:
        """What guidance leads away from in the step i, arrays (b * rows, ...); None without.

        Args: unasked: that of all steps.
        """
        if unasked is None or self.unasked is None:
            return unasked
        return jax.tree.map(lambda a: jnp.repeat(a[i], rows, axis=0), self.unasked)
