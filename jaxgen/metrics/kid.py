"""Kernel Inception Distance (Bińkowski et al. 2018): squared MMD with a cubic kernel, unbiased.

The estimate has no bias in the number of pictures (Fréchet's has), so it suits small sets; it may
be below zero for sets that are equal. Named KID only where the features are Inception's.
"""

from __future__ import annotations

import numpy as np

from jaxgen.errors import UserError

SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 2020
_BLOCK = 4096


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """The estimate from all features, (n, d) and (m, d): n, m >= 2; float64, in blocks.

    Kernel (x.y / d + 1)^3; means over x != x' within a set, over all pairs between the sets.
    """
    if min(len(a), len(b)) < 2:
        raise UserError("a kernel distance needs two pictures or more on both sides")
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    n, m = len(a), len(b)
    within = _sum_without_diagonal(a) / (n * (n - 1)) + _sum_without_diagonal(b) / (m * (m - 1))
    return float(within - 2.0 * _kernel_sum(a, b) / (n * m))


def kernel_distance_of_subsets(
    a: np.ndarray,
    b: np.ndarray,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = SEED,
) -> tuple[float, float]:
    """Mean and standard deviation of the estimate over random subsets, as papers report it.

    The defaults are torch-fidelity's, and so are the subsets: the same generator in the same order,
    a's before b's. A set with fewer than `subset_size` features is taken whole.

    Args:
      a, b: generated and reference features, (n, d) and (m, d).
      subset_size: at most that of the smaller set.
    """
    size = min(subset_size, len(a), len(b))
    rng = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        first = a[rng.choice(len(a), size, replace=False)]
        values.append(kernel_distance(first, b[rng.choice(len(b), size, replace=False)]))
    return float(np.mean(values)), float(np.std(values))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def _kernel_sum(x: np.ndarray, y: np.ndarray) -> float:
    return sum(
        float(_kernel(x[i : i + _BLOCK], y[j : j + _BLOCK]).sum())
        for i in range(0, len(x), _BLOCK)
        for j in range(0, len(y), _BLOCK)
    )


def _sum_without_diagonal(x: np.ndarray) -> float:
    diagonal = (np.square(x).sum(axis=1) / x.shape[1] + 1.0) ** 3
    return _kernel_sum(x, x) - float(diagonal.sum())
