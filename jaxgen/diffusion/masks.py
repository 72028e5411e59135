"""Inpainting and outpainting: masks and canvases, on the host."""

from __future__ import annotations

import numpy as np

from jaxgen.errors import UserError


def read_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """(height, width) bool, True where to draw anew: any channel of the mask is bright there.

    Args:
      mask: (h, w) or (h, w, c) uint8, or bool (h, w).

    Raises: UserError: a mask of another size, or one that selects nothing.
    """
    if mask.shape[:2] != (height, width):
        raise UserError(
            f"the mask is {mask.shape[1]}x{mask.shape[0]}, the picture {width}x{height}: "
            "make them the same size"
        )
    bright = mask.reshape(height, width, -1) > (0 if mask.dtype == bool else 127)
    if not bright.any():
        raise UserError("the mask selects nothing: paint white what is to be drawn anew")
    return np.asarray(bright.any(axis=-1))


def canvas(
    picture: np.ndarray, left: int, top: int, right: int, bottom: int
) -> tuple[np.ndarray, np.ndarray]:
    """A larger picture to outpaint and its mask: (h, w, c) with its borders drawn out, (h, w) bool.

    Raises: UserError: nothing is added, or a negative margin.
    """
    margins = (left, top, right, bottom)
    if min(margins) < 0 or not any(margins):
        raise UserError(f"outpainting adds pixels at some side, not {margins}")
    sides = ((top, bottom), (left, right))
    mask = np.pad(np.zeros(picture.shape[:2], bool), sides, constant_values=True)
    return np.pad(picture, (*sides, (0, 0)), mode="edge"), mask
