"""This host's devices: what they hold, and spreading a batch over them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxgen import cache

# On a CPU activations share the memory with the results: an upscaled 12-megapixel photo is 576 MB,
# and twice that while the PNG is written.
CPU_BUDGET = 5 << 29
# Programs that a CPU runs at the same time: more would leave each too little of the memory.
MOST_WORKERS = 4
# Cores that one program keeps busy where there are two: 1.5 to 1.85, more for larger windows. The
# most is taken, so that overlaps are computed twice only where that surely pays.
BUSY_ALONE = 1.85
# Of an accelerator whose backend keeps no statistics.
UNKNOWN_BUDGET = 4 << 30


def usable() -> list[Any]:
    """All of this host's accelerators; of CPU devices the first one, which has all cores."""
    return jax.local_devices()[: 1 if jax.default_backend() == "cpu" else None]


def replicate(tree: Any, devices: Sequence[Any]) -> Any:
    """`tree` on each of the devices, whole."""
    return jax.device_put(tree, NamedSharding(_mesh(devices), P()))


def split(tree: Any, devices: Sequence[Any]) -> Any:
    """Arrays with their first axis, a multiple of the number of devices, cut over these."""
    return jax.device_put(tree, NamedSharding(_mesh(devices), P("batch")))


class Placed(Mapping[str, Any]):
    """Nets by name, each put on the devices when it is first asked for.

    A model's verbs share one of these, and with it the copies.

    Args:
      nets: {"g": {"params": ...}}, NumPy arrays or others.
    """

    def __init__(self, nets: Mapping[str, Any]):
        self._nets = nets
        self._placed: dict[str, Any] = {}

    def __getitem__(self, net: str) -> Any:
        if net not in self._placed:
            cache.enable()  # what is placed is about to be used
            self._placed[net] = replicate(self._nets[net], usable())
        return self._placed[net]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nets)

    def __len__(self) -> int:
        return len(self._nets)


def memory() -> float:
    """Bytes that one device may spend on activations."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return min(CPU_BUDGET, _available() / 2) / len(jax.local_devices())
    stats = device.memory_stats()
    if stats and stats.get("bytes_limit"):
        return 0.6 * (stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return UNKNOWN_BUDGET


def workers() -> int:
    """How many programs one device does well to run at the same time, at most.

    One on an accelerator, and on a CPU that was cut into several devices. Else one per core, which
    share `memory()`: XLA spreads a single program over the cores, but not all of it.
    """
    local = jax.local_devices()
    return min(MOST_WORKERS, cores()) if local[0].platform == "cpu" and len(local) == 1 else 1


def busy_cores(programs: int) -> float:
    """How many cores so many programs at the same time keep busy."""
    return min(cores(), BUSY_ALONE * programs)


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def out_of_memory(error: Exception) -> bool:
    """Whether an error of JAX says that a device's memory did not suffice."""
    return "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)


def _available() -> float:
    """Free main memory in bytes; where the system does not tell, enough for the budget."""
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 2.0 * CPU_BUDGET


def _mesh(devices: Sequence[Any]) -> Mesh:
    return Mesh(np.array(devices), ("batch",), axis_types=(AxisType.Auto,))
