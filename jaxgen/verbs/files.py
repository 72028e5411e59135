"""What the verbs' commands share: file formats, writable folders, errors that end everything."""

from __future__ import annotations

import errno
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxgen.data.picture_files import list_images
from jaxgen.errors import UserError

# Written by file name ending; and the largest side that the format can hold.
FORMATS = {".png": 2**31 - 1, ".jpg": 65535, ".jpeg": 65535, ".webp": 16383}
# After these every further picture would fail as well.
FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def check_writable(folder: Path) -> None:
    """Before minutes of work: makes the folder, and a file in it for a moment.

    Raises:
      UserError: the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # By a random name: containers that share a folder have the same process numbers.
        tempfile.NamedTemporaryFile(dir=folder, prefix=".jaxgen.").close()
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror}; choose another folder"
        ) from None


def fatal(error: BaseException) -> bool:
    """True for a full or read-only disk, at which the pictures that follow would fail too."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in FATAL:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def naming(source: Path, error: Exception) -> str:
    """The error's text, with the picture's path in it."""
    return str(error) if str(source) in str(error) else f"{source}: {error}"


def plan_outputs(
    photos: list[Path], out: Path, format: str | None = None, ending: str | None = None
) -> list[tuple[Path, Path]]:
    """(source, target) of each picture; folders keep their tree below `out`.

    Args:
      format: of the pictures that are written, where a folder takes them; None: png.
      ending: of what is written, where it is no picture.

    The order is the natural one: frame_2 before frame_10. Pictures below an `out` that lies inside
    of a folder are results, and none of its pictures.

    Raises:
      UserError: nothing there, OUT does not suit, or a target would replace a source.
    """
    found: list[tuple[Path, Path]] = []  # source, its path below OUT
    for photo in photos:
        files = _without_results(list_images(photo), photo.expanduser(), out)
        if not files:
            raise UserError(f"{photo}: no pictures in this folder")
        files.sort(key=_natural)
        base = photo.expanduser()
        found += [(f, f.relative_to(base) if base.is_dir() else Path(f.name)) for f in files]
    found = list(dict.fromkeys(found))

    one_file = len(photos) == 1 and not photos[0].expanduser().is_dir()
    suffix, allowed = out.suffix.lower(), FORMATS if ending is None else (ending,)
    if one_file and suffix and not out.is_dir():
        if suffix not in allowed:
            what = ending or ".png, .jpg or .webp"
            raise UserError(f"{out}: cannot write {suffix}; use {what}, or a folder")
        if format and suffix.replace("jpeg", "jpg") != f".{format}":
            raise UserError(f"--format {format} contradicts the name {out}; give one of the two")
        jobs = [(found[0][0], out)]
    else:
        if suffix in allowed and not out.is_dir():
            raise UserError(f"{out}: several pictures need a folder to write to")
        jobs = list(
            zip(
                [f for f, _ in found],
                _targets(out, found, ending or f".{format or 'png'}"),
                strict=True,
            )
        )
    sources = {f.resolve() for f, _ in jobs}
    for source, target in jobs:
        if target.resolve() in sources:
            raise UserError(
                f"{target} would replace an input picture ({source}): choose another OUT"
            )
    return jobs


def _without_results(files: list[Path], base: Path, out: Path) -> list[Path]:
    base, out = base.resolve(), out.resolve()
    if base == out or not out.is_relative_to(base) or not base.is_dir():
        return files
    return [file for file in files if not file.resolve().is_relative_to(out)]


def _natural(path: Path) -> list[Any]:
    """Sorts numbers in names by their value."""
    parts = re.split(r"(\d+)", path.as_posix())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]


def _targets(out: Path, found: list[tuple[Path, Path]], ending: str) -> Iterator[Path]:
    """Below `out` the picture's name with the new ending; where two would meet, both in full."""
    short = [place.with_suffix(ending) for _, place in found]
    full = [place.with_name(place.name + ending) for _, place in found]
    count = Counter(short)
    chosen = [f if count[s] > 1 else s for s, f in zip(short, full, strict=True)]
    count = Counter(chosen)
    for (source, _), target in zip(found, chosen, strict=True):
        if count[target] > 1:
            raise UserError(f"two pictures would be written to {out / target}; one is {source}")
        yield out / target
