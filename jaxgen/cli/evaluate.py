"""`jaxgen eval`."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from jaxgen.cli.common import DEFAULT_MODEL, console
from jaxgen.errors import UserError

if TYPE_CHECKING:
    import numpy as np


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
    lpips: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Also measure LPIPS v0.1, with these weights: torchvision's AlexNet, VGG16 or "
            "SqueezeNet 1.1 and the heads of it, as --lpips TRUNK --lpips HEADS; or one file with "
            "both.",
        ),
    ] = None,
    blur: Annotated[
        bool,
        typer.Option("--blur", help="Also measure blur without reference: 0 sharp, 1 blurred."),
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the numbers to this file.")
    ] = None,
) -> None:
    """Measure PSNR and SSIM of a model on a folder of pictures, with bicubic beside.

    LPIPS and blur are of RGB, without the shaved border; blur is also given of the originals.
    """
    from jaxgen.data.sr import folder_pairs
    from jaxgen.metrics.sr_evaluation import compare

    if json_file:
        from jaxgen.upscale_files import check_writable

        check_writable(json_file.parent)
    measures = _further_measures(lpips or [], blur)
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
            pictures, scores = compare(
                opened.upscale if opened else None, low, high, factor, border, gray.value
            )
            _measure(measures, pictures, high, border, scores)
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


# Key in the report -> (head of the column, digits); what isn't here is in the report alone.
_COLUMNS = {
    "psnr_y": ("PSNR-Y", 3),
    "ssim_y": ("SSIM-Y", 4),
    "psnr_rgb": ("PSNR-RGB", 3),
    "lpips_alex": ("LPIPS-alex", 4),
    "lpips_vgg": ("LPIPS-vgg", 4),
    "lpips_squeeze": ("LPIPS-squeeze", 4),
    "blur": ("blur", 4),
}


class _Measures(NamedTuple):
    """By key: of (picture, original), and of a picture alone; uint8 without the border."""

    of_pairs: dict[str, Callable[[np.ndarray, np.ndarray], float]]
    of_pictures: dict[str, Callable[[np.ndarray], float]]


def _further_measures(lpips_files: list[Path], blur: bool) -> _Measures:
    """What is measured besides PSNR and SSIM; reads the weights."""
    measures = _Measures({}, {})
    if lpips_files:
        from jaxgen.metrics import lpips

        params = lpips.load(*lpips_files)
        name = f"lpips_{lpips.trunk_of(params['trunk'])}"
        measures.of_pairs[name] = lpips.picture_distance(params)
    if blur:
        from jaxgen.metrics import no_reference

        measures.of_pictures["blur"] = no_reference.blur
    return measures


def _measure(
    measures: _Measures,
    pictures: dict[str, np.ndarray],
    original: np.ndarray,
    border: int,
    scores: dict[str, dict[str, float]],
) -> None:
    """Adds them to `scores`, and a kind "original" with those that need no reference."""
    cut = slice(border, -border or None)
    original = original[cut, cut]
    for kind, picture in pictures.items():
        picture = picture[cut, cut]
        scores[kind] |= {k: f(picture, original) for k, f in measures.of_pairs.items()}
        scores[kind] |= {k: f(picture) for k, f in measures.of_pictures.items()}
    if measures.of_pictures:
        scores["original"] = {k: f(original) for k, f in measures.of_pictures.items()}


def _print_scores(rows: list[dict[str, Any]], mean: dict[str, Any], title: str) -> None:
    """One table; where the terminal is too narrow for it, one for each kind of picture."""
    screen = console()
    whole = _table(rows, mean, list(mean), title)
    if screen.measure(whole, options=screen.options.update(width=1000)).maximum <= screen.width:
        screen.print(whole)
        return
    for kind in mean:
        screen.print(_table(rows, mean, [kind], title))


def _table(rows: list[dict[str, Any]], mean: dict[str, Any], kinds: list[str], title: str) -> Any:
    from rich.markup import escape
    from rich.table import Table

    shown = [(kind, key) for kind in kinds for key in _COLUMNS if key in mean[kind]]
    table = Table(title=escape(title))
    table.add_column("picture", overflow="fold")
    for kind, key in shown:
        head = _COLUMNS[key][0]
        head = head if kind == "model" else f"{kind}\n{head}"
        table.add_column(head, justify="right", no_wrap=True)

    def add(name: str, scores: dict[str, dict[str, float]], **style: Any) -> None:
        cells = [f"{scores[kind][key]:.{_COLUMNS[key][1]}f}" for kind, key in shown]
        table.add_row(escape(name), *cells, **style)

    for row in rows:
        add(row["name"], row)
    table.add_section()
    add(f"mean of {len(rows)}", mean, style="bold")
    return table


def _finite(value: Any) -> Any:
    """JSON has no infinity (the PSNR of equal pictures): null stands for it."""
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
