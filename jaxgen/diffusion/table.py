"""A sampler as a table: every solver is linear in what it has seen, so a call is one matrix.

A call of the net gives `out`. The next x, and what the solver keeps of it (its memory: earlier
predictions, an earlier x), are sums of x, out, fresh noise and the memory with known factors. So
solvers are written on the host with unit vectors in place of arrays, in float64, and read as their
formulas do; what travels to the device is the matrix of factors for each call, and all samplers
there are the same loop (`sampling.py`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np

Array = np.ndarray | jax.Array
PAD = 64  # calls: tables are filled up to a multiple, so that few numbers of steps compile anew


@dataclasses.dataclass(frozen=True)
class Symbols:
    """What a call's results are sums of: unit vectors."""

    x: np.ndarray
    out: np.ndarray
    noise: np.ndarray
    memory: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, memory: int) -> Symbols:
        x, out, noise, *kept = np.eye(3 + memory)
        return cls(x, out, noise, tuple(kept))


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of the net: its time, x after it, the new memory, the x0 it says, x's new level."""

    time: float
    x: np.ndarray
    memory: tuple[np.ndarray, ...]
    x0: np.ndarray
    level: tuple[float, float]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["calls", "times", "factors", "x0", "levels", "pure", "start"],
    meta_fields=["sampler", "memory", "noisy"],
)
@dataclasses.dataclass(frozen=True)
class Plan:
    """A sampler's calls for one schedule and number of steps; a pytree, traced but for its kind.

    Attributes:
      calls: int32, how many rows count; the others are filling.
      times: (rows,) what the net is told, in the schedule's steps.
      factors: (rows, 1 + memory, 3 + memory) of x, out, noise, memory for the new x and memory.
      x0: (rows, 2) factors of x and out for the picture that the net has in mind.
      levels: (rows, 2) alpha and sigma of x after each call; 1, 0 after the last.
      pure: factor of the first noise where there is no source.
      start: (2,) alpha and sigma of a source and noise to start from.
      sampler, memory, noisy: its name; arrays kept from call to call; does it draw noise.
    """

    calls: Array
    times: Array
    factors: Array
    x0: Array
    levels: Array
    pure: Array
    start: Array
    sampler: str
    memory: int
    noisy: bool

    @classmethod
    def of(
        cls, sampler: str, calls: Sequence[Call], start: tuple[float, float], pure: float
    ) -> Plan:
        memory = len(calls[0].memory)
        factors = [np.stack([c.x, *c.memory]) for c in calls]
        levels = [c.level for c in calls[:-1]] + [(1.0, 0.0)]
        return cls(
            calls=np.asarray(len(calls), np.int32),
            times=_filled([c.time for c in calls]),
            factors=_filled(factors),
            x0=_filled([c.x0[:2] for c in calls]),
            levels=_filled(levels),
            pure=np.asarray(pure, np.float32),
            start=np.asarray(start, np.float32),
            sampler=sampler,
            memory=memory,
            noisy=bool(np.any(np.asarray(factors)[:, :, 2])),
        )


def _filled(rows: Sequence) -> np.ndarray:
    """float32, with zeros up to a multiple of PAD rows."""
    array = np.asarray(rows, np.float64).astype(np.float32)
    return np.pad(array, [(0, -len(array) % PAD), *[(0, 0)] * (array.ndim - 1)])
