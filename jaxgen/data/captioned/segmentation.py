"""Segmentations without captions: gray pictures whose values are classes, 255 standing for none.

As in taming-transformers' COCO-Stuff: class 0 is "none", and a pixel of value v has class v + 1. So
there is one class more than the data set names.
"""

from __future__ import annotations

import dataclasses
import os

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from jaxgen.data.captioned.plain import PlainPictures, open_folder
from jaxgen.data.picture_source import FileReader
from jaxgen.errors import UserError

EXAMPLE = ""
CAPTIONED = False
KIND = "segmentation"


@dataclasses.dataclass(frozen=True)
class ClassReader:
    """Classes uint8 (h, w, 1), the shorter side brought to `side` without mixing classes."""

    files: FileReader
    side: int

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> tuple[str, np.ndarray]:
        classes = Image.fromarray(read_classes(self.files.paths[index]))
        classes = classes.resize(fitted(classes.size, self.side), Image.Resampling.NEAREST)
        return self.files.names[index], np.asarray(classes)[..., None]


def read_classes(path: str | os.PathLike) -> np.ndarray:
    """A segmentation's classes, uint8 (h, w). Raises UserError for a file that is none."""
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "P"):
                raise UserError(
                    f"{path}: a segmentation is a gray or palette picture of classes, not "
                    f"{image.mode}"
                )
            return np.asarray(image, np.uint8) + np.uint8(1)  # 255 becomes 0
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None


def fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(width, height) with the shorter one brought to `side`."""
    least = min(size)
    return round(size[0] * side / least), round(size[1] * side / least)


def open_records(data: ConfigDict, split: str) -> PlainPictures:
    """The segmentations of `data.path`. Raises UserError as `plain.open_folder`."""
    return open_folder(data, split, ClassReader)
