"""This host's devices: what they hold, spreading a batch over them, loops on CPUs."""

from __future__ import annotations

import contextlib
import contextvars
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxgen import cache, heap
from jaxgen.errors import UserError

# On a CPU activations share the memory with the results: an upscaled 12-megapixel photo is 576 MB,
# and twice that while the PNG is written.
CPU_BUDGET = 5 << 29
# Programs that a CPU runs at the same time: more would leave each too little of the memory.
MOST_WORKERS = 4
# Cores that one program keeps busy where there are two: so many, one more for so many pixels, the
# most. Measured were 1.42 of 256 x 256, 1.69 of 368 x 368, 1.80 of 416 x 416, 1.9 of 512 x 512.
BUSY_FEW, BUSY_PIXELS, BUSY_MOST = 1.3, 420_000, 1.9
# What compiling and running a small program takes beside the arrays.
PROGRAM = 256 << 20
# Of an accelerator whose backend keeps no statistics.
UNKNOWN_BUDGET = 4 << 30


def usable() -> list[Any]:
    """All of this host's accelerators; of CPU devices the first one, which has all cores."""
    return jax.local_devices()[: 1 if jax.default_backend() == "cpu" else None]


def replicate(tree: Any, devices: Sequence[Any]) -> Any:
    """`tree` on each of the devices, whole."""
    return jax.device_put(tree, NamedSharding(mesh(devices), P()))


def split(tree: Any, devices: Sequence[Any]) -> Any:
    """Arrays with their first axis, a multiple of the number of devices, cut over these."""
    return jax.device_put(tree, NamedSharding(mesh(devices), P("batch")))


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
            size = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(self._nets[net]))
            check_room(
                size + PROGRAM,
                f"the net '{net}' and a program for it need",
                "end other programs, or take a smaller model",
            )
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
        return min(CPU_BUDGET, _available() / 2) / heap.holes() / len(jax.local_devices())
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


def busy_cores(programs: int, pixels: int) -> float:
    """How many cores so many programs at the same time keep busy, each over so many pixels."""
    alone = min(BUSY_MOST, BUSY_FEW + pixels / BUSY_PIXELS)
    return min(cores(), alone * programs)


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def out_of_memory(error: Exception) -> bool:
    """Whether an error of JAX says that a device's memory did not suffice."""
    return "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)


def largest_activation(function: Callable[..., Any], *shapes: Any) -> int:
    """Bytes of the largest picture-like array (four axes or more) that a function computes.

    Args: shapes: of its arguments, pytrees of `jax.ShapeDtypeStruct`, or the arguments themselves:
      a jitted function is not traced again when it is called with them.
    """
    return largest_array(jax.make_jaxpr(function)(*shapes).jaxpr)


def largest_array(jaxpr: Any) -> int:
    """Bytes of the largest picture-like array of a traced program, over all devices."""
    return max(_sizes(jaxpr), default=0)


def _sizes(jaxpr: Any) -> Iterator[int]:
    """Bytes of each picture-like intermediate, those of nested programs included."""
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            shape = getattr(variable.aval, "shape", ())
            if len(shape) >= 4:
                yield math.prod(shape) * variable.aval.dtype.itemsize
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _sizes(inner)


def held(function: Callable[[Any], Any], given: Any) -> int:
    """Bytes that a function keeps from its forward pass for the gradient by its one argument, with
    what it closes over; nothing is computed.
    """
    kept = jax.eval_shape(lambda given: jax.vjp(function, given)[1], given)
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))


def check_room(needed: float, what: str, hint: str, count: int = 1) -> None:
    """Before minutes of compiling: refuses what this host's first device can't hold.

    A machine that runs out of memory is stopped by the system, or swaps for hours, without a word.

    Args:
      needed: bytes on each device. what: has the verb, "the network needs". hint: what to change.
      count: of this host's devices that hold as much; those of a CPU share its memory.

    Raises:
      UserError: with what is needed and what there is.
    """
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        needed, there = needed * count, _available()
    else:
        stats = device.memory_stats() or {}
        there = stats.get("bytes_limit", math.inf) - stats.get("bytes_in_use", 0)
    if needed > there:
        raise UserError(
            f"{what} {_size(needed)} of memory, and {_size(max(there, 0))} are free; {hint}"
        )


def check_program(compiled: Any, what: str, hint: str, count: int = 1) -> None:
    """Before it runs: refuses a compiled program whose temporary memory this host can't hold.

    Args and Raises: as `check_room`. A backend that doesn't tell is not asked.
    """
    if needs := compiled.memory_analysis():
        check_room(needs.temp_size_in_bytes, what, hint, count)


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.0f} MB"


def _available() -> float:
    """Bytes of main memory that this process may still use: of the machine, its container (cgroup
    2) and `ulimit -v`, and what it has freed and kept; where the system tells nothing, enough for
    the budget.
    """
    found = []
    with contextlib.suppress(OSError, KeyError, ValueError, IndexError):
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        found.append(int(fields["MemAvailable"].split()[0]) * 1024)
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        most = int((group / "memory.max").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # The kernel gives back what files alone take before it stops a process.
        used = int((group / "memory.current").read_text()) - int(stat.get("inactive_file", 0))
        found.append(most - used)
    with contextlib.suppress(ImportError, OSError, ValueError, IndexError):
        import resource  # not on Windows

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            found.append(most - pages * resource.getpagesize())
    return float(min(found, default=2.0 * CPU_BUDGET)) + heap.kept()


def mesh(devices: Sequence[Any]) -> Mesh:
    """The devices along one axis, "batch"."""
    return Mesh(np.array(devices), ("batch",), axis_types=(AxisType.Auto,))


_in_loop: contextvars.ContextVar[bool] = contextvars.ContextVar("in_loop", default=False)


@contextlib.contextmanager
def in_loop() -> Iterator[None]:
    """While what a `lax.scan` or `while_loop` computes of gradients of weights is traced.

    In a loop's body XLA's CPU backend computes a kernel's gradient as nested scalar loops, 25 to 85
    times more slowly than elsewhere. Matrix products and other convolutions are as fast there as
    anywhere: in it the gradients of narrow layers go by products, too, as those of wide ones do
    everywhere (`jaxgen.nn.cpu.gradients`).
    """
    before = _in_loop.set(True)
    try:
        yield
    finally:
        _in_loop.reset(before)


def looping() -> bool:
    """Whether what is traced now is within `in_loop`."""
    return _in_loop.get()
