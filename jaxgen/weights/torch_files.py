"""The content of PyTorch's files, read without PyTorch: zip archives, and the older plain format.

`torch.save` writes a pickle and, beside it, the numbers of all storages: since version 1.6 as
entries of a zip file (`<name>/data.pkl`, `<name>/data/<key>`), before that one after another in
one file. A plain pickle of NumPy arrays is read, too. No code in a file is run: `pickles` reads the
pickles, `torch_names` has the names that may be in them, and a file can't make many more numbers
than it holds. Of TorchScript archives `torchscript` reads the modules.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxgen.weights import pickles
from jaxgen.weights.pickles import UnsafePickleError
from jaxgen.weights.torch_names import Storage, StorageKind, find

# What the older format begins with: a pickle of the number 0x1950a86a20f9469cfc6c, of ten bytes.
OLD_MAGIC = b"\x8a\n" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little") + b"."
# Compressed entries (the programs of TorchScript) may have so many bytes in all. The numbers never
# are: a small file can't fill the memory.
_MOST_COMPRESSED = 1 << 26
# Tensors that lie in their storages other than whole are copied; so many times the file at most.
_MOST_COPIES = 8


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The content of a file of `torch.save`: dicts, lists, and `Tensor`s to read while it is open.

    Raises:
      UnsafePickleError: it names what weights do not need.
      Exception: of another kind, where it is damaged.
    """
    with open(path, "rb") as file:
        if is_zip(file):
            with zipfile.ZipFile(file) as entries:
                yield Archive(entries, "data.pkl", path.stat().st_size).load(find)
        elif is_old(file):
            yield _read_old(file, path.stat().st_size)
        else:
            yield pickles.load(file, path.stat().st_size, find)


def is_zip(file: IO[bytes]) -> bool:
    """Whether a file begins as a zip archive does; leaves it at its start."""
    return _start(file, 4) == b"PK\x03\x04"


def is_old(file: IO[bytes]) -> bool:
    """Whether a file begins as PyTorch's older format does; leaves it at its start."""
    return OLD_MAGIC in _start(file, 32)


def _start(file: IO[bytes], count: int) -> bytes:
    file.seek(0)
    found = file.read(count)
    file.seek(0)
    return found


class Archive:
    """The entries of a zip file that PyTorch wrote, below the folder that holds `telling`.

    Raises:
      ValueError: it has no such entry, or its numbers are big-endian.
    """

    def __init__(self, file: zipfile.ZipFile, telling: str, size: int):
        names = file.namelist()
        roots = [n.removesuffix(telling) for n in names if n.rpartition("/")[2] == telling]
        if not roots:
            raise ValueError(f"it has no {telling}")
        self._file, self._root = file, roots[0]
        self._left, self._compressed_left = size, _MOST_COMPRESSED
        self._room = [_MOST_COPIES * size]
        self._storages: dict[str, Storage] = {}
        if f"{self._root}byteorder" in names and self.entry("byteorder") != b"little":
            raise ValueError("its numbers are big-endian")

    def entry(self, name: str) -> bytes:
        """An entry's bytes; all that are read are never more than the file has, or little."""
        found = self._file.getinfo(f"{self._root}{name}")
        if found.compress_type == zipfile.ZIP_STORED:
            self._left -= found.file_size
        elif found.compress_type == zipfile.ZIP_DEFLATED:
            self._compressed_left -= found.file_size
        else:
            raise ValueError(f"its entry {name} is compressed in a way that PyTorch does not use")
        if min(self._left, self._compressed_left) < 0:
            raise ValueError(f"its entry {name} is larger than such a file can hold")
        return self._file.read(found)

    def load(self, find: Callable[[str, str], Any]) -> Any:
        """What the pickle `data.pkl` holds; `find` as of `pickles.load`."""
        data = self.entry("data.pkl")
        return pickles.load(io.BytesIO(data), len(data), find, self._storage)

    def _storage(self, pid: Any) -> Storage:
        kind, key, size = _described(pid)
        if key not in self._storages:
            info = self._file.getinfo(f"{self._root}data/{key}")
            if info.file_size != size * kind.dtype.itemsize:
                raise ValueError(f"the numbers data/{key} are not as many as the pickle says")
            self._storages[key] = Storage(
                kind.dtype, size, _once(lambda: self._numbers(kind, key)), self._room
            )
        found = self._storages[key]
        if (found.dtype, found.size) != (kind.dtype, size):
            raise ValueError(f"the numbers data/{key} are said to be of two kinds")
        return found

    def _numbers(self, kind: StorageKind, key: str) -> np.ndarray:
        return np.frombuffer(self.entry(f"data/{key}"), kind.dtype)


def _described(pid: Any) -> tuple[StorageKind, str, int]:
    """(kind, key, size) of an id ("storage", its kind, key, device, size, ...)."""
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
        raise UnsafePickleError("an id of something that is no storage")
    kind, key, size = pid[1], pid[2], pid[4]
    if not isinstance(kind, StorageKind) or not isinstance(key, str) or type(size) is not int:
        raise ValueError("an id of a storage that is none")
    return kind, key, size


def _once(read: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
    kept: list[np.ndarray] = []

    def numbers() -> np.ndarray:
        if not kept:
            kept.append(read())
        return kept[0]

    return numbers


def _read_old(file: IO[bytes], size: int) -> Any:
    """Four pickles (magic, version, machine, content), the storages' keys, then their numbers."""
    storages: dict[str, Storage] = {}
    places: dict[str, int] = {}
    room = [_MOST_COPIES * size]

    def storage(pid: Any) -> Storage:
        kind, key, count = _described(pid)
        if len(pid) > 5 and pid[5] is not None:
            raise ValueError("a storage that is a part of another's; PyTorch before 0.4 wrote it")

        def numbers() -> np.ndarray:
            file.seek(places[key])
            [held] = struct.unpack("<q", file.read(8))
            if held != count:
                raise ValueError(f"the numbers {key} are not as many as the pickle says")
            return np.frombuffer(file.read(count * kind.dtype.itemsize), kind.dtype, count)

        found = storages.setdefault(key, Storage(kind.dtype, count, _once(numbers), room))
        if (found.dtype, found.size) != (kind.dtype, count):
            raise ValueError(f"the numbers {key} are said to be of two kinds")
        return found

    pickles.load(file, size, find)
    pickles.load(file, size, find)
    machine = pickles.load(file, size, find)
    if not machine["little_endian"]:
        raise ValueError("its numbers are big-endian")
    content = pickles.load(file, size, find, storage)
    at = None
    for key in pickles.load(file, size, find):
        if not isinstance(key, str):
            raise ValueError("a storage whose name is no text")
        at = file.tell() if at is None else at
        places[key] = at
        at += 8 + storages[key].size * storages[key].dtype.itemsize
        if not 0 <= at <= size:
            raise ValueError("its numbers end before their end")
    return content
