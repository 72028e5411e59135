"""Averages of weights over training: decays of warm-up, and lengths that are chosen afterwards.

An average's length cannot be tuned in training: each would need a run. Karras et al. 2024
("Analyzing and Improving the Training Dynamics of Diffusion Models", section 3 and appendix C)
weight the weights of step tau by tau^gamma, which has a length in proportion to training so far;
snapshots of two such averages then give any other by least squares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgen.errors import UserError

PyTree = Any
# Of the two averages that a run keeps, as published: their relative widths.
WIDTHS = (0.05, 0.10)


class Profile(NamedTuple):
    """Weights tau^gamma of the steps tau up to `step`."""

    step: float
    gamma: float


def ramp(updates: Any) -> Any:
    """(1 + n) / (10 + n): the decay that n updates allow, so that the random start is forgotten."""
    return (1.0 + updates) / (10.0 + updates)


def power_ramp(updates: Any, power: float = 2 / 3) -> Any:
    """1 - (1 + n)^-power: 0.999 after 31,622 updates by 2/3, 0.9999 after a million."""
    return 1 - (1.0 + updates) ** -power


def gamma_of(width: float) -> float:
    """The exponent of a relative width: the profile's standard deviation over training's length.

    0.05 is 16.97, 0.10 is 6.94; the larger gamma, the shorter the average (equation 6).

    Raises: UserError: a width that no exponent above 0 has.
    """
    most = 12**-0.5  # of all steps alike, gamma 0
    if not 0 < width < most:
        raise UserError(f"an average's relative width is above 0 and below {most:.3f}, not {width}")
    # (g + 2)^2 (g + 3) width^2 = g + 1
    square = width**-2
    roots = np.roots([1, 7, 16 - square, 12 - square])
    return float(roots[np.isreal(roots)].real.max())


def power_decay(updates: Any, gamma: float) -> Any:
    """The decay of update n = 1, 2, ... that makes the running average one by tau^gamma.

    (1 - 1/n)^(gamma + 1), equation 5: 0 at the first, so the start is not part of it.
    """
    return (1 - 1 / updates) ** (gamma + 1)


def inner(a: Profile, b: Profile) -> float:
    """Integral of the product of two profiles, each of area 1 (appendix C, equation 18)."""
    early, late = (a, b) if a.step <= b.step else (b, a)
    both = early.gamma + late.gamma + 1
    area = (early.gamma + 1) * (late.gamma + 1) / (both * late.step)
    return area * (early.step / late.step) ** late.gamma


def reconstruct(snapshots: Sequence[Profile], wanted: Profile) -> np.ndarray:
    """(n,) float64 factors of the snapshots whose sum comes nearest to another average.

    Least squares between the weights that each gives to each step, with factors of sum 1 (which
    the paper does not ask for): what training left alone stays as it is. Snapshots that were taken
    after `wanted.step` serve as well.

    Raises: UserError: no snapshots.
    """
    if not snapshots:
        raise UserError("no snapshots of averages to reconstruct one from")
    products = np.array([[inner(a, b) for b in snapshots] for a in snapshots])
    right = np.array([inner(a, wanted) for a in snapshots])
    ones = np.ones((len(snapshots), 1))
    system = np.block([[products, ones], [ones.T, np.zeros((1, 1))]])
    return np.linalg.lstsq(system, np.append(right, 1.0), rcond=1e-12)[0][:-1]


def combine(trees: Sequence[Mapping[str, Any]], factors: np.ndarray) -> PyTree:
    """Sum of trees of NumPy arrays times their factors; in float64, as the factors cancel."""
    first = trees[0]
    if isinstance(first, Mapping):
        return {k: combine([tree[k] for tree in trees], factors) for k in first}
    total = sum(np.asarray(x, np.float64) * f for x, f in zip(trees, factors, strict=True))
    return np.asarray(total).astype(np.asarray(first).dtype)
