"""Pictures as an autoencoder takes and gives them: photos, segmentations, depth maps; NumPy."""

from __future__ import annotations

import colorsys

import numpy as np

from jaxgen.data.captioned.depth import stretched
from jaxgen.errors import UserError
from jaxgen.verbs.encode.contract import Encode

_WANTED = {
    "photo": "uint8 (h, w, 3) or gray (h, w)",
    "segmentation": "uint8 (h, w), a class for each pixel",
    "depth": "a number for each pixel (h, w)",
}


def prepared(verb: Encode, image: np.ndarray) -> np.ndarray:
    """A picture as `verb.encode` takes it: float32 (h, w, channels).

    Args:
      image: photos uint8 (h, w, 3) or gray (h, w); segmentations classes uint8 (h, w); depths
        numbers (h, w) in any unit, stretched to [-1, 1]. A last axis of one is left out.

    Raises:
      UserError: no such picture.
    """
    image = np.asarray(image)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    flat = image.ndim == 2
    fits = {
        "photo": image.dtype == np.uint8 and (flat or image.shape[2:] == (3,)),
        "segmentation": image.dtype == np.uint8 and flat,
        "depth": flat and image.dtype.kind in "fiu",
    }[verb.kind]
    if not fits or image.ndim not in (2, 3) or not image.size:
        raise UserError(f"this model takes {_WANTED[verb.kind]}, not {image.dtype} {image.shape}")
    if verb.kind == "segmentation":
        if image.max() >= verb.channels:
            raise UserError(f"class {image.max()}: this model knows 0 to {verb.channels - 1}")
        return np.eye(verb.channels, dtype=np.float32)[image]
    if verb.kind == "depth":
        return stretched(image.astype(np.float32))[..., None]
    color = np.repeat(image[..., None], 3, axis=2) if flat else image
    return color.astype(np.float32) / 127.5 - 1.0


def from_record(verb: Encode, image: np.ndarray) -> np.ndarray:
    """A picture of a record of `jaxgen.data.captioned` as `verb.encode` takes it."""
    return image if verb.kind == "depth" else prepared(verb, image)


def finished(verb: Encode, y: np.ndarray) -> np.ndarray:
    """What `verb.decode` gives, (h, w, channels) -> uint8 (h, w, 3), or (h, w) of the other kinds.

    A segmentation's classes; a depth's 0 for the nearest number of its range and 255 for the last.
    """
    if verb.kind == "segmentation":
        return y.argmax(axis=-1).astype(np.uint8)
    levels = np.clip(np.round((y + 1.0) * 127.5), 0, 255).astype(np.uint8)
    return levels[..., 0] if verb.kind == "depth" else levels


def shown(verb: Encode, picture: np.ndarray) -> np.ndarray:
    """A picture of `finished` to look at, uint8 (h, w, 3): classes have colours, depth is gray."""
    if verb.kind == "segmentation":
        return _colours(verb.channels)[picture]
    return np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture


def _colours(count: int) -> np.ndarray:
    """One for each class, (count, 3) uint8; neighbours differ, class 0 is black."""
    turns = [(i * 0.618034) % 1.0 for i in range(count)]
    rgb = [colorsys.hsv_to_rgb(turn, 0.55 + 0.45 * (i % 2), 0.95) for i, turn in enumerate(turns)]
    colours = np.round(255 * np.array(rgb)).astype(np.uint8)
    colours[0] = 0
    return colours
