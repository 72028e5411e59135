"""A picture that was drawn or edited a second time, enlarged by another model: NAME_x4.png."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxgen.data.picture_files import write_image
from jaxgen.errors import UserError
from jaxgen.verbs.files import FORMATS
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


def write(
    upscale: Upscaler, picture: np.ndarray, path: Path, note: str, moved: Callable[[], None]
) -> None:
    """Writes what `upscale` makes of a picture, uint8 (h, w, 3), to `path`.

    Args: note: what a PNG says of itself. moved: called now and then; raises what is to end the
      work.
    """
    large = upscale(picture, progress=lambda done, count: moved())
    write_image(path, large, note=note)
