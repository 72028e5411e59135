"""What sources of picture files share: pictures by number, and those that are missing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from jaxgen.data.picture_source import FileReader, Pictures
from jaxgen.data.text.unicode import read_text
from jaxgen.data.triplets.source import Drawn, Query
from jaxgen.errors import NO_JSON, UserError

_NAMED = 5  # missing pictures that a warning names


def one_text_each(data: ConfigDict) -> None:
    """Raises UserError where an example asks for several changes of a picture that has one."""
    if data.per_source > 1:
        raise UserError(
            f"data.source={data.source} has one text for each picture: set data.per_source=1"
        )


def folder_of(data: ConfigDict) -> Path:
    """`data.path`, a folder.

    Raises:
      UserError: there is none.
    """
    if not data.path:
        raise UserError(f"data.source={data.source} needs data.path, the folder of the data set")
    folder = Path(data.path).expanduser()
    if not folder.is_dir():
        raise UserError(f"data.path={data.path}: no such folder")
    return folder


def present(paths: Sequence[Path], on_bad: str, what: str) -> list[bool]:
    """Whether each picture is there; those that are not are counted and some named.

    Raises:
      UserError: one is missing and `on_bad` is "error", or all are.
    """
    there = [path.is_file() for path in paths]
    missing = [str(path) for path, found in zip(paths, there, strict=True) if not found]
    if missing:
        named = ", ".join(missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
        said = f"{len(missing)} of {len(paths)} pictures of {what} are missing: {named}"
        if on_bad == "error" or len(missing) == len(paths):
            raise UserError(f"{said}; put them there, or correct data.path")
        logging.warning("%s; they and what asks for them are left out", said)
    return there


class Files:
    """A split of picture files; subclasses say how training items are drawn.

    Args:
      paths, captions: of the pictures. queries: see `Triplets`. cache_mb: of decoded pictures.
    """

    keep_source = False

    def __init__(
        self,
        data: ConfigDict,
        paths: Sequence[Path],
        captions: Sequence[str],
        queries: Sequence[Query],
        rules: str,
        names: Sequence[str] = (),
    ):
        self.captions, self.queries = list(captions), list(queries)
        self.names = list(names) or [str(path) for path in paths]
        self.rules = f"{len(paths):,} pictures, {rules}"
        reader = FileReader(tuple(self.names), tuple(str(path) for path in paths))
        self._pictures = Pictures(reader, on_bad=data.on_bad, cache_mb=data.cache_mb)

    def __len__(self) -> int:
        return 0

    def draw(self, index: int, count: int, rng: np.random.Generator) -> list[Drawn]:
        raise UserError("this split has no training items")

    def picture(self, number: int, source: bool = False) -> np.ndarray:
        del source
        image: np.ndarray = self._pictures[number]["image"]
        return image

    def texts(self) -> Iterable[str]:
        return iter(self.captions)


class Listed(Files):
    """A split whose training items are listed, each a source of its own."""

    def __init__(self, *args: Any, items: Sequence[Drawn] = (), **more: Any):
        super().__init__(*args, **more)
        self.items = list(items)

    def __len__(self) -> int:
        return len(self.items)

    def draw(self, index: int, count: int, rng: np.random.Generator) -> list[Drawn]:
        del rng
        return [self.items[index]] * count

    def texts(self) -> Iterable[str]:
        return (item.text for item in self.items)


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
      UserError: it is not there, or no JSON.
    """

    try:
        return json.loads(read_text(path))
    except NO_JSON:
        raise UserError(f"{path} is not readable as JSON; fetch it again") from None
