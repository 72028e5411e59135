"""Drawn pictures: animations of how they came about, and the note of it that a PNG holds."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from jaxgen.data.picture_about import NOTE
from jaxgen.data.picture_files import Picture
from jaxgen.data.picture_frames import Frame, Frames, write_frames
from jaxgen.data.picture_open import DAMAGED
from jaxgen.errors import UserError


def write_gif(path: str | os.PathLike, frames: Sequence[np.ndarray], pause: int = 120) -> None:
    """Writes an animation that goes on for ever; all or nothing.

    Args: frames: uint8 (h, w, 3) of one size. pause: milliseconds of each; the last stays longer.

    Raises:
      UserError: no permission, disk full.
    """
    pauses = [pause] * (len(frames) - 1) + [10 * pause]
    shown = [Frame(Picture(x, None, False), t) for x, t in zip(frames, pauses, strict=True)]
    write_frames(path, shown, Frames(tuple(range(len(frames))), pages=False, plays=0))


def read_note(path: str | os.PathLike) -> str:
    """What `write_image` noted in a PNG; "" if nothing. Raises UserError."""
    try:
        with Image.open(path) as image:
            image.load()  # texts may stand behind the picture
            return str(getattr(image, "text", {}).get(NOTE, ""))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except DAMAGED as error:
        raise UserError(f"{path} is no picture that can be read ({error})") from None
