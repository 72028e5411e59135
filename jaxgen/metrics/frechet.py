"""Fréchet distance between Gaussians fitted to two sets of features; float64, on the host.

|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) (Dowson and Landau 1982; Heusel et al. 2017). Named FID
only where the features are Inception's (`jaxgen.encoders.inception`).

The usual code takes the square root of S1 S2, which is not symmetric, by a Schur decomposition and
drops imaginary parts. Here the trace is that of a symmetric matrix's root, or a nuclear norm where
there are fewer pictures than dimensions and the covariances are singular. A distance is never below
zero.
"""

from __future__ import annotations

import numpy as np

from jaxgen.errors import UserError
from jaxgen.metrics.statistics import Statistics


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Distance of two sets, 0 or more: by their features where these are few, else by moments.

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
    """By the eigenvalues of R^T S2 R, where S1 = R R^T: those of S1 S2, of a symmetric matrix.

    R has a column for each eigenvalue of S1 that is more than rounding, S1 being the covariance of
    the lower rank: the roots of a singular matrix's rounding errors would add up to more than they.

    Args: means (d,) and covariances (d, d).
    """
    _check(len(mean_a), len(mean_b))
    first, second = (np.asarray(c, np.float64) for c in (covariance_a, covariance_b))
    root, other = _root(first), _root(second)
    product = root.T @ second @ root
    if other.shape[1] < root.shape[1]:
        product = other.T @ first @ other
    values = np.linalg.eigvalsh((product + product.T) / 2)
    cross = np.sqrt(np.maximum(values, 0.0)).sum()
    apart = np.square(np.subtract(mean_a, mean_b, dtype=np.float64)).sum()
    return max(0.0, float(apart + np.trace(first) + np.trace(second) - 2.0 * cross))


def _root(covariance: np.ndarray) -> np.ndarray:
    """(d, rank): its product with its transpose is the covariance."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    return vectors[:, kept] * np.sqrt(values[kept])


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
    return max(0.0, float(np.square(means[0] - means[1]).sum() + spread - 2.0 * cross))


def _check(one: int, other: int) -> None:
    if one != other:
        raise UserError(f"features of {one} and of {other} numbers: two networks made them")
