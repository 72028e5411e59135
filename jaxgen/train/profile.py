"""A profiler window: the steps `start .. start + count` as a trace for XProf/TensorBoard."""

from __future__ import annotations

import contextlib
from pathlib import Path

import jax

from jaxgen.log import log


class Profiler:
    """Traces a window of steps on process 0; a `start` of 0 traces nothing."""

    def __init__(self, folder: Path, start: int, count: int):
        wanted = start > 0 and jax.process_index() == 0
        self.folder, self.window = folder, range(start, start + count) if wanted else range(0)
        self.running = False

    @contextlib.contextmanager
    def step(self, step: int):
        """Wraps one step; begins and ends the trace at the window's borders."""
        if step not in self.window:
            self.close()
            yield
            return
        if not self.running:
            jax.profiler.start_trace(str(self.folder))
            self.running = True
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            yield

    def close(self) -> None:
        """Ends the trace if one runs."""
        if self.running:
            jax.effects_barrier()
            jax.profiler.stop_trace()
            self.running = False
            log.info("profile written to %s", self.folder)
