"""What `jaxgen complete` does with files: one sheet, or a folder of PNGs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxgen.data.picture_files import write_image
from jaxgen.errors import UserError
from jaxgen.verbs.files import FORMATS

GAP = 2  # pixels between the pictures of a file


def is_folder(out: Path) -> bool:
    """Whether OUT means a folder, not one file.

    Raises:
      UserError: a file's name of another format.
    """
    if out.is_dir() or not out.suffix:
        return True
    if out.suffix.lower() not in FORMATS:
        raise UserError(f"{out}: cannot write {out.suffix}; use .png, .jpg or .webp, or a folder")
    return False


def write(pictures: np.ndarray, out: Path, stem: str, seed: int, first: int) -> list[Path]:
    """Writes pictures uint8 (n, h, w, 3) to a folder each, or side by side to one file.

    Returns: what was written.
    """
    if is_folder(out):
        paths = [out / f"{stem}_seed{seed}_{first + i}.png" for i in range(len(pictures))]
        for path, picture in zip(paths, pictures, strict=True):
            write_image(path, picture)
        return paths
    gap = np.full((pictures.shape[1], GAP, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)][1:]
    write_image(out, np.concatenate(parts, axis=1), mark="sheet" if len(pictures) > 1 else "")
    return [out]
