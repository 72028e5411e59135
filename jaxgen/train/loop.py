"""`train(config, workdir)`: mesh, data, state, steps, log, checkpoints, top to bottom.

The order within the loop is part of the contract (step, log, evaluate, save) and makes a resumed
run equal an uninterrupted one bit for bit: state, randomness and data position are functions of
the step alone.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxgen import cache
from jaxgen import config as configs
from jaxgen.data import pipeline
from jaxgen.errors import UserError
from jaxgen.log import log
from jaxgen.task import Due, Evaluation, PyTree, Task
from jaxgen.train import mesh as meshes
from jaxgen.train import plan, writers
from jaxgen.train.checkpoint import Checkpoints
from jaxgen.train.compiled import CompiledStep, compile_step
from jaxgen.train.family import load_task, resolve
from jaxgen.train.meter import Meter
from jaxgen.train.optimizer import Optimizer
from jaxgen.train.owner import owned
from jaxgen.train.profile import Profiler
from jaxgen.train.reads import Reads, plain
from jaxgen.train.signals import StopSignal, kept_from_workers
from jaxgen.train.start import (
    find_parts,
    fresh_state,
    init_from,
    keep_parts,
    log_sizes,
    note_config,
    open_workdir,
)
from jaxgen.train.state import TrainState, make_optimizers, variables
from jaxgen.train.step import Tally
from jaxgen.train.tally import read_tally
from jaxgen.weights.checkpoints import EVALUATION, load_for_use, read_evaluated
from jaxgen.weights.parts import Part

# Steps that the host may be ahead: enough to never starve the device, few enough for its memory.
STEPS_AHEAD = 2
# (step, metrics of an evaluation) -> whether to go on.
Watch = Callable[[int, Mapping[str, float]], bool]


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
    watch: Watch | None = None,
    asked: Collection[str] = (),
) -> Result:
    """Trains what `config` says and leaves a Run in `workdir`; resumes if there is one.

    Args:
      config: see `jaxgen.config.base`; locked or not.
      workdir: made if absent.
      debug: no jit, no donation, and an error at the first NaN with the line that made it.
      devices: those to use; None: all.
      watch: gets the step and the metrics of each evaluation, and says whether to go on.
      asked: dotted keys that the user set; those without effect are said.

    Raises:
      UserError: a config, data, weights or disk problem that the user can mend.
      NonFiniteError: a loss or gradient is not finite and `train.max_skips` does not allow for it.
    """
    workdir = Path(workdir).absolute()
    configs.check(config)
    reads = Reads(config, asked)
    reads.config = resolve(reads.config)
    config = plain(reads.config)
    settings = config.train
    if folder := cache.enable(settings.compilation_cache and not debug):
        log.info("compiled programs are cached in %s", folder)
    if debug:
        jax.config.update("jax_disable_jit", True)
        jax.config.update("jax_debug_nans", True)

    # ---- mesh, task, data -----------------------------------------------------------------------
    mesh = meshes.make_mesh(config.mesh, devices)
    meshes.check_batch(mesh, settings.batch_size, settings.accumulate)
    made_of = find_parts(config, workdir)
    task = load_task(reads.config, made_of)
    optimizers = make_optimizers(task, reads.config)
    open_workdir(config, workdir)
    with owned(workdir):
        return _train(config, workdir, mesh, task, optimizers, made_of, debug, watch, reads)


def _train(
    config: ConfigDict,
    workdir: Path,
    mesh: Mesh,
    task: Task,
    optimizers: Mapping[str, Optimizer],
    made_of: Mapping[str, Part],
    debug: bool,
    watch: Watch | None,
    reads: Reads,
) -> Result:
    """`train` in a folder that is ours."""
    settings = config.train
    records, transform = task.train_data()
    stream_from = lambda step: pipeline.train_iterator(  # noqa: E731
        records,
        transform,
        batch_size=settings.batch_size,
        seed=settings.seed,
        start_step=step,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        workers=reads.config.data.workers,
        threads=reads.config.data.threads,
    )

    # ---- state: fresh, from other runs, or restored ----------------------------------------------
    stream = stream_from(0)
    with kept_from_workers():
        example = next(stream)
    pipeline.close(stream)
    batch_shapes = {
        k: jax.ShapeDtypeStruct((settings.batch_size, *v.shape[1:]), v.dtype)
        for k, v in example.items()
    }
    state = fresh_state(task, optimizers, config, mesh, batch_shapes)
    log_sizes(state)
    checkpoints = Checkpoints(
        workdir,
        keep=settings.keep,
        keep_every=settings.keep_every,
        with_digests=settings.get("digests", True),  # configs of earlier versions lack it
    )
    if restored := checkpoints.restore_latest(state):
        state, start = restored
        log.info("resumed from checkpoint %d in %s", start, workdir)
    else:
        start = 0
        state = init_from(state, task, config, mesh)
    # Not before: a mistake in what the run begins with leaves the folder open to another config.
    keep_parts(config, made_of, workdir)
    note_config(config, workdir)
    frozen = jax.device_put(task.frozen, meshes.replicated(mesh))
    pace = plan.Pace(plan.stages(task.phases, settings.steps), settings.eval_every)
    writer = writers.Writer(workdir, start, pace, tensorboard=settings.tensorboard)
    if jax.process_index() == 0:
        plan.announce(config, task, len(records))
    stream = stream_from(start)
    batches: Iterator[Mapping[str, np.ndarray]] = stream
    try:
        if start < settings.steps:
            with kept_from_workers():  # they start at the first batch
                batches = itertools.chain([next(stream)], stream)
        return _Session(
            task=task,
            optimizers=optimizers,
            config=config,
            workdir=workdir,
            mesh=mesh,
            state=state,
            step=start,
            frozen=frozen,
            batches=batches,
            checkpoints=checkpoints,
            writer=writer,
            debug=debug,
            watch=watch,
            reads=reads,
            metrics=read_evaluated(workdir, start)[1],
        ).run()
    finally:
        pipeline.close(stream)
        writer.close()


@dataclasses.dataclass(kw_only=True)
class _Session:
    """A run in motion: what its steps read, and what they change.

    state, step: after the last step. frozen: on the devices. batches: this host's part of each
    step's batch. metrics: of the last evaluation.
    """

    task: Task
    optimizers: Mapping[str, Optimizer]
    config: ConfigDict
    workdir: Path
    mesh: Mesh
    state: TrainState
    step: int
    frozen: PyTree
    batches: Iterator[Mapping[str, np.ndarray]]
    checkpoints: Checkpoints
    writer: writers.Writer
    debug: bool
    watch: Watch | None
    reads: Reads
    metrics: Mapping[str, float]

    def __post_init__(self):
        self.settings = settings = self.config.train
        self.profiler = Profiler(
            self.workdir / "profile", settings.profile_start, settings.profile_steps
        )
        self.meter = Meter()
        self.active: tuple[str, ...] | None = None  # phases in whose windows we are
        self.programs: dict[Any, CompiledStep] = {}  # of these phases; see `_program`
        self.tallies: dict[Due, Tally] = {}  # of the interval, one for each program that ran
        self.closed: list[tuple[int, list[Tally]]] = []  # intervals that are not read yet
        self.ahead: deque[jax.Array] = deque()

    def run(self) -> Result:
        """Step, log, evaluate, save, until `train.steps`, a signal, or `watch` ends it."""
        start, steps, stopped = self.step, self.settings.steps, "done"
        with StopSignal() as stop:
            try:
                while self.step < steps:
                    self._update()
                    if self.step % self.settings.log_every == 0:
                        self._close_interval()
                    self._log(until=self.step - STEPS_AHEAD)  # finished: the host waits for no step
                    stopping = stop.asked() or self.checkpoints.reached_preemption(self.step)
                    pruned = self._evaluate_and_save(stopping)
                    if (stopping or pruned) and self.step < steps:
                        stopped = "pruned" if pruned else stop.reason
                        break
                self.checkpoints.wait()  # an error of the last save is an error of the run
            except BaseException:
                # What was being saved is finished first, and can't hide the error that came before.
                _finish_save(self.checkpoints)
                raise
            finally:
                self.profiler.close()
        if start >= steps:
            self.writer.say(f"nothing to do: the run is at step {start} of {steps}")
        self.writer.say(f"{stopped} at step {self.step}; the run is in {self.workdir}")
        return Result(self.step, self.metrics, stopped)

    def _update(self) -> None:
        """One step, by the program of what is due at it."""
        with self.meter.waiting():
            batch = meshes.put_batch(next(self.batches), self.mesh)
        step_fn, due = self._program(batch)
        if due not in self.tallies:
            self.tallies[due] = step_fn.empty_tally()
        with self.profiler.step(self.step):
            self.state, self.tallies[due], tick = step_fn(
                self.state, self.tallies[due], batch, self.frozen
            )
        self.step += 1
        self.meter.count(step_fn.flops)
        self.writer.tick()
        self.ahead.append(tick)
        if len(self.ahead) > STEPS_AHEAD:
            jax.block_until_ready(self.ahead.popleft())
            done = self.step - STEPS_AHEAD
            if said := self.writer.pace.too_long(done, jax.default_backend()):
                log.warning("%s", said)

    def _program(self, batch: Mapping[str, jax.Array]) -> tuple[CompiledStep, Due]:
        """The step's program and what is due at it; compiled where it is the first of its kind."""
        active = tuple(p.name for p in self.task.phases if p.active(self.step))
        if active != self.active:
            self._close_interval()
            self._log()
            self.programs.clear()
            self.active = active
        due = Due.at(self.task.phases, self.step)
        key = due, tuple(array.shape for array in batch.values())  # buckets have several
        if key not in self.programs:
            with self.meter.pause():
                self.programs[key] = compile_step(
                    self.task, self.optimizers, self.config, due, self.state, batch, self.frozen,
                    self.mesh, debug=self.debug,
                )  # fmt: skip
                self.writer.say(self.programs[key].summary)
                if jax.process_index() == 0:
                    self.reads.tell(last=self.writer.pace.in_last(self.step))
        return self.programs[key], due

    def _close_interval(self) -> None:
        if self.meter.interval_steps:
            self.closed.append((self.step, list(self.tallies.values())))
            self.tallies.clear()
            self.meter.close_interval(self.step, self.settings.batch_size)

    def _log(self, until: int | None = None) -> None:
        """Fetches closed intervals that end by step `until`; raises on non-finite numbers."""
        phases = [p.name for p in self.task.phases]
        while self.closed and (until is None or self.closed[0][0] <= until):
            at, tallies = self.closed.pop(0)
            values = read_tally(tallies, phases, self.settings.max_skips, self.checkpoints)
            if values:
                self.writer.scalars(at, "train", {**values, **self.meter.read(at)})

    def _evaluate_and_save(self, stopping: bool) -> bool:
        """What is due of both after this step; whether `watch` wants the run to end."""
        settings, step = self.settings, self.step
        last = step == settings.steps
        evaluate = settings.eval_every >= 0 and (
            last or (settings.eval_every > 0 and step % settings.eval_every == 0)
        )
        save = last or stopping or step % settings.checkpoint_every == 0
        if not (evaluate or save):
            return False
        pruned = False
        self._close_interval()
        self._log()  # before anything is kept: never save or praise a state that is not finite
        with self.meter.pause():
            if evaluate and self.task.evaluate is not None and not stopping:
                began = time.monotonic()
                result = run_evaluation(self.task, self.state, self.frozen, self.mesh, step)
                self.writer.pace.evaluated(time.monotonic() - began)
                self.metrics = result.metrics
                self.writer.evaluation(step, result)
                save |= _is_best(self.checkpoints, settings, step, self.metrics)
                pruned = self.watch is not None and not self.watch(step, self.metrics)
            if save or pruned:
                self.checkpoints.save(step, self.state)
        return pruned


def evaluate(config: ConfigDict, workdir: str | Path) -> Mapping[str, float]:
    """Evaluates a run's newest checkpoint; writes `eval.json` and a sheet in `eval_samples/`.

    It only reads the trainer's files, so that it may run beside it.

    Raises:
      UserError: the run has no checkpoint, or its family has no evaluation.
    """
    workdir = Path(workdir).absolute()
    cache.enable(config.train.compilation_cache)
    config = resolve(config)
    task = load_task(config, find_parts(config, workdir))
    if task.evaluate is None:
        raise UserError(f"the family {config.family} has no evaluation; run it in training mode")
    nets, step = load_for_use(workdir, nets=task.eval_nets or None)
    nets = jax.tree.map(jnp.asarray, nets)
    result = task.evaluate(nets, jax.device_put(task.frozen), step)
    if path := writers.save_samples(workdir / "eval_samples", step, result):
        log.info("samples: %s", path)
    log.info("eval step %d  %s", step, writers.shown(result.metrics))
    writers.write_text(workdir / EVALUATION, json.dumps({"step": step, **result.metrics}, indent=2))
    return result.metrics


def run_evaluation(task: Task, state: TrainState, frozen: Any, mesh, step: int) -> Evaluation:
    """Gathers the nets that `task.evaluate` needs onto one local device and calls it."""
    nets = {n: v for n, v in variables(state).items() if not task.eval_nets or n in task.eval_nets}
    whole = jax.jit(lambda tree: tree, out_shardings=meshes.replicated(mesh))((nets, frozen))
    local_nets, local_frozen = jax.tree.map(lambda x: x.addressable_data(0), whole)
    assert task.evaluate is not None
    return task.evaluate(local_nets, local_frozen, step)


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
