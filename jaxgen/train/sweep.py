"""Searching for settings with Optuna: many runs of one config, each with other values.

A space file holds values only, one entry per config key:

    SPACE = {
        "optimizer.g.lr": {"log": (1e-5, 1e-3)},
        "train.batch_size": {"choice": (16, 32, 64)},
        "train.steps": {"int": (1000, 4000)},
        "model.text.dropout": {"float": (0.0, 0.5)},
    }

The study is a SQLite file beside the trials' runs. A sweep that was stopped goes on: finished
trials count, and the one that was running goes on in its own folder, from its last checkpoint.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxgen import config as configs
from jaxgen.errors import UserError, pip_install
from jaxgen.log import log

STUDY, TABLE, PLOT, BEST = "study.db", "trials.csv", "sweep.png", "best.json"
KINDS = ("choice", "int", "float", "log")
NAME = "jaxgen"  # of the study in its file
# Trials, and evaluations of a trial, before pruning begins: the median of few says little.
STARTUP_TRIALS, WARMUP_EVALUATIONS = 4, 1


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What a sweep is: the config, the space, what counts, and where it is kept.

    config: FILE.py or FILE.py:variant. space: see the module. metric: name of an evaluation's
    metric. mode: "max" or "min". folder: the study, the trials' runs, the table and the plot.
    """

    config: str
    space: Mapping[str, Mapping[str, Any]]
    metric: str
    mode: str
    folder: Path
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read_space(path: str | Path) -> dict[str, dict[str, Any]]:
    """The `SPACE` of a Python file.

    Raises:
      UserError: no such file, no SPACE in it, or an entry that is none of `KINDS`.
    """
    space = configs.run_file(path, "space").get("SPACE")
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

    Args:
      seed: of the sampler. Trials themselves have the config's `train.seed`.
      say: gets a line after each trial.

    Returns: the optuna study.

    Raises:
      UserError: Optuna is missing, the config or the space is wrong, the folder holds another
        sweep, or all trials failed.
      KeyboardInterrupt: Ctrl-C or SIGTERM; the running trial's state is saved.
    """
    optuna = _optuna()
    _check(sweep)
    study = _open(optuna, sweep, seed)
    _retry_unfinished(optuna, study)
    finished = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    failures = 0
    while sum(t.state in finished for t in study.trials) < trials:
        trial = study.ask()
        values = {key: _suggest(trial, key, entry) for key, entry in sweep.space.items()}
        trial.set_user_attr("folder", str(_trial_folder(sweep, values)))
        state, value, note = _one(optuna, sweep, trial, values)
        study.tell(trial, value, state=state)
        shown = "" if value is None else f"  {sweep.metric} {value:.4g}"
        say(f"trial {trial.number}: {state.name.lower()}{shown}  {_brief(values)}{note}")
        failures = failures + 1 if state == optuna.trial.TrialState.FAIL else 0
        if failures >= 3:
            raise UserError(f"three trials in a row failed; the last: {note.strip()}")
        report(sweep, study)
    report(sweep, study)
    return study


def _one(optuna, sweep: Sweep, trial, values) -> tuple[Any, float | None, str]:
    """One training run: (state, metric, what to add to its line)."""
    from jaxgen.train import loop
    from jaxgen.train.tally import NonFiniteError

    states = optuna.trial.TrialState
    seen: list[float] = []

    def watch(step: int, metrics: Mapping[str, float]) -> bool:
        if sweep.metric not in metrics:
            raise UserError(
                f"--metric {sweep.metric}: the evaluation gives {', '.join(metrics) or 'nothing'}"
            )
        value = float(metrics[sweep.metric])
        if not math.isfinite(value):
            return True
        seen.append(value)
        trial.report(value, step)
        return len(seen) <= WARMUP_EVALUATIONS or not trial.should_prune()

    try:
        config = configs.load(sweep.config, {**sweep.overrides, **values})
        result = loop.train(config, _trial_folder(sweep, values), watch=watch)
    except NonFiniteError as error:
        return states.FAIL, None, f"  ({error})"
    except UserError as error:
        if str(error).startswith("--metric"):
            raise
        return states.FAIL, None, f"  ({error})"
    if result.stopped in ("interrupted", "preempted"):
        raise KeyboardInterrupt
    if result.stopped == "pruned":
        return states.PRUNED, None, f"  at step {result.step}"
    last = result.metrics.get(sweep.metric)
    if last is None:
        # The run was finished before the study learned of it: what it logged says how it ended.
        last = seen[-1] if seen else _logged(_trial_folder(sweep, values), sweep.metric)
    if last is None:
        return states.FAIL, None, "  (no evaluation: eval_every is -1?)"
    return states.COMPLETE, float(last), ""


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError:
        raise UserError(f"a sweep needs Optuna: {pip_install('sweep')}") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _check(sweep: Sweep) -> None:
    config = configs.load(sweep.config, sweep.overrides)
    configs.check(config)
    for key in sweep.space:
        configs.set_key(config, key, configs.flatten(config).get(key))
    if sweep.mode not in ("max", "min"):
        raise UserError(f"--mode must be max or min, not {sweep.mode}")


def _open(optuna, sweep: Sweep, seed: int) -> Any:
    """The study in the folder, made if absent; a UserError if it is of another sweep."""
    try:
        sweep.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"can't make {sweep.folder}: {error.strerror}") from None
    study = optuna.create_study(
        storage=f"sqlite:///{sweep.folder.absolute() / STUDY}",
        study_name=NAME,
        direction="maximize" if sweep.mode == "max" else "minimize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(STARTUP_TRIALS),
        load_if_exists=True,
    )
    about = {
        "config": sweep.config,
        "space": json.loads(json.dumps(dict(sweep.space))),
        "metric": sweep.metric,
        "mode": sweep.mode,
        "overrides": json.loads(json.dumps(dict(sweep.overrides))),
    }
    before = study.user_attrs.get("about")
    if before is None:
        study.set_user_attr("about", about)
    elif before != about:
        changed = [key for key in about if about[key] != before.get(key)]
        raise UserError(
            f"{sweep.folder} holds a sweep with another {', '.join(changed)}; "
            "use the same to go on with it, or another --out"
        )
    return study


def _retry_unfinished(optuna, study) -> None:
    """Trials that a stopped sweep left running are asked for again, with the same values."""
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        if trial.params:
            study.enqueue_trial(trial.params)
            log.info("trial %d was not finished: it goes on", trial.number)


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


def _trial_folder(sweep: Sweep, values: Mapping[str, Any]) -> Path:
    """By the values, so that the same ones go on in the same run."""
    name = hashlib.sha256(json.dumps(dict(values), sort_keys=True).encode()).hexdigest()[:10]
    return sweep.folder / f"trial_{name}"


def _logged(folder: Path, metric: str) -> float | None:
    from jaxgen.weights.checkpoints import read_metrics

    found = [line[metric] for line in read_metrics(folder) if metric in line]
    return found[-1] if found else None


def _brief(values: Mapping[str, Any]) -> str:
    return "  ".join(
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in values.items()
    )


# ---- the results ---------------------------------------------------------------------------------


def rows(sweep: Sweep, study) -> list[dict[str, Any]]:
    """One row per trial, the best first, unfinished and failed ones last."""
    found = []
    for trial in study.trials:
        found.append(
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                sweep.metric: trial.value,
                "folder": Path(trial.user_attrs.get("folder", "")).name,
                **{key: trial.params.get(key) for key in sweep.space},
            }
        )
    sign = -1 if sweep.mode == "max" else 1
    return sorted(found, key=lambda row: _order(row[sweep.metric], sign))


def _order(value: float | None, sign: int) -> tuple[bool, float]:
    return (value is None, sign * (value or 0.0))


def report(sweep: Sweep, study) -> None:
    """Writes trials.csv, best.json and sweep.png into the folder."""
    table = rows(sweep, study)
    try:
        with open(sweep.folder / TABLE, "w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]) if table else ["trial"])
            writer.writeheader()
            writer.writerows(table)
        best = best_values(sweep, study)
        if best is not None:
            (sweep.folder / BEST).write_text(json.dumps(best, indent=2) + "\n")
            _plot(sweep, table)
    except OSError as error:
        raise UserError(f"can't write to {sweep.folder}: {error.strerror}") from None


def best_values(sweep: Sweep, study) -> dict[str, Any] | None:
    """{"value", "config", "overrides", "folder"} of the best finished trial; None if none is."""
    finished = [row for row in rows(sweep, study) if row[sweep.metric] is not None]
    if not finished:
        return None
    best = finished[0]
    return {
        sweep.metric: best[sweep.metric],
        "config": sweep.config,
        "overrides": {**sweep.overrides, **{key: best[key] for key in sweep.space}},
        "folder": best["folder"],
    }


def _plot(sweep: Sweep, table: list[dict[str, Any]]) -> None:
    """The metric over the trials with the best so far, and over each key's values."""
    from matplotlib.figure import Figure

    done = sorted((r for r in table if r[sweep.metric] is not None), key=lambda r: r["trial"])
    values = [r[sweep.metric] for r in done]
    pick = max if sweep.mode == "max" else min
    figure = Figure(figsize=(3.6 * (1 + len(sweep.space)), 3.2), layout="constrained")
    axes = figure.subplots(1, 1 + len(sweep.space), sharey=True, squeeze=False)[0]
    axes[0].plot([r["trial"] for r in done], values, "o", markersize=4)
    axes[0].plot([r["trial"] for r in done], [pick(values[: i + 1]) for i in range(len(values))])
    axes[0].set(xlabel="trial", ylabel=sweep.metric)
    for axis, (key, entry) in zip(axes[1:], sweep.space.items(), strict=True):
        kind = next(iter(entry))
        shown = [str(r[key]) if kind == "choice" else r[key] for r in done]
        axis.plot(shown, values, "o", markersize=4)
        axis.set_xlabel(key)
        if kind == "log":
            axis.set_xscale("log")
    figure.savefig(sweep.folder / PLOT, dpi=110)
