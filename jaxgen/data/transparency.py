"""Colour under transparent pixels, which nobody sees and a network does."""

from __future__ import annotations

import numpy as np


def spread_colours(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Gives each wholly transparent pixel the colour of the nearest other one.

    What a file has there is arbitrary, often black: enlarged, it would bleed into the edge of what
    is seen.

    Args:
      rgb: (h, w, 3), alpha: (h, w); both are left as they are.

    Returns: (h, w, 3) of rgb's type; rgb itself where there is nothing to do.
    """
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return rgb
    # Imported late: SciPy's image package takes as long to load as a small picture to be enlarged.
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(
        hidden, return_distances=False, return_indices=True
    )  # (2, h, w)
    return rgb[rows, columns]
