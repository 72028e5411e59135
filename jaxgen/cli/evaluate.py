"""`jaxgen eval`."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from jaxgen.cli.common import DEFAULT_MODEL, console
from jaxgen.errors import UserError
from jaxgen.evaluation.pictures import (
    Options,
    evaluate_model,
    evaluate_pictures,
    show,
    write_report,
)

if TYPE_CHECKING:
    import numpy as np

    from jaxgen.runs.model import Model

# Heads in --help.
_SR, _SETS = "Super-resolution", "Generated pictures"


class Gray(enum.StrEnum):
    """How gray originals are measured."""

    keep = "keep"
    replicate = "replicate"


class Resize(enum.StrEnum):
    """How pictures come to Inception's size, as one of the FID's programs has it."""

    tf1 = "tf1"
    torch = "torch"
    clean = "clean"


def evaluate(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Super-resolution: folder of originals, or of HR and LR pairs; without an LR "
            "folder the small pictures are made by MATLAB-exact bicubic resizing. Generated "
            "pictures: the reference, a folder or an .npz of statistics; default for a "
            "text-to-image model: its own validation pictures."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A run's folder, an exported model's folder, a bundled model, or 'bicubic' "
            f"alone.  [default: {DEFAULT_MODEL}]",
        ),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(help="A folder of generated pictures to measure in place of a model."),
    ] = None,
    gray: Annotated[
        Gray | None,
        typer.Option(
            help="Gray originals: measured as gray (as the MATLAB scripts do; the default), or "
            "replicated to RGB first, which reads 1.3 dB higher on them.",
            rich_help_panel=_SR,
        ),
    ] = None,
    shave: Annotated[
        int | None,
        typer.Option(
            min=0, help="Border pixels left out; default: the scale.", rich_help_panel=_SR
        ),
    ] = None,
    scale: Annotated[
        int | None,
        typer.Option(min=2, help="Scale for --model bicubic [default: 4].", rich_help_panel=_SR),
    ] = None,
    lpips: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Also measure LPIPS v0.1, with these weights: torchvision's AlexNet, VGG16 or "
            "SqueezeNet 1.1 and the heads of it, as --lpips TRUNK --lpips HEADS; or one file with "
            "both.",
            rich_help_panel=_SR,
        ),
    ] = None,
    blur: Annotated[
        bool,
        typer.Option(
            "--blur",
            help="Also measure blur without reference: 0 sharp, 1 blurred.",
            rich_help_panel=_SR,
        ),
    ] = False,
    inception: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Weights of the FID's Inception (pt_inception-2015-12-05-6726825d.pth, or "
            "converted): FID, KID, IS, precision and recall. Without them the same distances are "
            "of a random network's features, and named after it.",
            rich_help_panel=_SETS,
        ),
    ] = None,
    resize: Annotated[
        Resize | None,
        typer.Option(
            help="How pictures come to 299 pixels: tf1 as the original FID and torch-fidelity (the "
            "default), torch as pytorch-fid, clean as clean-fid. Compare equals only.",
            rich_help_panel=_SETS,
        ),
    ] = None,
    splits: Annotated[
        int | None,
        typer.Option(
            min=1, help="Parts for the Inception Score [default: 10].", rich_help_panel=_SETS
        ),
    ] = None,
    save_statistics: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz",
            help="Also write the reference's statistics and features, to give them as --data "
            "another time.",
            rich_help_panel=_SETS,
        ),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(
            "-n",
            min=2,
            help="Pictures that a text-to-image model draws; default: one of each validation "
            "caption, 1000 at most.",
            rich_help_panel=_SETS,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=2**32 - 1, help="Of their noise [default: 0].", rich_help_panel=_SETS
        ),
    ] = None,
    truncation: Annotated[
        float | None,
        typer.Option(
            help="Of their noise, see `jaxgen generate` [default: 1].", rich_help_panel=_SETS
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the numbers to this file.")
    ] = None,
) -> None:
    """Measure a model on data, or a folder of generated pictures against another.

    A super-resolution model: PSNR and SSIM on a folder of pictures, with bicubic beside; LPIPS and
    blur are of RGB, without the shaved border, and blur is also given of the originals. A
    text-to-image model, or a folder of pictures: distances between sets, and what the captions of
    captioned shapes say. docs/metrics.md has what each number is.
    """
    sr_given = {
        "--gray": gray, "--shave": shave, "--scale": scale, "--lpips": lpips, "--blur": blur or None
    }  # fmt: skip
    drawing = {"-n": n, "--seed": seed, "--truncation": truncation}
    sets = {
        "--inception": inception, "--resize": resize, "--splits": splits,
        "--save-statistics": save_statistics,
    }  # fmt: skip
    if save_statistics and save_statistics.suffix != ".npz":
        raise UserError(f"{save_statistics}: statistics end in .npz")
    for path in (json_file, save_statistics):
        if path:
            from jaxgen.verbs.files import check_writable

            check_writable(path.parent)
    options = Options(
        inception,
        resize.value if resize else None,
        splits,
        save_statistics,
        n,
        seed or 0,
        1.0 if truncation is None else truncation,
    )
    if pictures is not None:
        _refuse({"--model": model}, "measures a model; with --pictures there is none")
        _refuse(sr_given, "is for super-resolution, not for --pictures")
        _refuse(drawing, "is for pictures that a model draws, not for --pictures")
        if data is None:
            raise UserError("--pictures needs --data: the folder or .npz to compare with")
        report = evaluate_pictures(pictures, data, options)
        return _finish(report, f"{pictures} against {data}", json_file)
    name = model or DEFAULT_MODEL
    opened = None
    if name != "bicubic":
        from jaxgen.runs.model import load

        opened = load(name)
        if "generate" in opened.verbs:
            _refuse(sr_given, f"is for super-resolution; {name} draws pictures of texts")
            report = evaluate_model(opened, data, options)
            return _finish(report, f"{name} against {data or 'its validation data'}", json_file)
    _refuse({**sets, **drawing}, f"is for generated pictures; {name} is measured by PSNR and SSIM")
    if data is None:
        raise UserError("--data is needed: the folder of originals")
    _super_resolution(
        opened, name, data, gray or Gray.keep, shave, scale, lpips or [], blur, json_file
    )


def _refuse(given: dict[str, Any], why: str) -> None:
    for option, value in given.items():
        if value is not None and value != []:
            raise UserError(f"{option} {why}")


def _finish(report: dict[str, Any], title: str, json_file: Path | None) -> None:
    show(report, title)
    if json_file:
        write_report(json_file, report)


def _super_resolution(
    opened: Model | None,
    model: str,
    data: Path,
    gray: Gray,
    shave: int | None,
    scale: int | None,
    lpips: list[Path],
    blur: bool,
    json_file: Path | None,
) -> None:
    from jaxgen.data.sr.examples import folder_pairs
    from jaxgen.evaluation.sr import compare

    measures = _further_measures(lpips, blur)
    if opened and scale not in (None, opened.scale):
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
        write_report(json_file, report)


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
        from jaxgen.encoders import lpips

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
