"""What `jaxgen generate --upscale` does: each picture a second time, enlarged by another model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.data.picture_files import read_image, write_image
from jaxgen.errors import UserError
from jaxgen.verbs.files import FORMATS
from jaxgen.verbs.generate.base import TextToImage
from jaxgen.verbs.generate.files import How, Strip, noted, pictures
from jaxgen.verbs.upscale.use import Upscaler


def place(path: Path, scale: int) -> Path:
    """Where the enlarged picture of a file lies: NAME_x4.png."""
    return path.with_name(f"{path.stem}_x{scale}{path.suffix}")


def check_fits(path: Path, size: tuple[int, int], scale: int) -> None:
    """Raises UserError if the format of a file can't hold the enlarged (height, width)."""
    most = FORMATS.get(path.suffix.lower(), 2**31 - 1)
    if max(size) * scale > most:
        raise UserError(
            f"{path}: {path.suffix} holds {most} pixels on a side, not {max(size) * scale}; use "
            ".png"
        )


def write_alone(
    generate: TextToImage[Any],
    strip: Strip,
    out: Path,
    how: How,
    moved: Callable[[], None],
    upscale: Upscaler | None,
) -> None:
    """Draws one picture and writes it as it is, beside it what `upscale` makes of it.

    Args: moved: called now and then; raises what is to end the work.
    """
    ((picture, _),) = pictures(generate, [strip], how)
    moved()
    note = noted(how, strip, 0)
    if upscale is not None:
        _write(upscale, picture, place(out, upscale.scale), note, moved)
    write_image(out, picture, note=note)  # last: with it the work is done


def write_folder(
    strips: Sequence[Strip],
    folder: Path,
    how: How,
    moved: Callable[[], None],
    upscale: Upscaler,
    overwrite: bool,
) -> int:
    """Enlarges a folder's pictures, those that were not yet; gives their number."""
    count = 0
    for strip in strips:
        for i, cell in enumerate(strip.cells):
            source = folder / f"{cell.name}.png"
            target = place(source, upscale.scale)
            if overwrite or not target.exists():
                _write(upscale, read_image(source), target, noted(how, strip, i), moved)
                count += 1
    return count


def _write(
    upscale: Upscaler,
    picture: np.ndarray,
    path: Path,
    note: str,
    moved: Callable[[], None],
) -> None:
    large = upscale(picture, progress=lambda done, count: moved())
    write_image(path, large, note=note)
