"""A picture to begin a drawing with, and a mask of where to draw, fitted to the drawing's size."""

from __future__ import annotations

import numpy as np
from PIL import Image

from jaxgen.diffusion.masks import read_mask
from jaxgen.errors import UserError
from jaxgen.log import log


def fit(
    picture: np.ndarray, mask: np.ndarray | None, height: int, width: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """The middle of a picture and of its mask, resized to (height, width) and said where it is.

    Args: picture: uint8 (h, w, 3). mask: (h, w) or (h, w, c) of the same size, bool or uint8,
      bright where to draw; None.

    Returns: (uint8 (height, width, 3), bool (height, width) or None). A pixel of the mask is True
      where any that it is made of is bright.

    Raises:
      UserError: no such picture, or a mask of another size, or one that selects nothing.
    """
    found = fitted(picture, mask, height, width)
    h, w = np.shape(picture)[:2]
    if (h, w) != (height, width):
        log.warning(
            "the picture of %d x %d is fitted to %d x %d, what is drawn", h, w, height, width
        )
    return found


def fitted(
    picture: np.ndarray, mask: np.ndarray | None, height: int, width: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """`fit`, unsaid."""
    picture = np.asarray(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise UserError(
            f"a picture to begin with is uint8 (h, w, 3), not {picture.dtype} {picture.shape}"
        )
    h, w = picture.shape[:2]
    where = None if mask is None else read_mask(np.asarray(mask), h, w)
    if (h, w) == (height, width):
        return picture, where
    # The largest part in the middle with the sides' ratio of what is drawn.
    rows, columns = min(h, max(1, w * height // width)), min(w, max(1, h * width // height))
    top, left = (h - rows) // 2, (w - columns) // 2
    part = np.s_[top : top + rows, left : left + columns]
    size = (width, height)
    resized = np.asarray(Image.fromarray(picture[part]).resize(size, Image.Resampling.LANCZOS))
    if where is None:
        return resized, None
    share = Image.fromarray(where[part].astype(np.float32)).resize(size, Image.Resampling.BOX)
    return resized, read_mask(np.asarray(share) > 0, height, width)
