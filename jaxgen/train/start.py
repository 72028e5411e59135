"""What a run begins with: its folder, its parts, the initial state, and nets of other runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxgen import config as configs
from jaxgen import devices
from jaxgen.errors import UserError
from jaxgen.log import log
from jaxgen.task import Task
from jaxgen.train import mesh as meshes
from jaxgen.train import writers
from jaxgen.train.family import completed, wanted_parts
from jaxgen.train.optimizer import Optimizer
from jaxgen.train.state import TrainState, init_state, replace_nets, variables
from jaxgen.weights import parts
from jaxgen.weights.checkpoints import complete_steps
from jaxgen.weights.places import CONFIG


def open_workdir(config: ConfigDict, workdir: Path) -> None:
    """Makes the run's folder, and checks that a run which is there is of this config.

    Writes nothing in it: see `note_config`. A folder without a checkpoint takes any config.

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
    if not complete_steps(workdir) or not saved.exists():
        return
    before = configs.from_json(saved)
    if "family" not in before:
        raise UserError(
            f"{saved} is no config of a run: put it back as it was, or use another --workdir"
        )
    # Keys that either may lack count as their defaults.
    before, now = completed(before, config), completed(config, config)
    changed = configs.differences(before, now)
    if changed:
        raise UserError(
            f"{workdir} was trained with another config ({'; '.join(changed)}); "
            "use the same values to resume it, or another --workdir"
        )
    if new := configs.added(before, config):
        log.info(f"the run began without the config keys {', '.join(new)}, which are new")


def note_config(config: ConfigDict, workdir: Path) -> None:
    """Writes the config and the environment into the run's folder; the run is sure to begin.

    Raises:
      UserError: they can't be written.
    """
    if jax.process_index() == 0:
        writers.write_text(workdir / CONFIG, configs.to_json(config))
        about = json.dumps(writers.environment(), indent=2) + "\n"
        writers.write_text(workdir / "environment.json", about)


def find_parts(config: ConfigDict, workdir: str | Path) -> dict[str, parts.Part]:
    """The parts of a run that begins or goes on: its own copies, else what `config.parts` names.

    Writes nothing; see `keep_parts`.

    Raises:
      UserError: a part that the family does not take, or needs and is not named; a source that is
        not there, lacks a net or is of another family; a copy that was altered, or is gone from a
        run that has begun.
    """
    wanted = wanted_parts(config)
    sources = {name: source for name, source in config.get("parts", {}).items() if source}
    if unknown := sorted(sources.keys() - wanted.keys()):
        known = f"it takes {', '.join(wanted)}" if wanted else "it takes none"
        raise UserError(f"the family {config.family} takes no part {unknown[0]!r}; {known}")
    found = {}
    for name, want in wanted.items():
        if name not in sources:
            if want.needed:
                raise UserError(
                    f"the family {config.family} needs a trained model as parts.{name}: give it a "
                    "run, an exported folder, a bundled model's name or a weights file"
                )
            continue
        begun = bool(complete_steps(workdir))
        # A folder without a checkpoint begins anew, from what the config names now.
        part = parts.read(workdir, name) if begun else None
        if part is None and begun:
            raise UserError(
                f"the run in {workdir} has checkpoints and no copy of its part in parts/{name}: "
                "put that folder back, or use a new --workdir"
            )
        found[name] = part or parts.take(name, sources[name], want)
        parts.check_kind(name, found[name], want)
        want.trains(found[name])
    return found


def keep_parts(config: ConfigDict, made_of: Mapping[str, parts.Part], workdir: Path) -> None:
    """Copies the run's parts into its folder, by the first host while the others wait.

    Of those that are there it is logged if their source holds something else by now.

    Raises:
      UserError: the folder can't be written.
    """
    if not made_of:
        return
    if jax.process_index() == 0:
        new = parts.keep(made_of, workdir, anew=not complete_steps(workdir))
        for name, part in made_of.items():
            kind = part.family or "weights"
            log.info("part %s: %s at step %d, of %s", name, kind, part.step, part.source)
            if name not in new:
                _compare(name, part, wanted_parts(config)[name])
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("parts are copied")


def _compare(name: str, part: parts.Part, want: parts.Wanted) -> None:
    """Logs it where the source has changed; a source that is gone is as good."""
    try:
        now = parts.take(name, part.source, want._replace(nets=tuple(part.nets)))
    except UserError:
        return
    if now.fingerprint != part.fingerprint:
        log.info(
            "part %s: %s has changed since (step %d, then %d); the run goes on with its own copy",
            name, part.source, now.step, part.step,
        )  # fmt: skip


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

    @jax.jit  # traced once, for the shapes and for the program around it
    def init():
        zeros = {k: jnp.zeros(s.shape, s.dtype) for k, s in batch_shapes.items()}
        power = config.train.get("power_ema", False)  # configs of earlier versions lack it
        return init_state(task, optimizers, config.train.seed, zeros, power)

    shapes = jax.eval_shape(init)
    shardings = meshes.state_shardings(shapes, mesh, config.mesh)
    devices.check_room(
        _bytes_on_one(shapes, shardings),
        "the networks with optimizers and averages need",
        "set smaller model.generator and model.discriminator, or share them by mesh.fsdp",
        count=len(mesh.local_devices),
    )
    # It runs once: on CPUs, LLVM's optimisation takes 20 s for what then runs in milliseconds.
    options: dict[str, str | bool] | None
    options = {"xla_backend_optimization_level": "0"} if jax.default_backend() == "cpu" else None
    with jax.disable_jit(False):
        return jax.jit(init, out_shardings=shardings).lower().compile(options)()


def _bytes_on_one(shapes: Any, shardings: Any) -> float:
    """Of the state on each device, and of the gradients of all nets at once."""

    def size(tree, places):
        pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(places), strict=True)
        return sum(math.prod(place.shard_shape(x.shape)) * x.dtype.itemsize for x, place in pairs)

    return size(shapes, shardings) + size(shapes.params, shardings.params)


def init_from(state: TrainState, task: Task, config: ConfigDict, mesh: Mesh) -> TrainState:
    """`state` with the nets that the task and `train.init_from` take from what others trained.

    Raises:
      UserError: a source that is not there, lacks the net, or has another network.
    """
    nets = dict(task.begin(variables(state, averaged=False))) if task.begin else {}
    for net, source in config.train.init_from.items():
        if not source:
            continue
        try:
            nets[net] = parts.open_whole(source, (net,)).nets[net]
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
