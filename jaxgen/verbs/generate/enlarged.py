"""What `jaxgen generate --upscale` does: each picture a second time, enlarged by another model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxgen.data.picture_files import read_image, write_image
from jaxgen.verbs.generate.base import TextToImage
from jaxgen.verbs.generate.files import How, Strip, noted, pictures
from jaxgen.verbs.upscale import beside
from jaxgen.verbs.upscale.use import Upscaler


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
        beside.write(upscale, picture, beside.place(out, upscale.scale), note, moved)
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
            target = beside.place(source, upscale.scale)
            if overwrite or not target.exists():
                beside.write(upscale, read_image(source), target, noted(how, strip, i), moved)
                count += 1
    return count
