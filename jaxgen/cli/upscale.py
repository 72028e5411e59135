"""`jaxgen upscale`."""

from __future__ import annotations

import contextlib
import enum
import functools
import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxgen.cli.common import PHOTO_MODEL, PHOTO_MODEL_X2, ShardText, interruptible, is_there
from jaxgen.errors import UserError


class Format(enum.StrEnum):
    """File formats that `upscale` writes."""

    png = "png"
    jpg = "jpg"
    webp = "webp"
    tif = "tif"
    gif = "gif"


class Depth(enum.StrEnum):
    """Bits a channel that `upscale` writes."""

    eight = "8"
    sixteen = "16"


def upscale(
    photos: Annotated[
        list[Path],
        typer.Argument(metavar="PHOTO", help="Pictures, folders of pictures or frames, videos."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The folder to write to; for one picture also a file name. Default: beside the "
            "input, as NAME_x4.png, or FOLDER_x4.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A run's folder, an exported model's folder, or a bundled model (`jaxgen "
            f"models`). Default: {PHOTO_MODEL}, and up to --scale 2 {PHOTO_MODEL_X2}, for photos "
            "that were saved as JPEG. Of clean small pictures srgan_x4 makes sharp ones with "
            "likely detail; srresnet_x4 is closer to the original."
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Side of the tiles in input pixels. The result is the same without; smaller "
            "tiles need less memory and more time. Default: what memory allows.",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Tiles, or frames of one size, per device at a time. Default: 1 on a CPU, else "
            "what memory allows.",
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=16,
            help="Enlarge by this factor: the model's result, resized by Lanczos' filter. "
            "Default: the model's own.",
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            help="What the picture shows, in words, for a model that takes a prompt (family "
            "prompt_srgan). Words that the model does not know are named."
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            help="How much the prompt counts: 0 not at all, above 1 overstated. Default: 1."
        ),
    ] = None,
    show_attention: Annotated[
        bool,
        typer.Option(
            "--show-attention",
            help="Also write NAME_attention.png beside each result: the picture once per word of "
            "the prompt, glowing where the network attended to that word (mean over its attention "
            "heads and layers; the number is the largest share).",
        ),
    ] = False,
    format: Annotated[
        Format | None,
        typer.Option(
            help="File format; by default OUT's, else png, and of animations and pages their own."
        ),
    ] = None,
    depth: Annotated[
        Depth | None,
        typer.Option(
            help="Bits a channel of PNG and TIFF. Default: 16 where the picture has more than 8."
        ),
    ] = None,
    any_size: Annotated[
        bool,
        typer.Option(
            "--any-size",
            help="Also read pictures of more than 179 megapixels, or with more than 1 MiB of text: "
            "limits that guard against hostile files.",
        ),
    ] = False,
    shard: ShardText = None,
    overwrite: Annotated[
        bool, typer.Option(help="Replace pictures that are there; otherwise they are left out.")
    ] = False,
) -> None:
    """Enlarge photos, and videos.

    Gray stays gray, transparency is kept (PNG, WebP, TIFF), EXIF rotation is applied. Colour
    profile, resolution, EXIF and texts are kept as far as the format holds them. Animations and
    TIFF pages are done frame by frame.

    Videos keep their sound and the times of their frames; PyAV (pip install av) or ffmpeg does it.

    With --shard every share writes its own pictures into the same OUT.

    A picture that can't be read is named and the others are done; exit code 1. The same command
    again goes on where an interrupted one stopped.
    """
    from jaxgen.data.picture_open import allow_any_size
    from jaxgen.data.shard import read_shard
    from jaxgen.verbs.files import check_writable, fatal, naming, plan_outputs
    from jaxgen.verbs.upscale.files import How
    from jaxgen.verbs.upscale.videos import is_video, plan_videos, upscale_all

    if scale is not None and math.isnan(scale):
        raise UserError("--scale must be a number")
    if prompt is None and (show_attention or strength is not None):
        raise UserError(f"{'--show-attention' if show_attention else '--strength'} needs --prompt")
    share = read_shard(shard) if shard is not None else None
    if any_size:
        allow_any_size()
    out = out.expanduser() if out else None
    default = PHOTO_MODEL if scale is None or scale > 2 else PHOTO_MODEL_X2
    chosen = default if model is None else model
    opened = functools.cache(lambda: _open(chosen))

    def suffix() -> str:
        return f"_x{scale or opened().scale:g}"

    videos = [photo for photo in photos if is_video(photo)]
    pictures = [photo for photo in photos if not is_video(photo)]
    if videos and pictures and out and out.suffix and not out.is_dir():
        raise UserError(f"{out}: pictures and videos need a folder to write to")
    jobs = plan_outputs(pictures, out, format.value if format else None, suffix=suffix)
    jobs += plan_videos(videos, out, suffix)
    single = len(jobs) == 1
    if not overwrite and single and not share and is_there(jobs[0][1]):
        raise UserError(f"{jobs[0][1]} exists; give --overwrite to replace it")
    folders = [out] if out and not single else [target.parent for _, target in jobs]
    for folder in dict.fromkeys(folders):
        check_writable(folder)
    if share is not None:
        jobs = share.of(jobs)
        if not jobs:
            print(f"share {share} is empty: there are fewer pictures than shares")
            return

    from tqdm import tqdm

    from jaxgen.data.text.tokens import complaint

    enlarge = opened().upscale
    if prompt is not None:
        asked = enlarge.read(prompt)
        enlarge = enlarge.asking(asked, **({} if strength is None else {"strength": strength}))
        if show_attention:
            enlarge.check_attention()
        if problem := complaint(asked):
            print(f"warning: {problem}", file=sys.stderr)
    todo = [job for job in jobs if overwrite or not is_there(job[1])]
    failed, skipped, finished = 0, len(jobs) - len(todo), 0
    style = "{l_bar}{bar}| {n:.1f}/{total} [{elapsed}<{remaining}, {rate_fmt}]"
    # disable=None: no bar where stderr is not a terminal.
    with (
        interruptible() as check,
        tqdm(total=len(jobs), initial=skipped, unit="photo", disable=None, bar_format=style) as bar,
    ):

        def moved(done: float) -> None:
            check()
            bar.update(skipped + done - bar.n)

        def say(text: str, file: Any) -> None:
            with bar.external_write_mode(file=file):
                print(text, file=file, flush=True)

        how = How(tile, batch, scale, int(depth.value) if depth else None)
        work = upscale_all(enlarge, todo, moved, how, f"{prompt} {strength}")
        with contextlib.closing(work) as outcomes:
            for source, target, size, took, error, remark in outcomes:
                if size:
                    more = f"  {remark}" if remark else ""
                    say(f"{target}  {size[1]}x{size[0]}  {took:.1f} s{more}", sys.stdout)
                    if show_attention and not is_video(source):
                        say(f"{_write_attention(enlarge, source, target)}", sys.stdout)
                elif error and fatal(error):
                    left = len(todo) - finished
                    raise UserError(f"{error}; {left} pictures left") from error
                elif error:
                    failed += 1
                    say(f"error: {naming(source, error)}", sys.stderr)
                finished += 1
    if skipped:
        print(f"{skipped} of {len(jobs)} were there already (--overwrite replaces them)")
    if failed:
        print(f"{failed} of {len(jobs)} pictures failed", file=sys.stderr)
        raise typer.Exit(1)


def _open(model: str) -> Any:
    from jaxgen.runs.model import load

    return load(model)


def _write_attention(enlarge: Any, source: Path, target: Path) -> Path:
    """The sheet of attention maps beside an upscaled picture."""
    import numpy as np

    from jaxgen.data.picture_files import read_image, write_image
    from jaxgen.verbs.upscale.attention import heat_sheet, sheet_path

    words, maps = enlarge.attention(read_image(source))
    path = sheet_path(target)
    write_image(path, np.asarray(heat_sheet(read_image(target), words, maps)), mark="sheet")
    return path
