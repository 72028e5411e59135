"""An exact reader of CSS's flat scenes: which objects a picture shows, cell by cell.

No learned judge: each of the nine cells is compared with every object that may stand there (8
colours, 3 shapes, 2 sizes, as `jaxgen.data.triplets.css2d` draws them) and with none. The nearest
counts where what is left of the difference is small beside the object itself; a pale, blurred or
torn object is none.

Scenes as they are drawn, under Gaussian blur of sigma 0.5 pixels and under white noise of sigma 8
levels are read without an error (`tests/metrics/test_scene_reader.py`, 150 of each).
"""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import numpy as np
from PIL import Image

from jaxgen.data.triplets import css2d, scenes
from jaxgen.data.triplets.scenes import Scene, Thing

# What may be left of an object's difference from the ground, summed, where it counts as seen; and
# of the faintest object's, where a cell counts as empty.
LEFT = 0.35
EMPTY = 0.35
# Differences of fewer levels are noise.
FAINT = 24.0


class Reading(NamedTuple):
    """What a picture shows.

    scene: its objects. unclear: cells that are neither empty nor show an object.
    """

    scene: Scene
    unclear: tuple[int, ...]


def read(picture: np.ndarray) -> Reading:
    """Finds the objects of a picture, uint8 (n, n, 3); of another side than 64 it is resized.

    Raises:
      ValueError: another shape or type.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"a picture is uint8 (n, n, 3), not {picture.dtype} {picture.shape}")
    if picture.shape[0] != picture.shape[1]:
        raise ValueError(f"pictures of scenes are square, not {picture.shape}")
    if len(picture) != css2d.SIDE:
        side = (css2d.SIDE, css2d.SIDE)
        picture = np.asarray(Image.fromarray(picture).resize(side, Image.Resampling.BOX))
    found, unclear = [], []
    for cell in range(9):
        things, drawn, strength = _templates(cell)
        seen = picture[_box(cell)].astype(np.float32)
        if _apart(seen, 255.0) < EMPTY * strength.min():
            continue
        left = _apart(drawn, seen) / strength
        best = int(left.argmin())
        if left[best] <= LEFT:
            found.append(things[best])
        else:
            unclear.append(cell)
    return Reading(tuple(found), tuple(unclear))


def _box(cell: int) -> tuple[slice, slice]:
    edges = [round(css2d.SIDE * i / 3) for i in range(4)]
    y, x = divmod(cell, 3)
    return slice(edges[y], edges[y + 1]), slice(edges[x], edges[x + 1])


@functools.lru_cache(maxsize=9)
def _templates(cell: int) -> tuple[list[Thing], np.ndarray, np.ndarray]:
    """(objects of a cell, their pictures (k, h, w, 3), each one's summed difference from white)."""
    things = [
        Thing(cell, *rest) for rest in itertools.product(css2d.COLOURS, css2d.SHAPES, scenes.SIZES)
    ]
    drawn = np.stack([css2d.draw(scenes.objects((thing,)))[_box(cell)] for thing in things])
    drawn = drawn.astype(np.float32)
    return things, drawn, _apart(drawn, 255.0)


def _apart(x: np.ndarray, y: np.ndarray | float) -> np.ndarray:
    """Summed difference of pictures (..., h, w, 3) in levels, without the noise."""
    found: np.ndarray = np.maximum(np.abs(x - y) - FAINT, 0.0).sum(axis=(-3, -2, -1))
    return found


# ---- judging -------------------------------------------------------------------------------------


class Judged(NamedTuple):
    """How much of what a text asks for a picture shows.

    right, cells: of the cells that hold an object in the picture or should, how many are right, and
    how many there are. edited: what the text changes is right: the object is there as it was said,
    or gone. whole: all of it, and nothing else.
    """

    right: int
    cells: int
    edited: bool
    whole: bool


def judge(reading: Reading, source: Scene, text: str) -> Judged:
    """Judges a picture that shall show `source` changed as a text of `scenes` says.

    What an added object's text leaves open may be anything: it is in a cell that was free.

    Raises:
      ValueError: a text of another form, or one that names no object of the source or several.
    """
    meaning = scenes.read(text)
    if meaning is None:
        raise ValueError(f"{text!r} is no change of a CSS scene")
    shown = {thing.cell: thing for thing in reading.scene}
    seen = {*shown, *reading.unclear}
    before = {thing.cell: thing for thing in source}

    def fits(thing: Thing) -> bool:
        return all(getattr(thing, field) == value for field, value in meaning.named.items())

    if meaning.kind == "add":
        new = [thing for cell, thing in shown.items() if cell not in before and fits(thing)]
        edited = bool(new)
        wanted = {**before, **({new[0].cell: new[0]} if new else {})}
        missing = 0 if new or seen - set(before) else 1  # the cell where it should be
    else:
        named = [thing for thing in source if fits(thing)]
        if len(named) != 1:
            raise ValueError(f"{text!r} names {len(named)} objects of the scene, not one")
        kept = {cell: thing for cell, thing in before.items() if thing is not named[0]}
        cell, missing = named[0].cell, 0
        if meaning.kind == "remove":
            edited, wanted = cell not in seen, kept
        else:
            wanted = {**kept, cell: named[0]._replace(**meaning.set)}
            edited = shown.get(cell) == wanted[cell]
    right = sum(shown.get(cell) == thing for cell, thing in wanted.items())
    cells = len(seen | set(wanted)) + missing
    return Judged(right, cells, edited, right == cells)
