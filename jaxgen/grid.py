"""Pictures with captions in rows: one PNG that shows what a model does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MARGIN, LINE = 6, 16


def captioned_grid(
    rows: Sequence[Sequence[tuple[str, np.ndarray]]], *, max_side: int = 512
) -> Image.Image:
    """Draws rows of (caption, picture) on a light ground.

    Args:
      rows: pictures are uint8 (h, w, 3); a caption may have several lines.
      max_side: larger pictures are shown smaller, by whole pixels' area.
    """
    font = ImageFont.load_default(12)
    cells = [[(caption, _fit(picture, max_side)) for caption, picture in row] for row in rows]
    heights = [
        max(im.height + LINE * (text.count("\n") + 1) for text, im in row) + MARGIN for row in cells
    ]
    columns = max(len(row) for row in cells)
    widths = [
        max(max(row[c][1].width, _text_width(row[c][0], font)) for row in cells if c < len(row))
        + MARGIN
        for c in range(columns)
    ]
    sheet = Image.new("RGB", (sum(widths) + MARGIN, sum(heights) + MARGIN), (245, 245, 245))
    draw = ImageDraw.Draw(sheet)
    top = MARGIN
    for row, height in zip(cells, heights, strict=True):
        left = MARGIN
        for (caption, picture), width in zip(row, widths, strict=False):
            draw.multiline_text((left, top), caption, fill=(20, 20, 20), font=font, spacing=2)
            sheet.paste(picture, (left, top + LINE * (caption.count("\n") + 1)))
            left += width
        top += height
    return sheet


def _fit(picture: np.ndarray, max_side: int) -> Image.Image:
    image = Image.fromarray(picture)
    if max(image.size) > max_side:
        image.thumbnail((max_side, max_side), Image.Resampling.BOX)
    return image


def _text_width(text: str, font) -> int:
    return max(int(font.getlength(line)) for line in text.split("\n"))
