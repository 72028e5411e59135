"""`train(config, workdir)`: mesh, data, state, steps, log, checkpoints, top to bottom.

The order within the loop is part of the contract (step, log, evaluate, save) and makes a resumed
run equal an uninterrupted one bit for bit: state, randomness and data position are functions of
the step alone.
"""

from __future__ import annotations

import dataclasses
import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxgen import cache
from jaxgen import config as configs
from jaxgen.data import pipeline
from jaxgen.errors import UserError
from jaxgen.log import log
from jaxgen.task import Due, Evaluation, Task
from jaxgen.train import mesh as meshes
from jaxgen.train import writers
from jaxgen.train.checkpoint import Checkpoints
from jaxgen.train.compiled import CompiledStep, compile_step
from jaxgen.train.family import load_task, resolve
from jaxgen.train.meter import Meter
from jaxgen.train.profile import Profiler
from jaxgen.train.signals import StopSignal
from jaxgen.train.state import (
    TrainState,
    init_state,
    make_optimizers,
    replace_nets,
    variables,
)
from jaxgen.train.step import Tally
from jaxgen.train.tally import read_tally
from jaxgen.weights.checkpoints import load_for_use
from jaxgen.weights.nets import open_nets
from jaxgen.weights.places import CONFIG

# How many steps the host may run ahead of the device: enough to never starve it, few enough that
# waiting batches don't fill its memory.
STEPS_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class Result:
    """step: of the final state. metrics: of the last evaluation. stopped: "done", "preempted"
    (SIGTERM or the cluster's notice), "interrupted" (Ctrl-C) or "pruned" (by `watch`); the state is
    saved in each case.
    """

    step: int
    metrics: Mapping[str, float]
    stopped: str = "done"


def train(
    config: ConfigDict,
    workdir: str | Path,
    *,
    debug: bool = False,
    devices: Sequence[jax.Device] | None = None,
    watch: Callable[[int, Mapping[str, float]], bool] | None = None,
) -> Result:
    """Trains what `config` says and leaves a Run in `workdir`; resumes if there is one.

    Args:
      config: see `jaxgen.config.base`; locked or not.
      workdir: made if absent.
      debug: no jit, no donation, and an error at the first NaN with the line that made it.
      devices: those to use; None: all.
      watch: gets the step and the metrics of each evaluation, and says whether to go on.

    Raises:
      UserError: a config, data, weights or disk problem that the user can mend.
      NonFiniteError: a loss or gradient is not finite and `train.max_skips` does not allow for it.
    """
    workdir = Path(workdir).absolute()
    configs.check(config)
    config = resolve(config)
    settings = config.train
    if folder := cache.enable(settings.compilation_cache and not debug):
        log.info("compiled programs are cached in %s", folder)
    if debug:
        jax.config.update("jax_disable_jit", True)
        jax.config.update("jax_debug_nans", True)

    # ---- mesh, task, data -----------------------------------------------------------------------
    mesh = meshes.make_mesh(config.mesh, devices)
    meshes.check_batch(mesh, settings.batch_size, settings.accumulate)
    task = load_task(config)
    optimizers = make_optimizers(task, config)
    _open_workdir(config, workdir)
    records, transform = task.train_data()
    stream_from = lambda step: pipeline.train_iterator(  # noqa: E731
        records,
        transform,
        batch_size=settings.batch_size,
        seed=settings.seed,
        start_step=step,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        workers=config.data.workers,
        threads=config.data.threads,
    )
    checkpoints = Checkpoints(workdir, keep=settings.keep, keep_every=settings.keep_every)

    # ---- state: fresh, from other runs, or restored ----------------------------------------------
    stream = stream_from(0)
    example = next(stream)
    pipeline.close(stream)
    batch_shapes = {
        k: jax.ShapeDtypeStruct((settings.batch_size, *v.shape[1:]), v.dtype)
        for k, v in example.items()
    }
    state = fresh_state(task, optimizers, config, mesh, batch_shapes)
    _log_sizes(state)
    restored = checkpoints.restore_latest(state)
    if restored is not None:
        state, start = restored
        log.info("resumed from checkpoint %d in %s", start, workdir)
    else:
        start = 0
        state = _init_from(state, settings.init_from, mesh, config)
    frozen = jax.device_put(task.frozen, meshes.replicated(mesh))
    writer = writers.Writer(workdir, start, settings.steps, tensorboard=settings.tensorboard)
    stream = stream_from(start)
    try:
        return _loop(
            task, optimizers, config, workdir, mesh, state, start, frozen,
            stream, checkpoints, writer, debug, watch,
        )  # fmt: skip
    finally:
        pipeline.close(stream)
        writer.close()


def _loop(
    task,
    optimizers,
    config,
    workdir,
    mesh,
    state,
    start,
    frozen,
    batches,
    checkpoints,
    writer,
    debug,
    watch,
) -> Result:
    settings = config.train
    phases = [p.name for p in task.phases]
    profiler = Profiler(workdir / "profile", settings.profile_start, settings.profile_steps)
    active: tuple[str, ...] | None = None  # phases in whose windows we are
    programs: dict[Due, CompiledStep] = {}  # of these phases
    tallies: dict[Due, Tally] = {}  # of the interval, one for each program that ran
    ahead: deque[jax.Array] = deque()
    pending: list[tuple[int, list[Tally]]] = []
    meter = Meter()
    metrics: Mapping[str, float] = {}
    stopped = "done"
    step = start

    def flush(upto: int = 0) -> None:
        """Fetches closed log intervals, all but the last `upto`; raises on non-finite numbers."""
        while len(pending) > upto:
            at, closed = pending.pop(0)
            values = read_tally(closed, phases, settings.max_skips, checkpoints)
            if values:
                writer.scalars(at, "train", {**values, **meter.read(at)})

    def close_interval() -> None:
        if meter.interval_steps:
            pending.append((step, list(tallies.values())))
            tallies.clear()
            meter.close_interval(step, settings.batch_size)

    with StopSignal() as stop:
        try:
            while step < settings.steps:
                # ---- one step -------------------------------------------------------------------
                now = tuple(p.name for p in task.phases if p.active(step))
                with meter.waiting():
                    batch = meshes.put_batch(next(batches), mesh)
                if now != active:
                    close_interval()
                    flush()
                    programs.clear()
                    active = now
                due = Due.at(task.phases, step)
                if due not in programs:
                    with meter.pause():
                        programs[due] = compile_step(
                            task, optimizers, config, due, state, batch, frozen, mesh, debug=debug
                        )
                        writer.say(programs[due].summary)
                step_fn = programs[due]
                if due not in tallies:
                    tallies[due] = step_fn.empty_tally()
                with profiler.step(step):
                    state, tallies[due], tick = step_fn(state, tallies[due], batch, frozen)
                step += 1
                meter.count(step_fn.flops)
                writer.tick()
                ahead.append(tick)
                if len(ahead) > STEPS_AHEAD:
                    jax.block_until_ready(ahead.popleft())

                # ---- log, one interval late -----------------------------------------------------
                if step % settings.log_every == 0:
                    close_interval()
                    flush(upto=1)

                # ---- evaluate, save, stop -------------------------------------------------------
                last = step == settings.steps
                evaluate = settings.eval_every >= 0 and (
                    last or (settings.eval_every > 0 and step % settings.eval_every == 0)
                )
                stopping = stop.asked() or checkpoints.reached_preemption(step)
                pruned = False
                save = last or stopping or step % settings.checkpoint_every == 0
                if not (evaluate or save):
                    continue
                close_interval()
                flush()  # before anything is kept: never save or praise a state that is not finite
                with meter.pause():
                    if evaluate and task.evaluate is not None and not (stopping and not last):
                        result = run_evaluation(task, state, frozen, mesh, step)
                        metrics = result.metrics
                        writer.evaluation(step, result)
                        save |= _is_best(checkpoints, settings, step, metrics)
                        pruned = watch is not None and not watch(step, metrics)
                    if save or pruned:
                        checkpoints.save(step, state)
                if (stopping or pruned) and not last:
                    stopped = "pruned" if pruned else stop.reason
                    break
            checkpoints.wait()  # an error of the last save is an error of the run
        except BaseException:
            # What was being saved is finished first, and can't hide the error that came before.
            _finish_save(checkpoints)
            raise
        finally:
            profiler.close()
    if step == start and start >= settings.steps:
        writer.say(f"nothing to do: the run is at step {start} of {settings.steps}")
    writer.say(f"{stopped} at step {step}; the run is in {workdir}")
    return Result(step, metrics, stopped)


def evaluate(config: ConfigDict, workdir: str | Path) -> Mapping[str, float]:
    """Evaluates a run's newest checkpoint; writes `eval.json` and a sample grid.

    Raises:
      UserError: the run has no checkpoint, or its family has no evaluation.
    """
    workdir = Path(workdir).absolute()
    cache.enable(config.train.compilation_cache)
    config = resolve(config)
    task = load_task(config)
    if task.evaluate is None:
        raise UserError(f"the family {config.family} has no evaluation; run it in training mode")
    nets, step = load_for_use(workdir, nets=task.eval_nets or None)
    nets = jax.tree.map(jnp.asarray, nets)
    result = task.evaluate(nets, jax.device_put(task.frozen), step)
    writer = writers.Writer(workdir, step, config.train.steps, tensorboard=False)
    writer.evaluation(step, result)
    writer.close()
    writers.write_text(
        workdir / "eval.json", json.dumps({"step": step, **result.metrics}, indent=2)
    )
    return result.metrics


def run_evaluation(task: Task, state: TrainState, frozen: Any, mesh, step: int) -> Evaluation:
    """Gathers the nets that `task.evaluate` needs onto one local device and calls it."""
    nets = {n: v for n, v in variables(state).items() if not task.eval_nets or n in task.eval_nets}
    whole = jax.jit(lambda tree: tree, out_shardings=meshes.replicated(mesh))((nets, frozen))
    local_nets, local_frozen = jax.tree.map(lambda x: x.addressable_data(0), whole)
    assert task.evaluate is not None
    return task.evaluate(local_nets, local_frozen, step)


def fresh_state(task, optimizers, config, mesh, batch_shapes) -> TrainState:
    """The initial state, made on the devices where it stays."""

    def init():
        zeros = {k: jnp.zeros(s.shape, s.dtype) for k, s in batch_shapes.items()}
        return init_state(task, optimizers, config.train.seed, zeros)

    shardings = meshes.state_shardings(jax.eval_shape(init), mesh, config.mesh)
    # It runs once: on CPUs, LLVM's optimisation takes 20 s for what then runs in milliseconds.
    options: dict[str, str | bool] | None
    options = {"xla_backend_optimization_level": "0"} if jax.default_backend() == "cpu" else None
    with jax.disable_jit(False):
        return jax.jit(init, out_shardings=shardings).lower().compile(options)()


def _init_from(state: TrainState, sources: ConfigDict, mesh, config) -> TrainState:
    """Puts in the nets that `train.init_from` takes from other runs or weight files."""
    nets: dict[str, Any] = {}
    for net, source in sources.items():
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


def _open_workdir(config: ConfigDict, workdir: Path) -> None:
    """Makes the folder; refuses to resume with a config that computes something else."""
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


def _is_best(checkpoints: Checkpoints, settings: ConfigDict, step: int, metrics) -> bool:
    name = settings.best_metric
    if not name:
        return False
    if name not in metrics:
        raise UserError(f"train.best_metric={name!r} is none of the metrics {', '.join(metrics)}")
    return checkpoints.note_best(step, name, metrics[name], settings.best_mode)


def _finish_save(checkpoints: Checkpoints) -> None:
    """Finishes a save in flight on the way out of an error."""
    try:
        checkpoints.wait()
    except Exception as error:
        log.warning("the last checkpoint could not be finished: %s", error)


def _log_sizes(state: TrainState) -> None:
    for net, params in state.params.items():
        leaves = jax.tree.leaves(params)
        count = sum(x.size for x in leaves)
        held = sum(np.prod(x.sharding.shard_shape(x.shape)) for x in leaves)
        log.info("net %s: %d parameters, %d on each device", net, count, held)
