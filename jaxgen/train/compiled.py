"""Compiling the step ahead of time, with its cost in the log."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxgen import devices
from jaxgen.task import Due, Task
from jaxgen.train import mesh as meshes
from jaxgen.train.optimizer import Optimizer
from jaxgen.train.state import TrainState
from jaxgen.train.step import Tally, make_step

_SMALLER = "set a smaller train.batch_size, crop or size, or a larger train.accumulate"


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """(state, tally, batch, frozen) -> (state, tally, tick), state and tally donated.

    `tick` is a scalar that is ready when the step is. flops: of one step over all devices, as XLA
    counts them. summary: a line for the log.
    """

    call: Callable[..., tuple[TrainState, Tally, jax.Array]]
    empty_tally: Callable[[], Tally]
    flops: float
    summary: str

    def __call__(self, state, tally, batch, frozen):
        return self.call(state, tally, batch, frozen)


def compile_step(
    task: Task,
    optimizers: Mapping[str, Optimizer],
    config: ConfigDict,
    due: Due,
    state: TrainState,
    batch: Mapping[str, jax.Array],
    frozen: Any,
    mesh: Mesh,
    *,
    debug: bool = False,
) -> CompiledStep:
    """Compiles the step of what is due for these shapes and shardings."""
    # Jitted for itself, it is traced once, for the tally's shapes and for the program around it.
    step = jax.jit(make_step(task, optimizers, config, due))
    began = time.monotonic()
    shapes = jax.eval_shape(step, state, batch, frozen)[1]
    everywhere = meshes.replicated(mesh)

    def empty_tally() -> Tally:
        return jax.device_put(Tally.zeros(shapes), everywhere)

    def counted(state, tally, batch, frozen):
        state, part = step(state, batch, frozen)
        # A buffer of its own: the state's step counter is donated to the next call.
        return state, tally.add(part), state.step + 0

    names = " + ".join(f"lazy {n}" if n in due.lazy else n for n in due.phases) or "no phase"
    if debug:
        return CompiledStep(counted, empty_tally, 0.0, f"step of {names}: not compiled (--debug)")
    jitted = jax.jit(
        counted,
        donate_argnums=(0, 1),
        out_shardings=(
            jax.tree.map(lambda x: x.sharding, state),
            jax.tree.map(lambda _: everywhere, shapes),
            everywhere,
        ),
    )
    program = jitted.trace(state, empty_tally(), batch, frozen)
    needs, here = f"a step of {names} needs", len(mesh.local_devices)
    largest = devices.largest_array(program.jaxpr.jaxpr) / mesh.size
    devices.check_room(largest, f"one array of {needs}", _SMALLER, here)
    lowered = program.lower()
    traced = time.monotonic()
    compiled = lowered.compile()
    done = time.monotonic()
    devices.check_program(compiled, needs, _SMALLER, here)
    flops = _flops(compiled) * mesh.size
    size = " x ".join(map(str, max(jax.tree.leaves(batch), key=lambda x: x.size).shape))
    summary = (
        f"step of {names}, {size}: traced in {traced - began:.1f} s, "
        f"compiled in {done - traced:.1f} s, {flops / 1e9:.1f} GFLOP{_memory(compiled)}"
    )
    return CompiledStep(compiled, empty_tally, flops, summary)


def _flops(compiled: Any) -> float:
    """FLOPs of one device's program; 0 where the backend does not say."""
    cost = compiled.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    return max(float((cost or {}).get("flops", 0.0)), 0.0)


def _memory(compiled: Any) -> str:
    found = compiled.memory_analysis()
    if found is None:
        return ""
    kept = (found.argument_size_in_bytes - found.alias_size_in_bytes) / 2**20
    state = found.alias_size_in_bytes / 2**20
    scratch = found.temp_size_in_bytes / 2**20
    return f", per device {state:.0f} MiB state + {kept:.0f} MiB inputs + {scratch:.0f} MiB scratch"
