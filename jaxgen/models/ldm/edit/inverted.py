"""What a way from a picture to its noise gives."""

from __future__ import annotations

from typing import NamedTuple

import jax

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
