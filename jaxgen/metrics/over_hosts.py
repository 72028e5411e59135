"""Means of what several hosts measured, each on its share of the records."""

from __future__ import annotations

import jax
import numpy as np


def mean_over_hosts(totals: dict[str, float], count: int) -> dict[str, float]:
    """Means over all hosts' records; {} if there are none.

    Args:
      totals: this host's sums by name; the first host has all names.
      count: this host's records.
    """
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        # The first host has a record if any has, and so knows the names; it tells the others.
        text = np.zeros(4096, np.uint8)
        names = "\n".join(totals).encode()
        text[: len(names)] = np.frombuffer(names, np.uint8)
        text = np.asarray(multihost_utils.broadcast_one_to_all(text))
        keys = bytes(text).rstrip(b"\0").decode().split("\n")
        mine = np.array([*(totals.get(k, 0.0) for k in keys), count], np.float64)
        # In two float32 parts: JAX has no float64 unless its x64 mode is on.
        high = mine.astype(np.float32)
        parts = np.stack([high, (mine - high).astype(np.float32)])
        summed = np.asarray(multihost_utils.process_allgather(parts), np.float64).sum((0, 1))
        totals = dict(zip(keys, summed[:-1], strict=True))
        count = round(summed[-1])
    return {k: v / count for k, v in totals.items()} if count else {}


def sum_over_hosts(counts: np.ndarray) -> np.ndarray:
    """The sum of all hosts' whole numbers, which are below 2**31; int64, of the same shape."""
    counts = counts.astype(np.int64)
    if jax.process_count() == 1:
        return counts
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(counts.astype(np.int32)), np.int64).sum(0)
