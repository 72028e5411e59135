"""A user's own pictures without captions: what a folder holds, its sub-folders included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxgen.data import buckets
from jaxgen.data.captioned.pictures import buckets_of, covering, hold_out
from jaxgen.data.picture_files import list_images
from jaxgen.data.picture_source import FileReader, Pictures, Reader, usable
from jaxgen.errors import UserError

# Files and the side that the shorter one gets -> a reader of pictures of this side.
Fit = Callable[[FileReader, int], Reader]
EXAMPLE = ""
CAPTIONED = False
BUCKETS = True


class PlainPictures:
    """Records {"image", "_name", "_captions": (), "meaning": 0}.

    Args:
      reader: of pictures whose shorter side is what `data` asks for, or that cover their buckets.
      shapes: each picture's bucket, which is "_shape" then; (): none.
    """

    def __init__(self, reader: Reader, data: ConfigDict, shapes: tuple[buckets.Shape, ...] = ()):
        self.shapes = shapes
        self._pictures = Pictures(reader, on_bad=data.on_bad, cache_mb=data.cache_mb)

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> dict[str, Any]:
        shape = {"_shape": self.shapes[index]} if self.shapes else {}
        return {**self._pictures[index], "_captions": (), "meaning": 0, **shape}

    def captions(self) -> Iterator[tuple[str, ...]]:
        """Of each record none."""
        return iter([()] * len(self))


def open_records(data: ConfigDict, split: str) -> PlainPictures:
    """The pictures of `data.path`; `data.holdout` of them, by a hash of their names, to validate.

    Raises:
      UserError: nothing usable there.
    """
    reader = find_files(data, split)
    shapes = buckets_of(reader.paths, data, split)
    return PlainPictures(covering(reader, shapes, data), data, shapes)


def open_folder(data: ConfigDict, split: str, fit: Fit) -> PlainPictures:
    """As `open_records`, of pictures that `fit` reads, without buckets."""
    return PlainPictures(fit(find_files(data, split), round(data.size * data.enlarge)), data)


def find_files(data: ConfigDict, split: str) -> FileReader:
    """The usable pictures of a split of `data.path`.

    Raises:
      UserError: there are none.
    """
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
    return usable([(name, files[name]) for name in chosen], 1, data.on_bad)
