"""Improved precision and recall (Kynkäänniemi et al. 2019): how much of one set the other covers.

A set's manifold is the union of balls around its features, each as large as the distance to the
k-th nearest other one of the set.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jaxgen.errors import UserError

NEIGHBOURS = 3
_BLOCK = 2048


def precision_recall(
    generated: np.ndarray, reference: np.ndarray, k: int = NEIGHBOURS
) -> tuple[float, float]:
    """Precision: share of `generated` (n, d) in the manifold of `reference` (m, d); recall:
    the share of `reference` in that of `generated`. A point on a ball's surface is in it.

    float64 and in blocks: memory grows with n + m, time with their product. Equal numbers of both
    make numbers comparable; papers use 50,000 each.

    Raises:
      UserError: a set has k features or fewer.
    """
    if min(len(generated), len(reference)) <= k:
        raise UserError(f"precision and recall need more than {k} pictures on both sides")
    a, b = np.asarray(generated, np.float64), np.asarray(reference, np.float64)
    return _covered(a, b, _radii(b, k)), _covered(b, a, _radii(a, k))


def _radii(x: np.ndarray, k: int) -> np.ndarray:
    """Squared distance to the k-th nearest other point, (n,)."""
    parts = [np.partition(square, k, axis=1)[:, k] for square in _squares(x, x)]
    return np.concatenate(parts)


def _covered(points: np.ndarray, centres: np.ndarray, radii: np.ndarray) -> float:
    inside = [(square <= radii[None]).any(axis=1) for square in _squares(points, centres)]
    return float(np.concatenate(inside).mean())


def _squares(x: np.ndarray, y: np.ndarray) -> Iterator[np.ndarray]:
    """Squared distances (block, m), block after block of x's rows."""
    y_norm = np.square(y).sum(axis=1)
    for start in range(0, len(x), _BLOCK):
        part = x[start : start + _BLOCK]
        sizes = np.square(part).sum(axis=1)[:, None] + y_norm[None]
        square = sizes - 2.0 * (part @ y.T)
        # The difference of large numbers: what is left of equal points is rounding, of any sign.
        yield np.where(square <= 1e-12 * sizes, 0.0, square)
