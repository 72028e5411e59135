"""Averages of weights over training: decays of warm-up, and lengths that are chosen afterwards.

An average's length cannot be tuned in training: each would need a run. Karras et al. 2024
("Analyzing and Improving the Training Dynamics of Diffusion Models", section 3 and appendix C)
weight the weights of step tau by tau^gamma, which has a length in proportion to training so far;
snapshots of two such averages then give any other by least squares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.errors import UserError
from jaxgen.weights import checkpoints
from jaxgen.weights.places import CHECKPOINTS

PyTree = Any
# Of the two averages that a run keeps, as published: their relative widths.
WIDTHS = (0.05, 0.10)
ITEM = "power_"  # before a net's name: its averages in a checkpoint


class Profile(NamedTuple):
    """Weights tau^gamma of the steps tau up to `step`."""

    step: float
    gamma: float


def ramp(updates: Any) -> Any:
    """(1 + n) / (10 + n): the decay that n updates allow, so that the random start is forgotten."""
    return (1.0 + updates) / (10.0 + updates)


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


def read_average(
    workdir: str | Path, width: float, step: int | None = None, nets: tuple[str, ...] | None = None
) -> tuple[dict[str, dict[str, Any]], int]:
    """Nets of a run averaged over a relative width, from the checkpoints that it kept.

    Args:
      width: of the average, as a share of training up to `step`; see `gamma_of`.
      step: where the average ends, one of the checkpoints'; None: the newest.
      nets: names of the nets; None: all. Those without averages are as at that step.

    Returns: as `jaxgen.weights.checkpoints.load_for_use`.

    Raises:
      UserError: the run kept no such averages, no such checkpoint, or one is damaged.
    """
    gamma = gamma_of(width)
    found, end = checkpoints.load_for_use(workdir, step, nets=nets)
    folders = [
        Path(workdir).absolute() / CHECKPOINTS / str(s) for s in checkpoints.complete_steps(workdir)
    ]
    averaged = {
        net: [f for f in folders if (f / f"{ITEM}{net}").is_dir()] for net in found
    }  # fmt: skip
    if not any(averaged.values()):
        raise UserError(
            f"{workdir} kept no averages to choose a length from: train with "
            "train.power_ema=True and train.keep_every"
        )
    for net, places in averaged.items():
        if not places:
            continue
        profiles = [Profile(int(f.name), gamma_of(w)) for f in places for w in WIDTHS]
        factors = reconstruct(profiles, Profile(end, gamma)).reshape(len(places), len(WIDTHS))
        total: PyTree = None
        for folder, row in zip(places, factors, strict=True):
            (tree,) = checkpoints.read_items(folder, [f"{ITEM}{net}"])
            for factor, width_ in zip(row, WIDTHS, strict=True):
                total = _added(total, tree[name_of(width_)], factor)
        found[net] = _as(total, found[net])
    return found, end


def name_of(width: float) -> str:
    """A kept average's name in a state and in its checkpoints."""
    return f"width_{width:.2f}"


def _added(total: PyTree, tree: PyTree, factor: float) -> PyTree:
    """total + factor tree, in float64: the factors' sum is 1, and their sizes are not."""
    if isinstance(tree, Mapping):
        return {k: _added(total and total[k], v, factor) for k, v in tree.items()}
    more = np.asarray(tree, np.float64) * factor
    return more if total is None else total + more


def _as(tree: PyTree, like: PyTree) -> PyTree:
    if isinstance(tree, Mapping):
        return {k: _as(v, like[k]) for k, v in tree.items()}
    return np.asarray(tree).astype(like.dtype)
