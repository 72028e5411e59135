"""`jaxgen eval upscale`."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxgen.cli.common import DEFAULT_MODEL, JsonFile, ShardText, console
from jaxgen.errors import UserError


class Gray(enum.StrEnum):
    """How gray originals are measured."""

    keep = "keep"
    replicate = "replicate"


def upscale(
    parts: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="With --join: the shares' --json files."),
    ] = None,
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
    shard: ShardText = None,
    join: Annotated[
        bool,
        typer.Option(
            "--join", help="Put the shares' files together to the numbers of the whole folder."
        ),
    ] = False,
) -> None:
    """Measure a super-resolution model: PSNR and SSIM on a folder of pictures, bicubic beside.

    What is measured besides sees the pictures in RGB, without the shaved border; what needs no
    reference is also given of the originals. docs/metrics.md has what each number is.

    A large folder by shares: `--shard 1/16 --json out/1.json`, and so on; then
    `jaxgen eval upscale --join out/*.json`. A share whose file is there is not measured again.
    """
    if parts and not join:
        raise UserError(f"unexpected {parts[0]}: files are given with --join alone")
    if json_file:
        from jaxgen.verbs.files import check_writable

        check_writable(json_file.parent)
    if join:
        if data is not None or shard is not None:
            raise UserError("--join takes the shares' files, and no --data or --shard")
        _join(parts or [], json_file)
        return
    if data is None:
        raise UserError("--data is needed: the folder of originals")
    if shard is not None and json_file is None:
        raise UserError(f"--shard {shard} needs --json FILE: what --join puts together")
    asked: dict[str, list[Path]] = {}
    for name, equals, file in (one.partition("=") for one in measure or []):
        asked.setdefault(name, []).extend([Path(file)] if equals else [])
    if lpips:
        asked.setdefault("lpips", []).extend(lpips)
    if blur:
        asked.setdefault("blur", [])

    from jaxgen.data.shard import digest, read_shard
    from jaxgen.data.sr.examples import folder_pairs, pair_names
    from jaxgen.evaluation import report, shards, sr

    share = None if shard is None else read_shard(shard)
    opened = None
    if model != "bicubic":
        from jaxgen.runs.model import load

        opened = load(model)
    if opened and scale not in (None, opened.scale):
        raise UserError(f"{model} upscales by {opened.scale}, not by {scale}")
    factor = opened.scale if opened else scale or 4
    border = factor if shave is None else shave
    about: dict[str, Any] = {
        "model": model,
        "step": opened.step if opened else None,
        "data": str(data),
        "scale": factor,
        "shave": border,
        "gray": gray.value,
    }
    enlarge = opened.upscale if opened else None
    pairs = folder_pairs(data, factor, gray.value, share)
    if share is not None and json_file is not None:
        weights = {name: [str(file) for file in files] for name, files in asked.items()}
        about |= dict(
            zip(shards.OF_SHARES, (weights, digest(pair_names(data, factor))), strict=True)
        )
        if shards.is_written(json_file, share, about):
            print(f"share {share} was there already: {json_file}")
            return
        images = list(sr.measured(enlarge, pairs, sr.chosen(asked), border, gray.value))
        shards.write_share(json_file, share, about, images)
        print(f"{json_file}  share {share}, {len(images)} pictures")
        return
    scores = sr.measure(enlarge, pairs, asked, shave=border, gray=gray.value)
    report.show_scores(scores, _title(about), console())
    if json_file:
        report.write_report(json_file, {**about, "mean": scores.mean, "images": scores.images})


def _title(about: Mapping[str, Any]) -> str:
    return "{model} x{scale} on {data} (shave {shave}, gray {gray})".format(**about)


def _join(parts: list[Path], json_file: Path | None) -> None:
    from jaxgen.evaluation import report, shards

    about, scores = shards.join(parts)
    report.show_scores(scores, _title(about), console())
    if json_file:
        about = {key: value for key, value in about.items() if key not in shards.OF_SHARES}
        report.write_report(json_file, {**about, "mean": scores.mean, "images": scores.images})
