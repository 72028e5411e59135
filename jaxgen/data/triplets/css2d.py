"""CSS's 2-D pictures: coloured shapes on a white ground, pixel for pixel as google/tirg draws them.

A scene is a list of objects {"color", "shape", "size", "pos"}, as the published file holds them;
`pos` is (y, x) of the centre in shares of the side. What is called a circle is a diamond.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxgen.errors import UserError

SIDE = 64
COLOURS = {
    "gray": (87, 87, 87),
    "red": (244, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 205, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}
SHAPES = ("rectangle", "circle", "triangle")
HALF = {"small": 4.0, "large": 8.0}  # half the side of an object, in pixels
Object = Mapping[str, Any]


def draw(scene: Sequence[Object]) -> np.ndarray:
    """The picture: uint8 (64, 64, 3); later objects lie over earlier ones.

    Bounds are cut to whole pixels, and where an object crosses the upper or left border they count
    from the other side, as the original's do: such objects vanish or come out wrongly.

    Raises:
      UserError: an object that reaches below the picture, which the original cannot draw, or one
        of another colour, shape or size.
    """
    picture = np.full((SIDE, SIDE, 3), 255, np.uint8)
    for thing in scene:
        try:
            colour, half = COLOURS[thing["color"]], HALF[thing["size"]]
            y, x = (float(share) * SIDE for share in thing["pos"])
            spans = _SPANS[thing["shape"]](y, x, half)
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{dict(thing)} is no object of a CSS scene") from None
        for row, left, right in spans:
            if row >= SIDE:
                raise UserError(f"an object at {tuple(thing['pos'])} reaches below the picture")
            picture[row, int(left) : int(right)] = colour
    return picture


def _rectangle(y: float, x: float, half: float) -> list[tuple[int, float, float]]:
    rows = range(SIDE)[int(y - half) : int(y + half)]
    return [(row, x - half, x + half) for row in rows]


def _diamond(y: float, x: float, half: float) -> list[tuple[int, float, float]]:
    rows = range(int(y - half), int(y + half) + 1)
    return [_centred(row, x, half - abs(row - y)) for row in rows]


def _triangle(y: float, x: float, half: float) -> list[tuple[int, float, float]]:
    rows = range(int(y - half), int(y + half))
    return [_centred(row, x, abs(row - y + half) / 2) for row in rows]


def _centred(row: int, x: float, reach: float) -> tuple[int, float, float]:
    left = x - reach
    return row, left, 2 * x - left


_SPANS = {"rectangle": _rectangle, "circle": _diamond, "triangle": _triangle}
