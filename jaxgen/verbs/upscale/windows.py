"""How a picture is cut into windows that overlap: arithmetic on sizes, in low-resolution pixels."""

from __future__ import annotations

import math
from typing import NamedTuple


class Span(NamedTuple):
    """One window along one axis: it reads from `start`; its output is taken for [low, high)."""

    start: int
    low: int
    high: int


def spans(length: int, window: int, pad: int) -> list[Span]:
    """Covers [0, length) by windows that lie inside it, low-resolution pixels.

    Each window's output is taken at least `pad` away from its cuts, but up to the picture's own
    borders. If `length`, `window` and `pad` are multiples of m, all starts are.
    """
    if window >= length:
        return [Span(0, 0, length)]
    if window <= 2 * pad:
        raise ValueError(f"a window of {window} has no valid centre with a pad of {pad}")
    found, done = [], 0
    while done < length:
        start = min(max(done - pad, 0), length - window)
        end = start + window
        high = length if end == length else end - pad
        found.append(Span(start, done, high))
        done = high
    return found


def fitting_window(
    size: tuple[int, int], pixels: int, pad: int, multiple: int = 1
) -> tuple[int, int]:
    """The window (h, w) of at most about `pixels` pixels for a picture of `size`.

    The whole picture if it fits. Else windows near the square, cut even so that the last one
    does not repeat most of its neighbour, and rounded up to 32 so that the pictures of a folder
    share few shapes. Where `pixels` allows no centre, the smallest useful window is taken.
    """
    if size[0] * size[1] <= pixels:
        return size
    side = math.isqrt(pixels)
    # A narrow picture leaves room for longer windows.
    narrow = min(size)
    if narrow < side:
        side = pixels // narrow
    least = 2 * pad + round_up(32, multiple)
    side = max(side // multiple * multiple, least)
    grain = math.lcm(32, multiple)

    def even(length: int) -> int:
        if length <= side:
            return length
        count = math.ceil((length - 2 * pad) / (side - 2 * pad))
        window = round_up(math.ceil((length - 2 * pad) / count) + 2 * pad, grain)
        return min(window, side)

    return even(size[0]), even(size[1])


def round_up(value: int, multiple: int) -> int:
    """The least multiple that is not below `value`."""
    return -(-value // multiple) * multiple
