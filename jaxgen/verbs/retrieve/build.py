"""A folder's pictures into an index: what is new or changed is looked at, what is gone leaves."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from jaxgen.data.picture_files import list_images, read_image
from jaxgen.errors import UserError
from jaxgen.verbs.files import naming
from jaxgen.verbs.retrieve.encoder import Encoder
from jaxgen.verbs.retrieve.index import Entry, Header, Index, Writer, is_index, writing

BATCH = 64  # pictures between two syncs: so many are lost at most by a kill


@dataclasses.dataclass
class Report:
    """What an indexing did: numbers of pictures.

    looked_at: whose features were computed. known: of the same content as one in the index, so that
    nothing was. kept: unchanged. removed: gone from the folder. rebuilt: whose entry was damaged,
    among `looked_at`. broken: what is wrong with files that could not be read.
    """

    looked_at: int = 0
    known: int = 0
    kept: int = 0
    removed: int = 0
    rebuilt: int = 0
    broken: list[str] = dataclasses.field(default_factory=list)


def update(
    folder: str | os.PathLike,
    place: str | os.PathLike,
    encoder: Encoder,
    check: Callable[[], None] = lambda: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Brings the index at `place` to what lies in `folder`; begins it where there is none.

    A picture is unchanged if its file has the size and time that are noted, or the same content.
    Stopped at any moment it goes on where it was. Pictures below `place` are not looked at.

    Args:
      check: called between batches; what it raises ends the work.
      progress: called with how many of the new pictures are done.

    Raises:
      UserError: no such folder or no pictures in it, an index of another model or folder, or one
        that can't be written.
    """
    folder, place = Path(folder).expanduser().resolve(), Path(place).expanduser()
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    inside = place.resolve()
    files = [path for path in list_images(folder) if not path.is_relative_to(inside)]
    if not files and not is_index(place):
        raise UserError(f"{folder} holds no pictures")
    header = Header(encoder.name, encoder.fingerprint, encoder.width, str(folder))
    with writing(place, header) as writer:
        index = writer.index
        index.check_model(encoder.name, encoder.fingerprint)
        if index.header.folder != str(folder):
            raise UserError(f"{place} is of {index.header.folder}: index {folder} into another one")
        return _update(folder, files, index, writer, encoder, check, progress)


def _update(
    folder: Path,
    files: Sequence[Path],
    index: Index,
    writer: Writer,
    encoder: Encoder,
    check: Callable[[], None],
    progress: Callable[[int, int], None],
) -> Report:
    report = Report()
    damaged = set(index.broken_rows())
    report.rebuilt = len(damaged) + index.damaged
    entries = {path: entry for path, entry in index.entries.items() if path not in damaged}
    by_content = {entry.sha: entry for entry in entries.values()}
    found = {path.relative_to(folder).as_posix(): path for path in files}
    gone = [path for path in index.entries if path not in found]
    writer.forget(gone)
    report.removed = len(gone)
    new: list[tuple[str, Path]] = []
    for name, path in found.items():
        entry = entries.get(name)
        if entry is not None and (entry.size, entry.mtime) == _stamp(path):
            report.kept += 1
        else:
            new.append((name, path))
    done = 0
    for part in _batches(new):
        check()
        names, stamps, pictures = [], [], []
        same: list[tuple[str, Entry]] = []
        for name, path in part:
            try:
                stamp = (*_stamp(path), _digest(path))
                if (twin := by_content.get(stamp[2])) is not None:
                    same.append((name, twin._replace(size=stamp[0], mtime=stamp[1])))
                    continue
                pictures.append(read_image(path))
            except UserError as error:
                report.broken.append(naming(path, error))
                if name in index.entries:
                    writer.forget([name])
                continue
            names.append(name)
            stamps.append(stamp)
        if pictures:
            added = writer.add(names, stamps, encoder.pictures(pictures))
            by_content |= {entry.sha: entry for entry in added}
        writer.note(same)
        report.looked_at += len(pictures)
        report.known += len(same)
        done += len(part)
        progress(done, len(new))
    return report


def _batches(new: Sequence[tuple[str, Path]]) -> Iterator[Sequence[tuple[str, Path]]]:
    for start in range(0, len(new), BATCH):
        yield new[start : start + BATCH]


def _stamp(path: Path) -> tuple[int, int]:
    try:
        about = path.stat()
    except OSError:
        return -1, -1  # gone meanwhile: reading it says so
    return about.st_size, about.st_mtime_ns


def _digest(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
