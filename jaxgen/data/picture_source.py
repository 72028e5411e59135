"""Random-access pictures: a memory-bounded cache, and a rule for those that cannot be used."""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from absl import logging

from jaxgen.data.picture_files import image_size, read_image
from jaxgen.data.resize import imresize
from jaxgen.errors import UserError

# Names and paths of picture files.
Files = list[tuple[str, Path]]

# Folders up to this size have every file's header read when they are opened, so that bad files are
# named before training starts; in larger ones (ImageNet) they are met on the way.
SCAN_LIMIT = 20_000
_NAMED = 20  # at most so many bad files are listed one by one


class Reader(Protocol):
    """Raw access to a source: `read(i)` -> (name, uint8 (h, w, 3)); raises UserError."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[str, np.ndarray]: ...


@dataclasses.dataclass(frozen=True)
class FileReader:
    """Picture files; `names` are their paths below the source's folder."""

    names: tuple[str, ...]
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> tuple[str, np.ndarray]:
        return self.names[index], read_image(self.paths[index])


class Pictures:
    """Random-access records with a memory-bounded cache and a rule for unusable pictures.

    Args:
      reader: where the pictures come from.
      min_side: pictures with a shorter side are unusable.
      resize_to: if given, pictures are resized whole to this square (MATLAB bicubic) and cached so.
      on_bad: "skip": record i is then the next usable one (a fixed rule, so that every process and
        every resumed run sees the same) and the picture is named in a warning; "error": UserError.
      cache_mb: mebibytes of pictures kept, least recently used ones dropped first.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        min_side: int = 1,
        resize_to: int | None = None,
        on_bad: str = "skip",
        cache_mb: int = 512,
    ):
        self._reader = reader
        self._min_side = min_side
        self._resize_to = resize_to
        self._on_bad = on_bad
        self._cache_bytes = cache_mb * 2**20
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._cache: collections.OrderedDict[int, tuple[str, np.ndarray]] = (
            collections.OrderedDict()
        )
        self._held = 0
        self._bad: dict[int, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What travels to a worker: the recipe, not the cache."""
        private = ("_lock", "_cache", "_held", "_bad")
        return {key: value for key, value in self.__dict__.items() if key not in private}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def __len__(self) -> int:
        return len(self._reader)

    def __getitem__(self, index: int) -> dict[str, Any]:
        count = len(self)
        index = range(count)[index]  # negative indices and IndexError as of a list
        why = ""
        for step in range(count):
            at = (index + step) % count
            why = self._bad.get(at, "")
            if why:
                continue
            try:
                name, image = self._get(at)
                return {"image": image, "_name": name}
            except UserError as error:
                if self._on_bad == "error":
                    raise
                why = str(error)
                logging.warning("skipping a picture: %s", why)
                with self._lock:
                    self._bad[at] = why
        raise UserError(f"none of the {count} pictures can be used; the last one: {why}")

    def _get(self, index: int) -> tuple[str, np.ndarray]:
        with self._lock:
            if index in self._cache:
                self._cache.move_to_end(index)
                return self._cache[index]
        # Decoded outside the lock: two threads may do the same picture, which is harmless.
        name, image = self._reader.read(index)
        if message := _too_small(image.shape[:2], self._min_side):
            raise UserError(f"{name} {message}")
        if self._resize_to:
            image = imresize(image, size=(self._resize_to, self._resize_to))
        image = np.ascontiguousarray(image)
        image.setflags(write=False)
        with self._lock:
            if index not in self._cache and image.nbytes <= self._cache_bytes:
                self._cache[index] = (name, image)
                self._held += image.nbytes
                while self._held > self._cache_bytes:
                    _, (_, dropped) = self._cache.popitem(last=False)
                    self._held -= dropped.nbytes
        return name, image


def _too_small(size: Sequence[int], min_side: int) -> str:
    height, width = size
    if min(height, width) >= min_side:
        return ""
    return (
        f"is {width}x{height}, smaller than the {min_side} pixels needed on each side: "
        "lower data.hr_size, use data.crop='resize', or remove it"
    )


def usable(files: Files, min_side: int, on_bad: str) -> FileReader:
    """Drops (or refuses) files whose header is unreadable or too small; names them in a warning."""
    if len(files) <= SCAN_LIMIT:
        with ThreadPoolExecutor(8) as pool:
            problems = list(pool.map(lambda file: _problem(file[1], min_side), files))
        bad = [problem for problem in problems if problem]
        if bad and on_bad == "error":
            raise UserError(f"{bad[0]} ({len(bad)} such; data.on_bad='skip' leaves them out)")
        for problem in bad[:_NAMED]:
            logging.warning("skipping a picture: %s", problem)
        if len(bad) > _NAMED:
            logging.warning("skipping %d more pictures like these", len(bad) - _NAMED)
        if len(bad) == len(files):
            raise UserError(f"none of the {len(files)} pictures can be used; the first: {bad[0]}")
        files = [file for file, problem in zip(files, problems, strict=True) if not problem]
    return FileReader(tuple(name for name, _ in files), tuple(str(path) for _, path in files))


def _problem(path: Path, min_side: int) -> str:
    try:
        message = _too_small(image_size(path), min_side)
    except UserError as error:
        return str(error)
    return f"{path} {message}" if message else ""
