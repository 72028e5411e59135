"""Recall of retrieval: whether what is right stands among the nearest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def recall(likeness: np.ndarray, right: np.ndarray, ks: Sequence[int]) -> dict[int, float]:
    """Recall at each k: the share of queries with a right answer among their k nearest.

    Of equal likeness the lower index comes first.

    Args:
      likeness: (queries, gallery); larger is nearer.
      right: bool, of the same shape; queries without a right answer count as missed.

    Returns: {k: share in [0, 1]}; k above the gallery's size counts all of it.
    """
    order = np.argsort(-likeness, axis=1, kind="stable")
    hits = np.take_along_axis(right, order, axis=1)
    return {k: float(hits[:, :k].any(axis=1).mean()) for k in ks}
