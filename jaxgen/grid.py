"""Pictures with captions in rows: one PNG that shows what a model does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MARGIN, LINE = 6, 16
TITLE_WIDTH = 320  # of a sheet with titles, at least


def captioned_grid(
    rows: Sequence[Sequence[tuple[str, np.ndarray]]],
    *,
    titles: Sequence[str] = (),
    max_side: int = 512,
) -> Image.Image:
    """Draws rows of (caption, picture) on a light ground.

    Args:
      rows: pictures are uint8 (h, w, 3); a caption may have several lines.
      titles: a text above each row, broken where it is too long; "" for none.
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
    width = max(sum(widths), TITLE_WIDTH if any(titles) else 0)
    above = [_broken(title, width - MARGIN, font) for title in titles or [""] * len(rows)]
    heights = [h + LINE * len(lines) for h, lines in zip(heights, above, strict=True)]
    sheet = Image.new("RGB", (width + MARGIN, sum(heights) + MARGIN), (245, 245, 245))
    draw = ImageDraw.Draw(sheet)
    top = MARGIN
    for row, height, lines in zip(cells, heights, above, strict=True):
        for i, line in enumerate(lines):
            draw.text((MARGIN, top + LINE * i), line, fill=(20, 20, 20), font=font)
        left, below = MARGIN, top + LINE * len(lines)
        for (caption, picture), step in zip(row, widths, strict=False):
            draw.multiline_text((left, below), caption, fill=(20, 20, 20), font=font, spacing=2)
            sheet.paste(picture, (left, below + LINE * (caption.count("\n") + 1)))
            left += step
        top += height
    return sheet


def enlarge(picture: np.ndarray, least: int = 128) -> np.ndarray:
    """Repeats the pixels of a small picture until its height is `least` or more."""
    factor = max(1, -(-least // picture.shape[0]))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def _fit(picture: np.ndarray, max_side: int) -> Image.Image:
    image = Image.fromarray(picture)
    if max(image.size) > max_side:
        image.thumbnail((max_side, max_side), Image.Resampling.BOX)
    return image


def _text_width(text: str, font) -> int:
    return max(int(font.getlength(line)) for line in text.split("\n"))


def _broken(text: str, width: int, font) -> list[str]:
    """The text in lines of at most `width` pixels, broken between words."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
