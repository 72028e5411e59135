"""Diversity of several pictures of one caption: the alarm for collapse.

A generator that ignores its noise draws one picture for each caption, which no distance between
whole sets tells apart from a good one where captions are many. The pairwise distance over z falls
to zero then.
"""

from __future__ import annotations

import numpy as np

from jaxgen.errors import UserError


def pixel_diversity(pictures: np.ndarray) -> float:
    """Mean over all pairs of the root mean square difference of pixels, in [0, 1].

    Args: pictures: uint8 (m, h, w, 3) of one caption, m >= 2.
    """
    if pictures.dtype != np.uint8:
        raise UserError(f"diversity is of uint8 pictures, not {pictures.dtype}")
    flat = pictures.reshape(len(pictures), -1).astype(np.float64) / 255.0
    return feature_diversity(flat) / float(np.sqrt(flat.shape[1]))


def feature_diversity(features: np.ndarray) -> float:
    """Mean over all pairs of the Euclidean distance of features (m, d) of one caption, m >= 2."""
    if len(features) < 2:
        raise UserError("diversity needs two pictures of a caption or more")
    x = features.reshape(len(features), -1).astype(np.float64)
    # Differences themselves, not norms minus products: equal pictures give exactly 0.
    pairs = [np.linalg.norm(x[i] - x[i + 1 :], axis=1) for i in range(len(x) - 1)]
    return float(np.concatenate(pairs).mean())
