"""`curves.png`: a run's losses and evaluations over the steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxgen.data.picture_about import MARK
from jaxgen.weights.checkpoints import read_metrics

BASELINE = "bicubic_"  # prefix of evaluation metrics of the method to compare with
HELD_OUT = "held_out_"  # prefix of what is drawn in the panel of the same of the validation data
COLUMNS = 4
# Of a panel and its margins, in inches: a layout that measures every label takes half of the
# drawing's time.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM, TITLE = 3.6, 2.4, 0.8, 0.1, 0.3, 0.45, 0.35
_UNITS = {"psnr": "dB", "gain": "dB", "gap": "dB"}
# (name, steps, values) of a line in a panel.
Line = tuple[str, list[int], list[float]]


def draw_curves(workdir: str | Path, marks: Sequence[tuple[int, str]] = ()) -> None:
    """A panel for each number, those of a phase together, the evaluations below.

    Args: marks: (first step, name) of each stage; where there are several they are marked.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    groups = _groups(read_metrics(workdir))
    if not groups:
        return
    rows = sum(math.ceil(len(panels) / COLUMNS) for panels in groups.values())
    columns = min(COLUMNS, max(map(len, groups.values())))
    width, height = WIDTH * columns, HEIGHT * rows + TITLE * len(groups)
    figure = plt.figure(figsize=(width, height))
    top = height
    for group, panels in groups.items():
        figure.text(LEFT / width, (top - TITLE * 0.7) / height, group, fontsize=11, weight="bold")
        top -= TITLE
        for number, (name, lines) in enumerate(panels.items()):
            row, column = divmod(number, columns)
            left, bottom = WIDTH * column + LEFT, top - HEIGHT * (row + 1) + BOTTOM
            size = ((WIDTH - LEFT - RIGHT) / width, (HEIGHT - TOP - BOTTOM) / height)
            _panel(figure.add_axes((left / width, bottom / height, *size)), name, lines, marks)
        top -= HEIGHT * math.ceil(len(panels) / columns)
    partial = Path(workdir) / "curves.tmp.png"
    figure.savefig(partial, dpi=90, metadata={MARK: "curves"})
    plt.close(figure)
    partial.replace(Path(workdir) / "curves.png")


def _panel(axis: Any, name: str, lines: list[Line], marks: Sequence[tuple[int, str]]) -> None:
    for number, (label, xs, ys) in enumerate(lines):
        style = {"color": "gray", "linestyle": "--"} if number and label == "bicubic" else {}
        marker = "o" if len(xs) < 40 else None
        axis.plot(xs, ys, marker=marker, markersize=3, linewidth=1, label=label, **style)
    if len(lines) > 1:
        axis.legend(fontsize=6)
    if len(marks) > 1:
        low, high = axis.get_xlim()
        for step, stage in marks:
            if low < step < high and step:
                axis.axvline(step, color="gray", linewidth=0.8, linestyle=":")
                where = axis.get_xaxis_transform()
                axis.text(step, 0.98, f" {stage}", fontsize=6, color="gray", va="top",
                          transform=where)  # fmt: skip
    axis.set_title(name, fontsize=9)
    axis.set_xlabel("step", fontsize=7, labelpad=1)
    unit = next((unit for start, unit in _UNITS.items() if name.startswith(start)), "value")
    axis.set_ylabel(unit, fontsize=7, labelpad=1)
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.3)


def _groups(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[Line]]]:
    """{group: {panel: lines}}: training by its phases, then the evaluations."""
    series: dict[tuple[str, str], tuple[list[int], list[float]]] = {}
    for line in lines:
        for key, value in line.items():
            wanted = line["kind"] == "eval" or not key.startswith(("speed/", "memory/"))
            if key in ("step", "kind") or value is None or not wanted:
                continue
            if key.endswith("/lr") or "grad_norm" in key:
                continue
            xs, ys = series.setdefault((line["kind"], key), ([], []))
            xs.append(line["step"])
            ys.append(value)
    groups: dict[str, dict[str, list[Line]]] = {}
    for (kind, key), (xs, ys) in sorted(series.items(), key=_order):
        if kind == "train":
            phase, slash, name = key.partition("/")
            group, name = (f"training: {phase}", name) if slash else ("training", key)
            label = name
        else:
            group, name, label = "evaluation", key, "validation"
            for prefix, said in ((BASELINE, "bicubic"), (HELD_OUT, "held out")):
                if key.startswith(prefix) and ("eval", key.removeprefix(prefix)) in series:
                    name, label = key.removeprefix(prefix), said
        groups.setdefault(group, {}).setdefault(name, []).append((label, xs, ys))
    return groups


def _order(item: tuple[tuple[str, str], Any]) -> tuple[bool, int, bool, str]:
    """Training before evaluations, phases in the order of their first step, and by their names."""
    (kind, key), (steps, _) = item
    first = steps[0] if kind == "train" else 0
    return kind != "train", first, key.startswith((BASELINE, HELD_OUT)), key
