"""What a way from a picture to its noise gives."""

from __future__ import annotations

from typing import NamedTuple

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
    """

    noise: jax.Array
    path: jax.Array | None = None
    unasked: Asked | None = None

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
