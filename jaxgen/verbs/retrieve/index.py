"""An index on disk: pictures' paths and their features, which a kill at any moment leaves whole.

    INDEX/rows-<g>.jsonl      a header, then a line for each picture; the last line of a path counts
    INDEX/vectors-<g>.f16     float16, a row for each picture that was looked at
    INDEX/lock                held by the process that writes

Features are written and synced before the lines that name them; what lies behind the last whole
line is cut off when the index is next written. `g` grows when rows that nothing names are cleared
away: the new files are whole before the old ones go.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from jaxgen.errors import NO_JSON, UserError

VERSION = 1
_DEAD = 0.3  # share of rows that nothing names, from which the index is written anew
_WIDEST = 2**20  # numbers in a feature
_COPIED = 2**16  # rows that are copied at once


class Entry(NamedTuple):
    """A picture of the index.

    row: of its features. size, mtime: of its file, bytes and nanoseconds. sha: SHA-256 of the
    file in hex. crc: CRC-32 of its row.
    """

    row: int
    size: int
    mtime: int
    sha: str
    crc: int


class Header(NamedTuple):
    """What all of an index has in common.

    model: as it was named; fingerprint: of its weights; width: of its features; folder: whose
    pictures these are.
    """

    model: str
    fingerprint: str
    width: int
    folder: str


class Contents(NamedTuple):
    """Each content once, whatever the number of its files.

    paths: by row, those of its files, the first indexed one first. rows: int64, the same rows.
    row_of: by SHA-256.
    """

    paths: dict[int, list[str]]
    rows: np.ndarray
    row_of: dict[str, int]


_KINDS = {Header: (str, str, int, str), Entry: (int, int, int, str, int)}
_VALUES = itemgetter(*Entry._fields)


class Index:
    """An index as it is on disk, to be read.

    Attributes:
      header: see `Header`. entries: by path below the folder, in the order of their rows.
      vectors: (n, width) float16, memory-mapped.
      damaged: lines that could not be read, and entries without their row.
    """

    def __init__(self, place: str | os.PathLike):
        """Raises UserError where there is no index, or one of another version."""
        self.place = Path(place).expanduser()
        self.generation = _newest(self.place)
        self.header, found, self.damaged = _read(self.rows_file)
        width = 2 * self.header.width
        try:
            count = self.vectors_file.stat().st_size // width
        except OSError:
            count = 0
        held = {path: entry for path, entry in found.items() if entry.row < count}
        self.damaged += len(found) - len(held)
        order = sorted((entry.row, path) for path, entry in held.items())
        self.entries = {path: held[path] for _, path in order}
        self.vectors: np.ndarray = (
            np.memmap(self.vectors_file, np.float16, "r", shape=(count, self.header.width))
            if count
            else np.zeros((0, self.header.width), np.float16)
        )

    @property
    def rows_file(self) -> Path:
        """The lines."""
        return self.place / f"rows-{self.generation}.jsonl"

    @property
    def vectors_file(self) -> Path:
        """The features."""
        return self.place / f"vectors-{self.generation}.f16"

    @functools.cached_property
    def contents(self) -> Contents:
        """See `Contents`; found once, since a million entries take a second."""
        row_of: dict[str, int] = {}
        paths: dict[int, list[str]] = {}
        for path, entry in self.entries.items():
            paths.setdefault(row_of.setdefault(entry.sha, entry.row), []).append(path)
        return Contents(paths, np.fromiter(paths, np.int64, len(paths)), row_of)

    def check_model(self, name: str, fingerprint: str) -> None:
        """Raises UserError where the features are another model's."""
        if fingerprint != self.header.fingerprint:
            raise UserError(
                f"{self.place} was made by {self.header.model} with other weights than {name} has: "
                "give that model, or index into another folder"
            )

    def leave_out_broken(self) -> None:
        """Drops the entries whose features are damaged, and counts them as `damaged`."""
        broken = self.broken_rows()
        self.damaged += len(broken)
        for path in broken:
            del self.entries[path]
        self.__dict__.pop("contents", None)

    def broken_rows(self) -> list[str]:
        """Paths whose features are not what was written."""
        found = []
        rows, start = self.vectors[:0], 0
        for path, entry in self.entries.items():  # in the order of their rows
            if not rows.size or entry.row - start >= len(rows):
                start = entry.row
                rows = np.array(self.vectors[start : start + _COPIED])
                finite = np.isfinite(rows).all(axis=1)
            at = entry.row - start
            if zlib.crc32(rows[at]) != entry.crc or not finite[at]:
                found.append(path)
        return found


def is_index(place: str | os.PathLike) -> bool:
    """Whether an index lies in a folder."""
    return any(Path(place).expanduser().glob("rows-*.jsonl"))


class Writer:
    """Writes an index; made by `writing`."""

    def __init__(self, index: Index):
        self.index = index
        width = index.header.width
        named = [entry.row for entry in index.entries.values()]
        self.count = max(named, default=-1) + 1
        self._vectors: IO[bytes] = open(index.vectors_file, "r+b")  # noqa: SIM115
        self._vectors.truncate(self.count * 2 * width)
        self._rows: IO[bytes] = open(index.rows_file, "r+b")  # noqa: SIM115
        end = _last_line_end(self._rows)
        self._rows.truncate(end)
        self._rows.seek(end)

    def add(
        self, paths: Sequence[str], files: Sequence[tuple[int, int, str]], features: np.ndarray
    ) -> list[Entry]:
        """Notes pictures with their features; returns their entries.

        Args: files: (size, mtime, sha) of each. features: (n, width).
        """
        rows = np.ascontiguousarray(features, np.float16)
        self._vectors.seek(self.count * 2 * self.index.header.width)
        self._vectors.write(rows.tobytes())
        _synced(self._vectors)
        entries = [
            Entry(self.count + i, *file, zlib.crc32(row.tobytes()))
            for i, (file, row) in enumerate(zip(files, rows, strict=True))
        ]
        self.count += len(rows)
        self.note(zip(paths, entries, strict=True))
        return entries

    def note(self, entries: Iterable[tuple[str, Entry]]) -> None:
        """Notes pictures whose features are there already."""
        self._append({"path": path, **entry._asdict()} for path, entry in entries)

    def forget(self, paths: Iterable[str]) -> None:
        """Leaves pictures out from now on."""
        self._append({"gone": path} for path in paths)

    def _append(self, lines: Iterable[dict[str, Any]]) -> None:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        if text:
            self._rows.write(text.encode())
            _synced(self._rows)

    def close(self) -> None:
        """Closes the files."""
        self._vectors.close()
        self._rows.close()


@contextlib.contextmanager
def writing(place: str | os.PathLike, header: Header) -> Iterator[Writer]:
    """The index at `place`, begun with `header` where there is none, to be written by one process.

    Raises:
      UserError: another process writes it, the folder holds something else, or can't be written.
    """
    place = Path(place).expanduser()
    try:
        place.mkdir(parents=True, exist_ok=True)
        others = [p for p in place.iterdir() if p.name != "lock" and not p.name.startswith(".")]
        begun = is_index(place) or all(p.name.startswith("vectors-") for p in others)
        if not begun:
            raise UserError(f"{place} holds other files: choose a new folder for the index")
        with FileLock(place / "lock", timeout=0):
            if not is_index(place):
                _begin(place, 0, header)
            writer = Writer(Index(place))
            try:
                yield writer
            finally:
                writer.close()
            _clear(place)
    except Timeout:
        raise UserError(f"{place} is being written by another process") from None
    except OSError as error:
        raise UserError(f"cannot write {place}: {error.strerror or error}") from None


def _begin(place: Path, generation: int, header: Header, lines: str = "") -> None:
    """The files of a generation; the vectors are there before, or empty."""
    (place / f"vectors-{generation}.f16").touch()
    target = place / f"rows-{generation}.jsonl"
    part = place / f".{os.getpid()}.part"
    with open(part, "w") as file:
        file.write(json.dumps({"jaxgen index": VERSION, **header._asdict()}) + "\n" + lines)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, target)


def _clear(place: Path) -> None:
    """Writes the index anew, under the next number, where many rows are named by nothing.

    Lines that can't be read go in the same way: what they noted is there again.
    """
    index = Index(place)
    rows = sorted({entry.row for entry in index.entries.values()})
    total = len(index.vectors)
    if index.damaged or total - len(rows) > _DEAD * total:
        after = index.generation + 1
        with open(place / f"vectors-{after}.f16", "wb") as file:
            for start in range(0, len(rows), _COPIED):
                file.write(index.vectors[rows[start : start + _COPIED]].tobytes())
            _synced(file)
        moved = {row: place_of for place_of, row in enumerate(rows)}
        lines = "".join(
            json.dumps({"path": path, **entry._replace(row=moved[entry.row])._asdict()}) + "\n"
            for path, entry in index.entries.items()
        )
        _begin(place, after, index.header, lines)
    newest = _newest(place)
    kinds = ("rows-*.jsonl", "vectors-*.f16", "graph-*.usearch", ".*.part")
    for left in [path for kind in kinds for path in place.glob(kind)]:
        if left.stem.rpartition("-")[2] != str(newest):
            left.unlink(missing_ok=True)


def _newest(place: Path) -> int:
    numbers = [
        int(number)
        for file in place.glob("rows-*.jsonl")
        if (number := file.stem.rpartition("-")[2]).isdigit()
    ]
    if not numbers:
        raise UserError(f"{place} is no index: make one by jaxgen index FOLDER -o {place}")
    return max(numbers)


def _read(file: Path) -> tuple[Header, dict[str, Entry], int]:
    """(header, entries by path, lines that can't be read)."""
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    try:
        first = json.loads(lines[0])
        version = first.pop("jaxgen index")
        header = _typed(Header(**first))
        if version == VERSION and not 1 <= header.width <= _WIDEST:
            raise ValueError
    except (*NO_JSON, TypeError, KeyError, AttributeError):
        raise UserError(
            f"{file} has no readable first line: remove {file.parent} and index again"
        ) from None
    if version != VERSION:
        raise UserError(
            f"{file.parent} is an index of version {version}, this jaxgen has {VERSION}: index "
            "again into another folder"
        )
    entries: dict[str, Entry] = {}
    damaged = 0
    for held in _values(lines[1:-1]):  # the last one has no end: it is empty, or half-written
        try:
            if "gone" in held:
                entries.pop(held["gone"], None)
                continue
            path, entry = held["path"], _typed(Entry(*_VALUES(held)))
            whole = len(held) == 1 + len(entry) and isinstance(path, str)
            if not whole or not 0 <= entry.row < 2**48:
                raise TypeError
            entries[path] = entry
        except (TypeError, KeyError, AttributeError):
            damaged += 1
    return header, entries, damaged


def _values(lines: list[bytes]) -> Iterator[Any]:
    """What each line holds, None where it can't be read; many at once take half the time."""
    for start in range(0, len(lines), _COPIED):
        some = lines[start : start + _COPIED]
        try:
            held = json.loads(b"[" + b",".join(some) + b"]")
        except NO_JSON:
            held = []
        yield from held if len(held) == len(some) else map(_value, some)


def _value(line: bytes) -> Any:
    try:
        return json.loads(line)
    except NO_JSON:
        return None


def _typed(held: Any) -> Any:
    """What a line says, where each value is of its type. Raises TypeError."""
    if tuple(map(type, held)) != _KINDS[type(held)]:
        raise TypeError  # also of a bool, which is an int
    return held


def _last_line_end(file: IO[bytes]) -> int:
    """Where the last whole line ends."""
    file.seek(0)
    return file.read().rfind(b"\n") + 1


def _synced(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
