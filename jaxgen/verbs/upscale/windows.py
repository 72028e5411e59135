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
    size: tuple[int, int],
    pixels: int,
    pad: int,
    multiple: int = 1,
    at_once: int = 1,
    pictures: int = 1,
) -> tuple[int, int]:
    """The window (h, w) of at most about `pixels` pixels for pictures of `size`.

    The one by which least is computed, overlaps and idle workers included: alone the whole
    picture if it fits. Windows are cut even so that the last one does not repeat most of its
    neighbour, and rounded up to 8 so that pictures of nearly one size share a shape. Where
    `pixels` allows no centre, the smallest useful window is taken.

    Args:
      at_once: how many windows are computed at the same time.
      pictures: how many pictures of this size share the work.
    """
    best, least = None, math.inf
    rows, columns = (_sides(length, pad, multiple) for length in size)
    for height, down in rows:
        for width, across in columns:
            if height * width > pixels:
                continue
            rounds = math.ceil(pictures * down * across / at_once)
            work = rounds * at_once * height * width
            if work < least:  # of equal ones the first: the fewest windows
                best, least = (height, width), work
    return best or (rows[-1][0], columns[-1][0])


def _sides(length: int, pad: int, multiple: int) -> list[tuple[int, int]]:
    """(side, count) of each way to cut `length` evenly, largest sides first."""
    if length <= 2 * pad + round_up(32, multiple):
        return [(length, 1)]
    found, grain = [(length, 1)], math.lcm(8, multiple)
    least = 2 * pad + round_up(32, multiple)
    for count in range(2, math.ceil((length - 2 * pad) / (least - 2 * pad)) + 1):
        side = max(round_up(math.ceil((length - 2 * pad) / count) + 2 * pad, grain), least)
        if side < found[-1][0]:
            found.append((side, math.ceil((length - 2 * pad) / (side - 2 * pad))))
    if least < found[-1][0]:
        found.append((least, math.ceil((length - 2 * pad) / (least - 2 * pad))))
    return found


def round_up(value: int, multiple: int) -> int:
    """The least multiple that is not below `value`."""
    return -(-value // multiple) * multiple
