"""What the verbs' commands share: file formats, writable folders, errors that end everything."""

from __future__ import annotations

import errno
import functools
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from jaxgen.data.picture_files import list_images
from jaxgen.data.picture_frames import KEPT, frames_of
from jaxgen.errors import UserError

# Written by file name ending; and the largest side that the format can hold.
FORMATS = {
    ".png": 2**31 - 1, ".apng": 2**31 - 1, ".jpg": 65535, ".jpeg": 65535, ".jfif": 65535,
    ".webp": 16383, ".tif": 2**31 - 1, ".tiff": 2**31 - 1, ".gif": 65535,
}  # fmt: skip
# Names of results beside their pictures.
_RESULT = re.compile(r"(.+)(?:_x[0-9.]+|_again)")
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


class _Found(NamedTuple):
    source: Path
    place: Path  # below OUT
    base: Path  # what it was found in: a folder, or its own path


def plan_outputs(
    photos: list[Path],
    out: Path | None,
    format: str | None = None,
    ending: str | None = None,
    suffix: Callable[[], str] = lambda: "_again",
) -> list[tuple[Path, Path]]:
    """(source, target) of each picture; folders keep their tree below `out`.

    Args:
      out: a folder, or for one picture a file's name. None: beside the input, NAME_x4.png of a
        picture and FOLDER_x4 of a folder.
      format: of the pictures that are written, where a folder takes them; None: png, and the file's
        own for animations and pages.
      ending: of what is written, where it is no picture.
      suffix: gives what is added to the name of a result that lies beside its picture, "_x4".

    The order is the natural one: frame_2 before frame_10. Results of an earlier run are none of the
    pictures: what lies below an `out` that lies inside of a folder, and NAME_x4 beside NAME (left
    out of a folder with a warning where the results go elsewhere now).

    Raises:
      UserError: nothing there, OUT does not suit, or a target would replace a source.
    """
    found: list[_Found] = []
    for photo in photos:
        base = photo.expanduser()
        files = list_images(photo)
        if out is not None:
            files = _without_results(files, base, out)
        if not files:
            raise UserError(f"{photo}: no pictures in this folder")
        files.sort(key=_natural)
        places = [f.relative_to(base) if base.is_dir() else Path(f.name) for f in files]
        found += [_Found(f, place, base) for f, place in zip(files, places, strict=True)]
    found = list({(one.source, one.place): one for one in found}.values())

    one_file = len(photos) == 1 and not photos[0].expanduser().is_dir()
    if not found:
        return []
    allowed = FORMATS if ending is None else (ending,)
    if out is not None and one_file and out.suffix and not out.is_dir():
        if out.suffix.lower() not in allowed:
            what = ending or ".png, .jpg, .webp, .tif or .gif"
            raise UserError(f"{out}: cannot write {out.suffix}; use {what}, or a folder")
        if format and _kind(out.suffix) != _kind(f".{format}"):
            raise UserError(f"--format {format} contradicts the name {out}; give one of the two")
        jobs = [(found[0].source, out)]
    else:
        if out is not None and out.suffix.lower() in allowed and not out.is_dir():
            raise UserError(f"{out}: several pictures need a folder to write to")
        jobs = _in_folders(found, out, format, ending, suffix)
    sources = {f.resolve() for f, _ in jobs}
    for source, target in jobs:
        if target.resolve() in sources:
            raise UserError(
                f"{target} would replace an input picture ({source}): choose another OUT"
            )
    return jobs


def _kind(suffix: str) -> str:
    return {".jpeg": ".jpg", ".jfif": ".jpg", ".tiff": ".tif", ".apng": ".png"}.get(
        suffix.lower(), suffix.lower()
    )


def _in_folders(
    found: list[_Found],
    out: Path | None,
    format: str | None,
    ending: str | None,
    suffix: Callable[[], str],
) -> list[tuple[Path, Path]]:
    """Jobs whose targets are named by their sources."""
    places = []  # the target's folder, and whether the source lies in it
    resolved = functools.cache(lambda folder: folder.resolve())
    for source, place, base in found:
        if out is not None:
            folder = (out / place).parent
        elif base == source:
            folder = source.parent
        else:
            folder = (base.parent / f"{base.name}{suffix()}" / place).parent
        places.append((folder, ending is None and resolved(folder) == resolved(source.parent)))
    sources = {(one.source.parent, name) for one in found for name in _names(one.source)}
    kept, elsewhere = [], []
    for one, (folder, beside) in zip(found, places, strict=True):
        result = ending is None and _is_result(one.source, sources)
        if result and one.base != one.source and not beside:
            elsewhere.append(one.source)
        elif not (result and beside):
            kept.append((one.source, folder, suffix() if beside else ""))
    if elsewhere:
        logging.warning(
            "left out: %d pictures that are by their names results of others beside them (such as "
            "%s); give them by their own names",
            len(elsewhere), elsewhere[0],
        )  # fmt: skip
    if not kept:
        raise UserError("all of these pictures are results of an earlier run: give their originals")
    endings = [ending or (f".{format}" if format else _ending(source)) for source, _, _ in kept]
    return list(zip([source for source, _, _ in kept], _targets(kept, endings), strict=True))


def _ending(source: Path) -> str:
    """ ".png", or a file's own where it holds several frames that are kept so."""
    own = KEPT.get(source.suffix.lower())
    if own is None:
        return ".png"
    try:
        return own if frames_of(source) else ".png"
    except UserError:  # it is named when it is its turn
        return ".png"


def _names(source: Path) -> tuple[str, str]:
    return source.stem, source.name


def _is_result(file: Path, sources: set[tuple[Path, str]]) -> bool:
    """Whether a file is by its name what an earlier run made of one beside it."""
    found = _RESULT.fullmatch(file.stem)
    return found is not None and (file.parent, found[1]) in sources


def _without_results(files: list[Path], base: Path, out: Path) -> list[Path]:
    """Without what lies below an OUT inside of the folder."""
    base, out = base.resolve(), out.resolve()
    if base == out or not out.is_relative_to(base) or not base.is_dir():
        return files
    kept: list[Path] = []
    below: list[Path] = []
    for file in files:
        place = file.resolve()
        (below if place.is_relative_to(out) else kept).append(file)
    stems = {file.stem for file in kept} | {file.name for file in kept}
    if foreign := [file for file in below if file.stem not in stems]:
        logging.warning(
            "left out: %d pictures below %s, where results go (such as %s)",
            len(foreign), out, foreign[0],
        )  # fmt: skip
    return kept


def _natural(path: Path) -> list[Any]:
    """Sorts numbers in names by their value."""
    parts = re.split(r"(\d+)", path.as_posix())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]


def _targets(kept: list[tuple[Path, Path, str]], endings: list[str]) -> Iterator[Path]:
    """In each folder the picture's name with the new ending; where two would meet, both in full."""
    pairs = list(zip(kept, endings, strict=True))
    short = [folder / f"{source.stem}{more}{end}" for (source, folder, more), end in pairs]
    full = [folder / f"{source.name}{more}{end}" for (source, folder, more), end in pairs]
    count = Counter(short)
    chosen = [f if count[s] > 1 else s for s, f in zip(short, full, strict=True)]
    count = Counter(chosen)
    for (source, _, _), target in zip(kept, chosen, strict=True):
        if count[target] > 1:
            raise UserError(f"two pictures would be written to {target}; one is {source}")
        yield target
