"""A user's own pictures without captions: what a folder holds, its sub-folders included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxgen.data.captioned.pictures import FittedReader, hold_out
from jaxgen.data.picture_files import list_images
from jaxgen.data.picture_source import FileReader, Pictures, Reader, usable
from jaxgen.errors import UserError

EXAMPLE = ""
CAPTIONED = False
# Files and the side that the shorter one gets -> a reader of pictures of this side.
Fitted = Callable[[FileReader, int], Reader]


class PlainPictures:
    """Records {"image", "_name", "_captions": (), "meaning": 0}.

    Args: reader: of pictures whose shorter side is what `data` asks for.
    """

    def __init__(self, reader: Reader, data: ConfigDict):
        self._pictures = Pictures(reader, on_bad=data.on_bad, cache_mb=data.cache_mb)

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self._pictures[index], "_captions": (), "meaning": 0}

    def captions(self) -> Iterator[tuple[str, ...]]:
        """Of each record none."""
        return iter([()] * len(self))


def open_records(data: ConfigDict, split: str) -> PlainPictures:
    """The pictures of `data.path`; `data.holdout` of them, by a hash of their names, to validate.

    Raises:
      UserError: nothing usable there.
    """
    return open_folder(data, split, FittedReader)


def open_folder(data: ConfigDict, split: str, fitted: Fitted) -> PlainPictures:
    """As `open_records`, of pictures that `fitted` reads."""
    if not data.path:
        raise UserError(f"data.source={data.source} needs data.path, the folder of your pictures")
    root = Path(data.path).expanduser()
    paths = list_images(root)
    if not root.is_dir() or not paths:
        raise UserError(f"{root} holds no pictures (PNG, JPEG, WebP, TIFF or BMP)")
    files = {path.relative_to(root).as_posix(): path for path in paths}
    held = hold_out(files, data.holdout)
    chosen = [name for name in sorted(files) if (name in held) == (split == "validation")]
    if not chosen:
        raise UserError(f"no {split} pictures among the {len(files)} of {root}: set data.holdout")
    reader = usable([(name, files[name]) for name in chosen], 1, data.on_bad)
    return PlainPictures(fitted(reader, round(data.size * data.enlarge)), data)
