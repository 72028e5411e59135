"""Fréchet distance between Gaussians fitted to two sets of features; float64, on the host.

|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) (Dowson and Landau 1982; Heusel et al. 2017). Named FID
only where the features are Inception's (`jaxgen.encoders.inception`).

The usual code takes the square root of S1 S2, which is not symmetric, by a Schur decomposition and
drops imaginary parts. Here the trace is that of a symmetric matrix's root, or a nuclear norm where
there are fewer pictures than dimensions and the covariances are singular.
"""

from __future__ import annotations

import numpy as np

from jaxgen.errors import UserError
from jaxgen.metrics.statistics import Statistics


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Distance of two sets: by their features where one has few of them, else by their moments.

    Raises:
      UserError: features of different lengths.
    """
    x, y = a.features, b.features
    if x is not None and y is not None and 2 <= min(len(x), len(y)) <= len(a.mean):
        return frechet_of_features(x, y)
    return frechet_of_moments(a.mean, a.covariance, b.mean, b.covariance)


def frechet_of_moments(
    mean_a: np.ndarray, covariance_a: np.ndarray, mean_b: np.ndarray, covariance_b: np.ndarray
) -> float:
    """By the eigenvalues of S1^(1/2) S2 S1^(1/2), which has those of S1 S2 and is symmetric.

    Rounding makes some eigenvalues of a singular matrix negative: they count as zero.

    Args: means (d,) and covariances (d, d).
    """
    _check(len(mean_a), len(mean_b))
    first, second = (np.asarray(c, np.float64) for c in (covariance_a, covariance_b))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    product = root @ second @ root
    values = np.linalg.eigvalsh((product + product.T) / 2)
    cross = np.sqrt(np.maximum(values, 0.0)).sum()
    apart = np.square(np.subtract(mean_a, mean_b, dtype=np.float64)).sum()
    return float(apart + np.trace(first) + np.trace(second) - 2.0 * cross)


def frechet_of_features(a: np.ndarray, b: np.ndarray) -> float:
    """The same of features (n, d) and (m, d), without any d x d matrix: exact for n or m <= d.

    With centred A and B, tr (S1 S2)^(1/2) is the sum of the singular values of A B^T / root of
    (n - 1)(m - 1).
    """
    _check(a.shape[1], b.shape[1])
    if min(len(a), len(b)) < 2:
        raise UserError("a Fréchet distance needs two pictures or more on both sides")
    means = [x.mean(axis=0, dtype=np.float64) for x in (a, b)]
    a, b = (x.astype(np.float64) - m for x, m in zip((a, b), means, strict=True))
    scale = np.sqrt((len(a) - 1.0) * (len(b) - 1.0))
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum() / scale
    spread = np.square(a).sum() / (len(a) - 1) + np.square(b).sum() / (len(b) - 1)
    return float(np.square(means[0] - means[1]).sum() + spread - 2.0 * cross)


def _check(one: int, other: int) -> None:
    if one != other:
        raise UserError(f"features of {one} and of {other} numbers: two networks made them")
