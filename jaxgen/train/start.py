"""What a run begins with: its folder, the initial state, and nets that others have trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxgen import config as configs
from jaxgen.errors import UserError
from jaxgen.log import log
from jaxgen.task import Task
from jaxgen.train import mesh as meshes
from jaxgen.train import writers
from jaxgen.train.optimizer import Optimizer
from jaxgen.train.state import TrainState, init_state, replace_nets
from jaxgen.weights import parts
from jaxgen.weights.nets import open_nets
from jaxgen.weights.places import CONFIG


def open_workdir(config: ConfigDict, workdir: Path) -> None:
    """Makes the run's folder and notes the config and the environment in it.

    Raises:
      UserError: it can't be written, or has a run of a config that computes something else.
    """
    if ":/" in str(workdir):
        raise UserError(f"--workdir={workdir} is an address; mount the bucket and give its folder")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"can't make {workdir}: {error.strerror}; choose another --workdir"
        ) from None
    saved = workdir / CONFIG
    if saved.exists():
        before = configs.from_json(saved)
        changed = configs.differences(before, config)
        if changed:
            raise UserError(
                f"{workdir} was trained with another config ({'; '.join(changed)}); "
                "use the same values to resume it, or another --workdir"
            )
        if new := configs.added(before, config):
            log.info(f"the run began without the config keys {', '.join(new)}, which are new")
    if jax.process_index() == 0:
        writers.write_text(saved, configs.to_json(config))
        about = json.dumps(writers.environment(), indent=2) + "\n"
        writers.write_text(workdir / "environment.json", about)


def keep_parts(made_of: Mapping[str, parts.Part], workdir: Path) -> None:
    """Copies the run's parts into its folder, by the first host while the others wait.

    Raises:
      UserError: the folder can't be written.
    """
    if jax.process_index() == 0:
        parts.keep(made_of, workdir)
    if made_of and jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("parts are copied")


def fresh_state(
    task: Task,
    optimizers: Mapping[str, Optimizer],
    config: ConfigDict,
    mesh: Mesh,
    batch_shapes: Mapping[str, Any],
) -> TrainState:
    """The initial state, made on the devices where it stays.

    Args:
      batch_shapes: of the global batch, key by key; anything with `shape` and `dtype`.
    """

    def init():
        zeros = {k: jnp.zeros(s.shape, s.dtype) for k, s in batch_shapes.items()}
        return init_state(task, optimizers, config.train.seed, zeros)

    shardings = meshes.state_shardings(jax.eval_shape(init), mesh, config.mesh)
    # It runs once: on CPUs, LLVM's optimisation takes 20 s for what then runs in milliseconds.
    options: dict[str, str | bool] | None
    options = {"xla_backend_optimization_level": "0"} if jax.default_backend() == "cpu" else None
    with jax.disable_jit(False):
        return jax.jit(init, out_shardings=shardings).lower().compile(options)()


def init_from(state: TrainState, config: ConfigDict, mesh: Mesh) -> TrainState:
    """`state` with the nets that `train.init_from` takes from other runs or weights files.

    Raises:
      UserError: a source that is not there, lacks the net, or has another network.
    """
    nets: dict[str, Any] = {}
    for net, source in config.train.init_from.items():
        if not source:
            continue
        try:
            nets[net] = open_nets(source, (net,)).nets[net]
        except UserError as error:
            raise UserError(f"train.init_from.{net}: {error}") from None
        log.info("net %s starts from %s", net, source)
    if not nets:
        return state
    shardings = meshes.state_shardings(state, mesh, config.mesh)
    return jax.device_put(replace_nets(state, nets), shardings)


def log_sizes(state: TrainState) -> None:
    """Says each net's parameters, in all and on each device."""
    for net, params in state.params.items():
        leaves = jax.tree.leaves(params)
        count = sum(x.size for x in leaves)
        held = sum(np.prod(x.sharding.shard_shape(x.shape)) for x in leaves)
        log.info("net %s: %d parameters, %d on each device", net, count, held)
