"""What a sweep found: its trials as a table, the best values, a plot.

The files are replaced whole, so that several processes may write them into one folder.
"""

from __future__ import annotations

import csv
import io
import json
import os
import socket
from pathlib import Path
from typing import Any

from jaxgen.data.picture_about import MARK
from jaxgen.errors import UserError
from jaxgen.train.sweep_study import FOLDER, SURPLUS, Sweep

TABLE, PLOT, BEST = "trials.csv", "sweep.png", "best.json"


def rows(sweep: Sweep, study) -> list[dict[str, Any]]:
    """One row per trial, the best first, unfinished and failed ones last."""
    found = []
    for trial in study.trials:
        if SURPLUS in trial.user_attrs:
            continue
        found.append(
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                sweep.metric: trial.value,
                "folder": Path(trial.user_attrs.get(FOLDER, "")).name,
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
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(table[0]) if table else ["trial"])
    writer.writeheader()
    writer.writerows(table)
    try:
        _replace(sweep.folder / TABLE, text.getvalue().encode())
        best = best_values(sweep, study)
        if best is not None:
            _replace(sweep.folder / BEST, (json.dumps(best, indent=2) + "\n").encode())
            _replace(sweep.folder / PLOT, _plot(sweep, table))
    except OSError as error:
        raise UserError(f"can't write to {sweep.folder}: {error.strerror}") from None


def _replace(path: Path, content: bytes) -> None:
    """Whole or not at all, whoever else writes it at the same time."""
    part = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.part")
    part.write_bytes(content)
    os.replace(part, path)


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


def _plot(sweep: Sweep, table: list[dict[str, Any]]) -> bytes:
    """PNG: the metric over the trials with the best so far, and over each key's values."""
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
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110, format="png", metadata={MARK: "curves"})
    return drawn.getvalue()
