"""Digests, so that one flipped bit is seen: SHA-256 of each checkpoint file and of each export.

A checkpoint's digests stand in `<step>/digests.json`, written before the checkpoint counts as
complete; those of what Orbax writes at that very moment follow. An exported file's stands in its
own header. What has none is older and loads without. `JAXGEN_SKIP_DIGESTS=1` neither writes nor
checks them, `train.digests=False` so in one run: each costs one more reading of the files.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.errors import UserError
from jaxgen.weights.keymap import flatten

DIGESTS = "digests.json"
VERSION = 1
_PARTIAL = DIGESTS + ".tmp"
# Orbax writes these after the files are complete; they hold times and names of handlers.
_AT_THE_END = ("_CHECKPOINT_METADATA", "commit_success.txt")
_BOOKKEEPING = (*_AT_THE_END, DIGESTS, _PARTIAL)
_BLOCK = 1 << 22
_LOOKED_AT = 1024
_MARK = "sha256:"
KEY, BLANK = "digest", _MARK + "0" * 64
# By the value and by the key: a bit flipped in one of them leaves the other.
_SIGNED = re.compile(rb'"digest":"([^"]{0,80})"|"sha256:([^"]{0,80})"')


class DamagedError(UserError):
    """A file is not what was written; the message names it."""


class NewerFormatError(UserError):
    """A later jaxgen wrote it; nothing is damaged."""


def skipped() -> bool:
    """Whether the user chose to go without digests."""
    return os.environ.get("JAXGEN_SKIP_DIGESTS", "") not in ("", "0")


def write_digests(folder: str | Path) -> None:
    """Writes `digests.json` of all files below a folder, flushed to the disk."""
    folder = Path(folder)
    files = _files(folder)
    with ThreadPoolExecutor(4) as pool:  # hashlib lets other threads run
        found = list(pool.map(lambda name: _digest(folder / name), files))
    text = json.dumps({"version": VERSION, "files": dict(zip(files, found, strict=True))}, indent=0)
    _write(folder, text)


def add_last_digests(folder: str | Path) -> None:
    """Adds to `digests.json` what was written when the folder became the checkpoint.

    A kill before that leaves the digests of all else, which are valid.
    """
    folder = Path(folder)
    note = json.loads((folder / DIGESTS).read_bytes())
    there = [name for name in _AT_THE_END if (folder / name).is_file()]
    _write(folder, json.dumps(note | {"last": {n: _digest(folder / n) for n in there}}, indent=0))


def _write(folder: Path, text: str) -> None:
    """Whole or not at all: a reader may be there."""
    with open(folder / _PARTIAL, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    (folder / _PARTIAL).replace(folder / DIGESTS)


def check_digests(folder: str | Path, items: Iterable[str] | None = None) -> bool:
    """Compares files with `digests.json`; False where there is none, or the user skips them.

    Args:
      items: names of the sub-folders to read; None: all files.

    Raises:
      DamagedError: a file differs, is missing or is one too many.
      NewerFormatError: the digests are of a later version.
      OSError: a file can't be read, which is no damage.
    """
    folder = Path(folder)
    if skipped() or not (folder / DIGESTS).is_file():
        return False
    try:
        note = json.loads((folder / DIGESTS).read_bytes())
        version, noted = int(note["version"]), {str(k): str(v) for k, v in note["files"].items()}
        last = {str(k): str(v) for k, v in note.get("last", {}).items()}
        unknown = note.keys() - {"version", "files", "last"} or last.keys() - set(_AT_THE_END)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DamagedError(f"{folder / DIGESTS} is damaged") from None
    if version > VERSION:
        raise NewerFormatError(f"{folder} is of a later version of jaxgen: update jaxgen")
    if version < VERSION or unknown:
        raise DamagedError(f"{folder / DIGESTS} is damaged")
    names = set(_files(folder)) | {n for n in last if (folder / n).is_file()}
    noted |= last
    if odd := sorted(names ^ noted.keys()):
        what = "is missing" if odd[0] in noted else "was not there when it was written"
        raise DamagedError(f"{folder / odd[0]} {what}")
    chosen = None if items is None else set(items)
    wanted = sorted(
        n for n in names if chosen is None or n in last or n.partition("/")[0] in chosen
    )
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda name: _digest(folder / name), wanted)
        for name, digest in zip(wanted, found, strict=True):
            if digest != noted[name]:
                raise DamagedError(f"{folder / name} is damaged: its digest is another")
    return True


def sign(data: bytes) -> bytes:
    """A safetensors file's bytes whose header has `digest: BLANK`, with the digest in its place."""
    if data.count(BLANK.encode()) != 1:
        raise ValueError("the header must hold one blank digest")
    return data.replace(BLANK.encode(), (_MARK + _hash(data)).encode(), 1)


def check_signed(path: Path, data: bytes) -> None:
    """Compares a safetensors file's bytes with the digest in their header, if it has one.

    Raises:
      DamagedError: they differ.
    """
    if skipped():
        return
    header = data[: 8 + int.from_bytes(data[:8], "little")] if len(data) > 8 else b""
    # A damaged length shows no header: the first 64 KB hold the digest of ours in any case.
    found = _SIGNED.search(header) or _SIGNED.search(data[:65536])
    if found is None:
        return
    at, end = (found.start(1), found.end(1)) if found.group(1) is not None else found.span(2)
    if found.group(1) is None:
        at -= len(_MARK)
    rest = memoryview(data)  # a file may be as large as the memory that is left
    if data[at:end] != (_MARK + _hash(rest[:at], BLANK.encode(), rest[end:])).encode():
        raise DamagedError(
            f"cannot read weights from {path}: its digest is another; fetch or export the file "
            "again"
        )


def _files(folder: Path) -> list[str]:
    paths = (p for p in folder.rglob("*") if p.is_file())
    return sorted(
        name for p in paths if (name := p.relative_to(folder).as_posix()) not in _BOOKKEEPING
    )


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _hash(*parts: bytes | memoryview) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def fingerprint(nets: Mapping[str, Any]) -> str:
    """SHA-256 in hex of {net: variables}: of names, shapes, types and numbers."""
    digest = hashlib.sha256()
    add_arrays(digest, nets)
    return digest.hexdigest()


def add_arrays(digest: Any, nets: Mapping[str, Any]) -> None:
    """The same, into a digest that holds more."""
    for path, value in sorted(flatten(nets).items()):
        array = np.ascontiguousarray(value)
        digest.update(f"{path} {array.dtype} {np.shape(value)}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)


def sampled_fingerprint(nets: Mapping[str, Any]) -> str:
    """16 hex digits by which nets are known again, whatever their size: of up to `_LOOKED_AT`
    values of each array, evenly spaced."""
    digest = hashlib.sha256()
    for path, value in sorted(flatten(nets).items()):
        flat = value.reshape(-1)
        step = max(1, len(flat) // _LOOKED_AT)
        digest.update(f"{path} {np.shape(value)}\n".encode())
        digest.update(np.ascontiguousarray(flat[::step]).tobytes())
    return digest.hexdigest()[:16]
