"""What was measured, as a table and as a file.

The console is the caller's: `rich.console.Console()` in a notebook.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxgen import glossary
from jaxgen.whole import replacing

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from jaxgen.evaluation.sr import Scores


def show_scores(scores: Scores, title: str, console: Console) -> None:
    """Of upscaled pictures; where the console is too narrow, a table for each kind of picture."""
    kinds = list(scores.mean)
    whole = _table(scores, kinds, title)
    wide = console.options.update(width=1000)
    if console.measure(whole, options=wide).maximum <= console.width:
        console.print(whole)
    else:
        for kind in kinds:
            console.print(_table(scores, [kind], title))
    shown = [key for key, measure in scores.measures.items() if measure.head]
    _explain({scores.measures[key].head: key for key in shown}, console)


def _table(scores: Scores, kinds: list[str], title: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    shown = [
        (kind, key, measure)
        for kind in kinds
        for key, measure in scores.measures.items()
        if measure.head and key in scores.mean[kind]
    ]
    better = {
        word: dict.fromkeys(one.head for *_, one in shown if one.larger_is_better is larger)
        for word, larger in (("higher", True), ("lower", False))
    }
    said = [f"{word} is better: {', '.join(heads)}" for word, heads in better.items() if heads]
    table = Table(title=escape(title), caption=escape("; ".join(said)))
    table.add_column("picture", overflow="fold")
    for kind, _, measure in shown:
        head = escape(measure.head if kind == "model" else f"{kind}\n{measure.head}")
        table.add_column(head, justify="right", no_wrap=True)

    def add(name: str, values: dict[str, Any], **style: Any) -> None:
        cells = [f"{values[kind][key]:.{measure.digits}f}" for kind, key, measure in shown]
        table.add_row(escape(name), *cells, **style)

    for image in scores.images:
        add(image["name"], image)
    table.add_section()
    add(f"mean of {len(scores.images)}", scores.mean, style="bold")
    return table


def show_sets(report: dict[str, Any], title: str, console: Console) -> None:
    """The report of `jaxgen.evaluation.sets` or `.pictures` as a table, and its remarks."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("measure", title=escape(title))
    table.add_column("value", justify="right")
    scores = report["scores"]
    for name, value in scores.items():
        if not name.endswith("_std"):
            spread = scores.get(f"{name}_std")
            table.add_row(name, _number(value) + (f" ± {_number(spread)}" if spread else ""))
    if clip := report.get("clip"):
        table.add_section()
        table.add_row(f"CLIP-score ({escape(clip['model'])})", _number(clip["score"]))
        spread = f"{_number(clip['r_precision'])} ± {_number(clip['r_precision_std'])}"
        table.add_row("R-precision by it", spread)
    for part in ("caption_accuracy", "held_out_accuracy", "diversity"):
        if part in report:
            table.add_section()
            for name, value in report[part].items():
                table.add_row(f"{part.replace('_', ' ')}: {name}", _number(value))
    console.print(table)
    names = {name: name for name in scores}
    names |= {name: name for name in report.get("caption_accuracy", ()) if name == "whole"}
    _explain(names | ({"diversity": "diversity"} if "diversity" in report else {}), console)
    ours, theirs = report["generated"], report["reference"]
    counts = f"{ours['n']:,} pictures"
    if theirs.get("n"):
        counts += f", {theirs['n']:,} in the reference"
    by = f"{ours['features']}, resize {ours['resize']}, weights {ours['weights']}"
    console.print(escape(f"{counts}; {by}"))
    for remark in report["remarks"]:
        console.print(escape(f"note: {remark}"))


def show_numbers(scores: Mapping[str, float], title: str, console: Console) -> None:
    """Numbers by name, one a line."""
    show_columns({"value": scores}, title, console)


def show_columns(columns: Mapping[str, Mapping[str, float]], title: str, console: Console) -> None:
    """Numbers by name, those of several groups beside each other; {head: numbers}."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("measure", title=escape(title))
    for head in columns:
        table.add_column(escape(head), justify="right")
    names = dict.fromkeys(name for numbers in columns.values() for name in numbers)
    for name in names:
        cells = (_number(one[name]) if name in one else "" for one in columns.values())
        table.add_row(escape(name), *cells)
    console.print(table)
    _explain({name: name for name in names}, console)


def _explain(numbers: Mapping[str, str], console: Console) -> None:
    """A line on what each number means. Args: numbers: {as the table has it: its name}."""
    from rich.text import Text

    for shown, name in numbers.items():
        if says := glossary.meaning(name):
            console.print(Text(f"{shown}: {says}"))


def _number(value: float) -> str:
    return f"{value:.5g}"


def write_report(path: Path, report: dict[str, Any]) -> None:
    """JSON, whole or not at all; infinities and NaN, which JSON has not, as null.

    Raises:
      UserError: it can't be written.
    """
    with replacing(path) as part:
        part.write_text(json.dumps(finite(report), indent=2) + "\n")


def finite(value: Any) -> Any:
    """The value with null in place of numbers that are not finite."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
