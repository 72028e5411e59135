"""`jaxgen eval upscale`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from jaxgen.cli.common import DEFAULT_MODEL, JsonFile, console
from jaxgen.errors import UserError


class Gray(enum.StrEnum):
    """How gray originals are measured."""

    keep = "keep"
    replicate = "replicate"


def upscale(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of originals, or of HR and LR pairs; without an LR folder the small "
            "pictures are made by MATLAB-exact bicubic resizing."
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="A run's folder, an exported model's folder, a bundled model, or 'bicubic' alone."
        ),
    ] = DEFAULT_MODEL,
    gray: Annotated[
        Gray,
        typer.Option(
            help="Gray originals: measured as gray (as the MATLAB scripts do), or replicated to "
            "RGB first, which reads 1.3 dB higher on them."
        ),
    ] = Gray.keep,
    shave: Annotated[
        int | None, typer.Option(min=0, help="Border pixels left out. Default: the scale.")
    ] = None,
    scale: Annotated[
        int | None, typer.Option(min=2, help="Scale for --model bicubic. Default: 4.")
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=FILE]",
            help="Also measure this, one of `jaxgen.evaluation.sr.MEASURES`; a file of its weights "
            "after =, once for each file.",
        ),
    ] = None,
    lpips: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Also measure LPIPS v0.1, with these weights: torchvision's AlexNet, VGG16 or "
            "SqueezeNet 1.1 and the heads of it, as --lpips TRUNK --lpips HEADS; or one file with "
            "both. The same as --measure lpips=FILE.",
        ),
    ] = None,
    blur: Annotated[
        bool,
        typer.Option(
            "--blur",
            help="Also measure blur without reference: 0 sharp, 1 blurred. The same as --measure "
            "blur.",
        ),
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Measure a super-resolution model: PSNR and SSIM on a folder of pictures, bicubic beside.

    What is measured besides sees the pictures in RGB, without the shaved border; what needs no
    reference is also given of the originals. docs/metrics.md has what each number is.
    """
    if data is None:
        raise UserError("--data is needed: the folder of originals")
    if json_file:
        from jaxgen.verbs.files import check_writable

        check_writable(json_file.parent)
    asked: dict[str, list[Path]] = {}
    for name, equals, file in (one.partition("=") for one in measure or []):
        asked.setdefault(name, []).extend([Path(file)] if equals else [])
    if lpips:
        asked.setdefault("lpips", []).extend(lpips)
    if blur:
        asked.setdefault("blur", [])

    from jaxgen.data.sr.examples import folder_pairs
    from jaxgen.evaluation import report, sr

    opened = None
    if model != "bicubic":
        from jaxgen.runs.model import load

        opened = load(model)
    if opened and scale not in (None, opened.scale):
        raise UserError(f"{model} upscales by {opened.scale}, not by {scale}")
    factor = opened.scale if opened else scale or 4
    border = factor if shave is None else shave
    scores = sr.measure(
        opened.upscale if opened else None,
        folder_pairs(data, factor, gray=gray.value),
        asked,
        shave=border,
        gray=gray.value,
    )
    title = f"{model} x{factor} on {data} (shave {border}, gray {gray.value})"
    report.show_scores(scores, title, console())
    if json_file:
        about = {
            "model": model,
            "step": opened.step if opened else None,
            "data": str(data),
            "scale": factor,
            "shave": border,
            "gray": gray.value,
        }
        report.write_report(json_file, {**about, "mean": scores.mean, "images": scores.images})
