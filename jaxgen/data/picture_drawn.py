"""Drawn pictures: animations of how they came about, and the note of it that a PNG holds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from jaxgen.data.picture_about import NOTE
from jaxgen.data.picture_files import replace_file
from jaxgen.data.picture_open import DAMAGED
from jaxgen.errors import UserError


def write_gif(path: str | os.PathLike, frames: Sequence[np.ndarray], pause: int = 120) -> None:
    """Writes an animation that goes on for ever; all or nothing.

    Args: frames: uint8 (h, w, 3) of one size. pause: milliseconds of each; the last stays longer.

    Raises:
      UserError: no permission, disk full.
    """
    images = [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]
    pauses = [pause] * (len(images) - 1) + [10 * pause]
    replace_file(
        Path(path),
        "GIF",
        lambda file: images[0].save(
            file, format="GIF", save_all=True, append_images=images[1:], duration=pauses, loop=0
        ),
    )


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
