"""Depth maps without captions: float32 (h, w, 1), each stretched to [-1, 1] by its least and most.

Gray pictures of 8 or 16 bits, float TIFFs, and taming-transformers' RGBA PNGs, whose four bytes are
one float32.
"""

from __future__ import annotations

import dataclasses
import os

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from jaxgen.data.captioned.plain import PlainPictures, open_folder
from jaxgen.data.captioned.segmentation import fitted
from jaxgen.data.picture_source import FileReader
from jaxgen.errors import UserError

EXAMPLE = ""
CAPTIONED = False
KIND = "depth"


@dataclasses.dataclass(frozen=True)
class DepthReader:
    """Depths float32 (h, w, 1) in [-1, 1], the shorter side brought to `side`, bilinearly."""

    files: FileReader
    side: int

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> tuple[str, np.ndarray]:
        picture = Image.fromarray(read_depth(self.files.paths[index]))
        size = fitted(picture.size, self.side)
        depth = np.asarray(picture.resize(size, Image.Resampling.BILINEAR), np.float32)
        return self.files.names[index], stretched(depth)[..., None]


def read_depth(path: str | os.PathLike) -> np.ndarray:
    """A depth map in the file's own unit, float32 (h, w). Raises UserError where there is none."""
    try:
        with Image.open(path) as image:
            depth = _values(image)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    if not np.isfinite(depth).all():
        raise UserError(f"{path}: a depth that is not finite")
    return depth


def stretched(depth: np.ndarray) -> np.ndarray:
    """To [-1, 1] by the least and the most; of a flat map -1 everywhere."""
    low, high = float(depth.min()), float(depth.max())
    return (2 * (depth - low) / max(high - low, 1e-8) - 1).astype(np.float32)


def open_records(data: ConfigDict, split: str) -> PlainPictures:
    """The depth maps of `data.path`. Raises UserError as `plain.open_folder`."""
    return open_folder(data, split, DepthReader)


def _values(image: Image.Image) -> np.ndarray:
    """float32 (h, w), in whatever unit the file has."""
    array = np.asarray(image)
    if image.mode == "RGBA":
        return np.ascontiguousarray(array).view(np.float32)[..., 0]
    if array.ndim != 2 or image.mode == "P":
        raise ValueError(f"a depth map is gray, or RGBA as taming writes it, not {image.mode}")
    return array.astype(np.float32)
