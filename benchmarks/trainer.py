"""The trainer's own compiled step of a config, without a run around it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxgen import heap
from jaxgen.task import Due
from jaxgen.train import mesh as meshes
from jaxgen.train.compiled import compile_step
from jaxgen.train.family import load_task
from jaxgen.train.loop import fresh_state
from jaxgen.train.state import make_optimizers


class Step:
    """A training step that is ready to run on one device.

    Args:
      batch: what the data would give.
      unused: entries of a batch that only the networks' initial values ask for.
      at: number of the step, which decides the phases.

    Attributes:
      state: of the nets; each call replaces it.
      facts: seconds of the compilation, temporary bytes, the device.
    """

    def __init__(
        self,
        config: ConfigDict,
        batch: Mapping[str, np.ndarray],
        unused: Mapping[str, np.ndarray] | None = None,
        at: int = 0,
    ):
        heap.keep_freed_memory()
        task = load_task(config)
        optimizers = make_optimizers(task, config)
        mesh = meshes.make_mesh(config.mesh, jax.devices()[:1])
        entries = {**batch, **(unused or {})}
        shapes = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in entries.items()}
        self.state = fresh_state(task, optimizers, config, mesh, shapes)
        self._batch = meshes.put_batch(batch, mesh)
        self._frozen = jax.device_put(task.frozen, meshes.replicated(mesh))
        begin = time.perf_counter()
        self._step = compile_step(
            task, optimizers, config, Due.at(task.phases, at), self.state, self._batch,
            self._frozen, mesh,
        )  # fmt: skip
        self.facts: dict[str, Any] = {
            "compile_s": time.perf_counter() - begin,
            "temporary_bytes": self._step.call.memory_analysis().temp_size_in_bytes,
            "device": str(jax.devices()[0]),
        }
        self._tally = self._step.empty_tally()

    def __call__(self) -> None:
        """One step, waited for; its losses and gradients must be finite."""
        self.state, self._tally, _ = self._step(self.state, self._tally, self._batch, self._frozen)
        jax.block_until_ready(self.state)
        assert all(int(step) < 0 for step in self._tally.bad.values()), self._tally.bad
