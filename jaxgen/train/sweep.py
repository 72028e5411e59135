"""Searching for settings with Optuna: many runs of one config, each with other values.

A space file holds values only, one entry per config key:

    SPACE = {
        "optimizer.g.lr": {"log": (1e-5, 1e-3)},
        "train.batch_size": {"choice": (16, 32, 64)},
        "train.steps": {"int": (1000, 4000)},
        "model.text.dropout": {"float": (0.0, 0.5)},
    }

A sweep that was stopped goes on: finished trials count, and the one that was running goes on in its
own folder, from its last checkpoint. Several processes may share a study (`Sweep.storage`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxgen import config as configs
from jaxgen import user_file
from jaxgen.errors import UserError
from jaxgen.log import interrupted
from jaxgen.train import family
from jaxgen.train.sweep_results import report
from jaxgen.train.sweep_study import (
    FOLDER,
    SURPLUS,
    SharedStudy,
    Sweep,
    load_optuna,
    storage_failure,
)

KINDS = ("choice", "int", "float", "log")
WARMUP_EVALUATIONS = 1  # of a trial, before it may be pruned
POLL = 5.0  # seconds between looks at what other processes are at


def read_space(path: str | Path) -> dict[str, dict[str, Any]]:
    """The `SPACE` of a Python file.

    Raises:
      UserError: no such file, no SPACE in it, or an entry that is none of `KINDS`.
    """
    space = user_file.run(path, "space").get("SPACE")
    if not isinstance(space, dict) or not space:
        raise UserError(f"{path} must hold SPACE = {{config key: {{kind: values}}}}")
    for key, entry in space.items():
        _check_entry(str(key), entry)
    return space


def _check_entry(key: str, entry: Any) -> None:
    problem = f"SPACE[{key!r}] = {entry!r}: give one of {', '.join(KINDS)} with its values"
    if not isinstance(entry, dict) or len(entry) != 1 or next(iter(entry)) not in KINDS:
        raise UserError(problem)
    kind, values = next(iter(entry.items()))
    if not isinstance(values, tuple | list) or not values:
        raise UserError(problem)
    if kind == "choice":
        return
    wanted = int if kind == "int" else (int, float)
    if not all(isinstance(v, wanted) and math.isfinite(v) for v in values):
        raise UserError(problem)
    if len(values) != 2 or not values[0] <= values[1]:
        raise UserError(f"SPACE[{key!r}]: {kind} needs (lowest, highest), not {values!r}")
    if kind == "log" and values[0] <= 0:
        raise UserError(f"SPACE[{key!r}]: log needs positive values, not {values!r}")


def run(sweep: Sweep, trials: int, seed: int = 0, say: Callable[[str], None] = print) -> Any:
    """Runs trials until the study has `trials` finished ones; writes table, plot and best values.

    Several processes may do so at one study: what the others finish counts, and what they are at
    is waited for, as long as they live.

    Args:
      seed: of the sampler. Trials themselves have the config's `train.seed`.
      say: gets a line after each trial.

    Returns: the optuna study.

    Raises:
      UserError: Optuna is missing, the config, the space or the storage is wrong or gone, the
        folder holds another sweep, or three trials in a row failed.
      KeyboardInterrupt: Ctrl-C or SIGTERM; the running trial's state is saved, and it is asked for
        again.
    """
    load_optuna()
    _check(sweep)
    shared = SharedStudy(sweep, seed)
    try:
        _work(sweep, shared, trials, say)
        report(sweep, shared.study)
    except Exception as error:
        if (cause := storage_failure(error)) is None:
            raise
        raise UserError(
            f"{shared.where} does not answer ({cause}); the same command goes on"
        ) from error
    return shared.study


def _work(sweep: Sweep, shared: SharedStudy, trials: int, say: Callable[[str], None]) -> None:
    failures, told = 0, False
    # Once: what later trials take from this process's caches they do not read.
    asked = [*sweep.overrides, *sweep.space]
    while True:
        shared.free_dead()
        finished = shared.finished()
        if finished >= trials:
            return
        others = shared.running_elsewhere()
        if finished + others >= trials:
            if not told:
                say(f"waiting for {others} trials of other processes")
            told = True
            time.sleep(POLL)
            continue
        told = False
        one = _Trial(sweep, shared, trials, asked)
        try:
            shared.study.optimize(one, n_trials=1, catch=(_FailedError,))
        except KeyboardInterrupt:
            if one.number is not None:
                shared.again(shared.study.trials[one.number])
            raise
        if one.surplus:
            continue
        done = shared.study.trials[one.number]
        state = done.state.name.lower()
        shown = (
            "" if done.value is None or state == "pruned" else f"  {sweep.metric} {done.value:.4g}"
        )
        say(f"trial {one.number}: {state}{shown}  {_brief(one.values)}{one.note}")
        failures = failures + 1 if state == "fail" else 0
        if failures >= 3:
            raise UserError(f"three trials in a row failed; the last: {one.note.strip()}")
        report(sweep, shared.study)


class _FailedError(Exception):
    """A trial whose values can't be, or whose training came to nothing."""


class _Trial:
    """One training run as Optuna's objective; afterwards `note` is what to add to its line.

    Args:
      asked: keys of which it is said that they have no effect; emptied by the first that trains.
    """

    def __init__(self, sweep: Sweep, shared: SharedStudy, wanted: int, asked: list[str]):
        self.sweep, self.shared, self.wanted, self.asked = sweep, shared, wanted, asked
        self.number: int | None = None
        self.values: dict[str, Any] = {}
        self.surplus = False
        self.note = ""
        self._seen: list[float] = []

    def __call__(self, trial: Any) -> float:
        self.number = trial.number
        self.shared.claim(trial)
        if self.shared.is_surplus(trial.number, self.wanted):
            self.surplus = True
            trial.set_user_attr(SURPLUS, True)
            raise _FailedError
        self.values = {k: _suggest(trial, k, entry) for k, entry in self.sweep.space.items()}
        name = Path(trial.user_attrs.get(FOLDER, f"trial_{trial.number:04d}")).name
        if (same := self.shared.finished_with(trial.params)) is not None:
            # A run is a function of its config: it would end as that one did.
            trial.set_user_attr(FOLDER, same.user_attrs[FOLDER])
            self.note = f"  as trial {same.number}"
            return same.value
        trial.set_user_attr(FOLDER, name)
        return self._train(trial, self.sweep.folder / name)

    def _train(self, trial: Any, folder: Path) -> float:
        import optuna

        from jaxgen.train import loop
        from jaxgen.train.tally import NonFiniteError

        try:
            config = configs.load(self.sweep.config, {**self.sweep.overrides, **self.values})
            asked, self.asked[:] = tuple(self.asked), ()
            result = loop.train(
                config,
                folder,
                watch=lambda step, metrics: self._watch(trial, step, metrics),
                asked=asked,
            )
        except NonFiniteError as error:
            raise self._failed(error) from error
        except UserError as error:
            if interrupted():
                raise KeyboardInterrupt from error
            if str(error).startswith("--metric"):
                raise
            raise self._failed(error) from error
        if result.stopped in ("interrupted", "preempted"):
            raise KeyboardInterrupt
        if result.stopped == "pruned":
            self.note = f"  at step {result.step}"
            raise optuna.TrialPruned
        last = result.metrics.get(self.sweep.metric)
        if last is None:
            # The run was finished before the study learned of it: what it logged says how it ended.
            last = self._seen[-1] if self._seen else _logged(folder, self.sweep.metric)
        if last is None:
            raise self._failed("no evaluation: eval_every is -1?")
        return float(last)

    def _watch(self, trial: Any, step: int, metrics: Mapping[str, float]) -> bool:
        name = self.sweep.metric
        if name not in metrics:
            raise UserError(
                f"--metric {name}: the evaluation gives {', '.join(metrics) or 'nothing'}"
            )
        value = float(metrics[name])
        if not math.isfinite(value):
            return True
        self._seen.append(value)
        trial.report(value, step)
        return len(self._seen) <= WARMUP_EVALUATIONS or not trial.should_prune()

    def _failed(self, why: object) -> _FailedError:
        self.note = f"  ({why})"
        return _FailedError(str(why))


def _check(sweep: Sweep) -> None:
    config = configs.load(sweep.config, sweep.overrides)
    configs.check(config)
    family.check(config)
    for key in sweep.space:
        configs.get_key(config, key)
        configs.set_key(config, key, configs.flatten(config).get(key))  # a section is refused
    if sweep.mode not in ("max", "min"):
        raise UserError(f"--mode must be max or min, not {sweep.mode}")


def _suggest(trial, key: str, entry: Mapping[str, Any]) -> Any:
    kind, values = next(iter(entry.items()))
    if kind == "choice":
        # Optuna keeps numbers and texts; tuples go by their place.
        simple = all(isinstance(v, bool | int | float | str) for v in values)
        if simple:
            return trial.suggest_categorical(key, list(values))
        return values[trial.suggest_categorical(key, list(range(len(values))))]
    if kind == "int":
        return trial.suggest_int(key, *values)
    return trial.suggest_float(key, *values, log=kind == "log")


def _logged(folder: Path, metric: str) -> float | None:
    from jaxgen.weights.checkpoints import read_metrics

    found = [line[metric] for line in read_metrics(folder) if metric in line]
    return found[-1] if found else None


def _brief(values: Mapping[str, Any]) -> str:
    return "  ".join(
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in values.items()
    )
