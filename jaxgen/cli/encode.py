"""`jaxgen reconstruct`, `jaxgen encode` and `jaxgen decode`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxgen.cli.common import interruptible, is_there
from jaxgen.errors import UserError

Photos = Annotated[
    list[Path], typer.Argument(metavar="PHOTO", help="Pictures, or folders of pictures.")
]
Out = Annotated[
    Path,
    typer.Option("--out", "-o", help="The folder to write to; for one picture also a file name."),
]
ModelName = Annotated[
    str,
    typer.Option(
        help="A run's folder, an exported model's folder, or a bundled model, of a family that "
        "encodes pictures, such as vqgan."
    ),
]
Tile = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Side of the tiles in pixels, for a model without attention and normalisation over "
        "the picture: others take pictures whole. The result is the same. Default: what memory "
        "allows.",
    ),
]
Overwrite = Annotated[bool, typer.Option(help="Replace files that are there.")]
# (source, target) -> what is printed of it
Work = Callable[[Path, Path], str]


def reconstruct(
    photos: Photos, out: Out, model: ModelName, tile: Tile = None, overwrite: Overwrite = False
) -> None:
    """Encode pictures and decode them again: what a model's codes keep of them.

    Sizes that are no multiples of the model's factor are mirrored up to one and cut back. A picture
    that can't be read is named and the others are done; exit code 1.
    """
    from jaxgen.verbs.encode.files import read_picture, write_picture
    from jaxgen.verbs.files import plan_outputs

    jobs = plan_outputs(photos, out.expanduser())
    coder = _opened(model, jobs, overwrite)
    kind = coder.verb.kind

    def work(source: Path, target: Path) -> str:
        from jaxgen.metrics.psnr_ssim import psnr

        picture = read_picture(source, kind)
        size = (picture.shape[0], picture.shape[1])
        codes = coder(picture, tile)
        again = coder.decode(codes, size, tile)
        if kind == "photo" and picture.ndim == 2:
            again = coder.gray(again)
        write_picture(target, again, kind)
        near = f"  PSNR {psnr(again, picture):.2f} dB" if kind == "photo" else ""
        return f"{_about(coder, codes, size)}{near}"

    _each(jobs, work)


def encode(
    photos: Photos, out: Out, model: ModelName, tile: Tile = None, overwrite: Overwrite = False
) -> None:
    """Encode pictures to codes: a .npz for each, which `jaxgen decode` turns back into a picture.

    It holds the codes, the picture's size, and the fingerprint of the model's weights.
    """
    from jaxgen.verbs.encode.files import SUFFIX, read_picture, write_codes
    from jaxgen.verbs.files import plan_outputs

    jobs = plan_outputs(photos, out.expanduser(), ending=SUFFIX)
    coder = _opened(model, jobs, overwrite)

    def work(source: Path, target: Path) -> str:
        picture = read_picture(source, coder.verb.kind)
        size = (picture.shape[0], picture.shape[1])
        codes = coder(picture, tile)
        taken = write_codes(target, coder, codes, size)
        return f"{_about(coder, codes, size)}  {taken:,} bytes"

    _each(jobs, work)


def decode(
    files: Annotated[list[Path], typer.Argument(metavar="CODES", help="Files of jaxgen encode.")],
    out: Out,
    model: ModelName,
    tile: Tile = None,
    overwrite: Overwrite = False,
) -> None:
    """Decode files of codes to pictures, by the model that encoded them."""
    from jaxgen.verbs.encode.files import read_codes, write_picture
    from jaxgen.verbs.files import FORMATS

    out = out.expanduser()
    if out.suffix.lower() in FORMATS and not out.is_dir():
        if len(files) > 1:
            raise UserError(f"{out}: several files need a folder to write to")
        jobs = [(files[0], out)]
    else:
        jobs = [(file, out / file.with_suffix(".png").name) for file in files]
    coder = _opened(model, jobs, overwrite)

    def work(source: Path, target: Path) -> str:
        found = read_codes(source, coder)
        write_picture(target, coder.decode(found.codes, found.size, tile), coder.verb.kind)
        return f"{found.size[1]}x{found.size[0]}"

    _each(jobs, work)


def _opened(model: str, jobs: list[tuple[Path, Path]], overwrite: bool) -> Any:
    """The model's verb, after what can be refused without it."""
    from jaxgen.verbs.files import check_writable

    for _, target in jobs:
        if not overwrite and is_there(target):
            raise UserError(f"{target} exists; give --overwrite to replace it")
    for folder in dict.fromkeys(target.parent for _, target in jobs):
        check_writable(folder)
    from jaxgen.runs.model import load

    return load(model).encode


def _each(jobs: list[tuple[Path, Path]], work: Work) -> None:
    from jaxgen.verbs.files import fatal, naming

    failed = 0
    with interruptible() as check:
        for source, target in jobs:
            check()
            try:
                print(f"{target}  {work(source, target)}", flush=True)
            except (UserError, OSError, MemoryError) as error:
                if len(jobs) == 1 or fatal(error):
                    raise
                failed += 1
                print(f"error: {naming(source, error)}", file=sys.stderr)
    if failed:
        print(f"{failed} of {len(jobs)} files failed", file=sys.stderr)
        raise typer.Exit(1)


def _about(coder: Any, codes: Any, size: tuple[int, int]) -> str:
    """ "100x60 (mirrored to 112x64)  7x4 codes  0.05 bits per pixel"."""
    height, width = (n * coder.factor for n in codes.shape[:2])
    mirrored = "" if (height, width) == size else f" (mirrored to {width}x{height})"
    kind = "codes" if coder.codes else f"latents of {codes.shape[2]}"
    text = f"{size[1]}x{size[0]}{mirrored}  {codes.shape[1]}x{codes.shape[0]} {kind}"
    return (
        f"{text}  {coder.bits_per_pixel(codes, size):.4g} bits per pixel" if coder.codes else text
    )
