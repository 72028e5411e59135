"""`jaxgen eval`."""

from __future__ import annotations

import enum
import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxgen.cli.common import DEFAULT_MODEL, console
from jaxgen.errors import UserError


class Gray(enum.StrEnum):
    """How gray originals are measured."""

    keep = "keep"
    replicate = "replicate"


def evaluate(
    data: Annotated[
        Path,
        typer.Option(
            help="Folder of originals, or of HR and LR pairs. Without an LR folder the small "
            "pictures are made by MATLAB-exact bicubic resizing."
        ),
    ],
    model: Annotated[
        str, typer.Option(help="A run's folder, a bundled model, or 'bicubic' alone.")
    ] = DEFAULT_MODEL,
    gray: Annotated[
        Gray,
        typer.Option(
            help="Gray originals: measured as gray (as the MATLAB scripts do), or replicated to "
            "RGB first, which reads 1.3 dB higher on them."
        ),
    ] = Gray.keep,
    shave: Annotated[
        int | None, typer.Option(min=0, help="Border pixels left out; default: the scale.")
    ] = None,
    scale: Annotated[
        int | None, typer.Option(min=2, help="Scale for --model bicubic [default: 4].")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the numbers to this file.")
    ] = None,
) -> None:
    """Measure PSNR and SSIM of a model on a folder of pictures, with bicubic beside."""
    from jaxgen.data.sr import folder_pairs
    from jaxgen.metrics.sr_evaluation import compare

    if json_file:
        from jaxgen.upscale_files import check_writable

        check_writable(json_file.parent)
    opened = None
    if model != "bicubic":
        from jaxgen.run import load

        opened = load(model)
        if scale not in (None, opened.scale):
            raise UserError(f"{model} upscales by {opened.scale}, not by {scale}")
    factor = opened.scale if opened else scale or 4
    border = factor if shave is None else shave
    rows: list[dict[str, Any]] = []
    for name, low, high in folder_pairs(data, factor, gray=gray.value):
        try:
            _, scores = compare(
                opened.upscale if opened else None, low, high, factor, border, gray.value
            )
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        rows.append({"name": name, **scores})
    if not rows:
        raise UserError(f"{data}: no pictures in this folder")
    mean = {
        kind: {key: math.fsum(r[kind][key] for r in rows) / len(rows) for key in rows[0][kind]}
        for kind in rows[0]
        if kind != "name"
    }
    _print_scores(rows, mean, f"{model} x{factor} on {data} (shave {border}, gray {gray.value})")
    if json_file:
        report = {
            "model": model,
            "step": opened.step if opened else None,
            "data": str(data),
            "scale": factor,
            "shave": border,
            "gray": gray.value,
            "mean": mean,
            "images": rows,
        }
        try:
            json_file.write_text(json.dumps(_finite(report), indent=2) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {json_file}: {error.strerror}") from None


def _print_scores(rows: list[dict[str, Any]], mean: dict[str, Any], title: str) -> None:
    from rich.table import Table

    kinds = list(mean)
    table = Table(title=title)
    table.add_column("picture")
    for kind in kinds:
        for head in ("PSNR-Y", "SSIM-Y", "PSNR-RGB"):
            table.add_column(head if kind == "model" else f"{kind} {head}", justify="right")

    def add(name: str, scores: dict[str, dict[str, float]], **style: Any) -> None:
        cells = []
        for kind in kinds:
            s = scores[kind]
            cells += [f"{s['psnr_y']:.3f}", f"{s['ssim_y']:.4f}", f"{s['psnr_rgb']:.3f}"]
        table.add_row(name, *cells, **style)

    for row in rows:
        add(row["name"], row)
    table.add_section()
    add(f"mean of {len(rows)}", mean, style="bold")
    console().print(table)


def _finite(value: Any) -> Any:
    """JSON has no infinity (the PSNR of equal pictures): null stands for it."""
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
