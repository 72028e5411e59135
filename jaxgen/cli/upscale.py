"""`jaxgen upscale`."""

from __future__ import annotations

import enum
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxgen.cli.common import DEFAULT_MODEL, interruptible
from jaxgen.errors import UserError


class Format(enum.StrEnum):
    """File formats that `upscale` writes."""

    png = "png"
    jpg = "jpg"
    webp = "webp"


def upscale(
    photos: Annotated[
        list[Path], typer.Argument(metavar="PHOTO", help="Pictures, or folders of pictures.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="The folder to write to; for one picture also a file name."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="A run's folder, an exported model's folder, or a bundled model (`jaxgen "
            "models`). srgan_x4 gives sharp pictures with likely detail; srresnet_x4 is softer "
            "and closer to the original."
        ),
    ] = DEFAULT_MODEL,
    tile: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Side of the tiles in input pixels. The result is the same without; smaller "
            "tiles need less memory and more time. Default: what memory allows.",
        ),
    ] = None,
    format: Annotated[
        Format | None, typer.Option(help="File format; by default OUT's, else png.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option(help="Replace pictures that are there; otherwise they are left out.")
    ] = False,
) -> None:
    """Enlarge photos.

    Gray stays gray, transparency is kept (PNG, WebP), EXIF rotation is applied.

    A picture that can't be read is named and the others are done; exit code 1.
    """
    from jaxgen import upscale_files

    out = out.expanduser()
    jobs = upscale_files.plan_outputs(photos, out, format.value if format else None)
    single = len(jobs) == 1
    if not overwrite and single and jobs[0][1].exists():
        raise UserError(f"{jobs[0][1]} exists; give --overwrite to replace it")
    upscale_files.check_writable(jobs[0][1].parent if single else out)

    from tqdm import tqdm

    from jaxgen.run import load

    opened = load(model)
    _ = opened.scale  # a model that does not upscale is refused here, not once per picture
    failed = skipped = 0
    style = "{l_bar}{bar}| {n:.1f}/{total} [{elapsed}<{remaining}]"
    # disable=None: no bar where stderr is not a terminal.
    with (
        interruptible() as check,
        tqdm(total=len(jobs), unit="photo", disable=None, bar_format=style) as bar,
    ):

        def moved(done: int, total: int) -> None:
            check()
            bar.update(index + done / total - bar.n)

        def say(text: str, file: Any) -> None:
            with bar.external_write_mode(file=file):
                print(text, file=file, flush=True)

        for index, (source, target) in enumerate(jobs):
            if target.exists() and not overwrite:
                skipped += 1
            else:
                try:
                    began = time.monotonic()
                    size = upscale_files.upscale_file(opened, source, target, tile, moved)
                    took = time.monotonic() - began
                    say(f"{target}  {size[1]}x{size[0]}  {took:.1f} s", sys.stdout)
                except (UserError, OSError) as error:
                    if upscale_files.fatal(error):
                        raise UserError(f"{error}; {len(jobs) - index} pictures left") from error
                    failed += 1
                    say(f"error: {upscale_files.naming(source, error)}", sys.stderr)
            moved(1, 1)
    if skipped:
        print(f"{skipped} of {len(jobs)} were there already (--overwrite replaces them)")
    if failed:
        print(f"{failed} of {len(jobs)} pictures failed", file=sys.stderr)
        raise typer.Exit(1)
