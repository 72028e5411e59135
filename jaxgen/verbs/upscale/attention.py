"""Where a prompt's words acted: attention maps of pictures of any size, and the sheet of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from jaxgen.errors import UserError
from jaxgen.grid import captioned_grid
from jaxgen.task import Nets, PyTree
from jaxgen.verbs.upscale.contract import Upscale
from jaxgen.verbs.upscale.windows import fitting_window, spans

# Low-resolution pixels of one window: its activations are held whole.
WINDOW_PIXELS = 256 * 256
# Sides of the sheet's pictures, in pixels.
LEAST_SIDE, MOST_SIDE = 192, 384
COLUMNS = 4
HEAT = np.array([255.0, 170.0, 20.0])


def attention_maps(verb: Upscale, nets: Nets, image: np.ndarray, given: PyTree) -> np.ndarray:
    """How much each low-resolution pixel looked at each token, mean over heads and layers.

    Args:
      verb, nets: the model, which has attention.
      image: uint8 (h, w, 3) or gray (h, w).
      given: what `verb.give` made of a prompt.

    Returns: (h, w, tokens) float32; each pixel's values sum to one. Cut as `upscale_image` does, so
      that windows change nothing.

    Raises:
      UserError: no such picture.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise UserError(f"attention takes uint8 (h, w) or (h, w, 3), not {image.shape}")
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    height, width = image.shape[:2]
    window = fitting_window((height, width), WINDOW_PIXELS, verb.radius, verb.multiple)
    maps = None
    for row in spans(height, window[0], verb.radius):
        for column in spans(width, window[1], verb.radius):
            x = image[row.start : row.start + window[0], column.start : column.start + window[1]]
            found = np.asarray(verb.attention_program(nets, x[None], given))[0]
            if maps is None:
                maps = np.empty((height, width, found.shape[-1]), np.float32)
            maps[row.low : row.high, column.low : column.high] = found[
                row.low - row.start : row.high - row.start,
                column.low - column.start : column.high - column.start,
            ]
    assert maps is not None  # a picture has a window
    return maps


def heat_sheet(picture: np.ndarray, words: Sequence[str], maps: np.ndarray) -> Image.Image:
    """One picture per word: where it acted glows, over the darkened picture in gray.

    Args:
      picture: uint8 (H, W, 3) or gray (H, W), of any size.
      words: captions. maps: (h, w, words) as of `attention_maps`; all share one scale, so that a
        word that acted nowhere stays dark. The caption gives each word's highest share.
    """
    height, width = picture.shape[:2]
    side = max(height, width)
    factor = min(MOST_SIDE / side, max(1.0, -(-LEAST_SIDE // side)))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    kind = Image.Resampling.BOX if factor < 1 else Image.Resampling.NEAREST
    shown = np.asarray(Image.fromarray(picture).convert("L").resize(size, kind), np.float64)
    ground = 0.5 * shown[..., None].repeat(3, axis=2)
    most = max(float(maps.max()), 1e-6) if maps.size else 1.0
    cells = []
    for index, word in enumerate(words):
        if not any(letter.isalnum() for letter in word):  # a comma
            continue
        share = Image.fromarray(maps[..., index].astype(np.float32) / most)
        heat = np.asarray(share.resize(size, Image.Resampling.BILINEAR), np.float64)[..., None]
        heat = np.clip(heat, 0, 1)
        blend = ground * (1 - heat) + (0.35 * ground + 0.65 * HEAT) * heat
        cells.append((f"{word} {maps[..., index].max():.0%}", blend.round().astype(np.uint8)))
    rows = [cells[i : i + COLUMNS] for i in range(0, len(cells), COLUMNS)]
    return captioned_grid(rows, max_side=MOST_SIDE)


def sheet_path(target: Path) -> Path:
    """out.png -> out_attention.png."""
    return target.with_name(f"{target.stem}_attention.png")
