"""Captioned shapes: drawn scenes of one to three coloured shapes whose captions are exactly true.

3 shapes, 8 colours, 2 sizes and 9 places (432 different objects), on a nearly white ground.
Position, size, colour and ground vary a little from scene to scene, never so much that a caption
would be in doubt: a generator's noise has something to explain. Scenes follow from split and index
alone; they can be drawn at any resolution. The objects of a scene differ in their (colour, shape)
pair and don't overlap.

Four of the 24 pairs are held out: "train" and "validation" never show them, all objects of
"held_out" scenes are of these pairs, and each colour and shape is seen in other pairs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.captioned import shape_captions
from jaxgen.data.captioned.shape_captions import (
    ATTRIBUTES,
    COLOURS,
    PLACES,
    SHAPES,
    SIZES,
    Claim,
    Thing,
    cell,
    parse,
    true_of,
    vocabulary,
)
from jaxgen.errors import UserError

__all__ = [
    "ATTRIBUTES", "COLOURS", "EXAMPLE", "HELD_OUT", "PLACES", "SHAPES", "SIZES", "SPLITS",
    "TOKENIZED", "Claim", "Scene", "Shapes", "Spot", "Thing", "captions", "check", "coverage",
    "draw", "make_scene", "meaning", "open_records", "parse", "possible", "true_of", "vocabulary",
]  # fmt: skip

EXAMPLE = "a large red circle"
SPLITS = ("train", "validation", "held_out")
MOST_SIDE, MOST_SCENES = 2048, 10**8
VALIDATION_SCENES = 1000  # and as many held-out ones
# Scenes are made of a few words: a tokenizer has seen enough after so many.
TOKENIZED = 2000
HELD_OUT = (("red", "triangle"), ("green", "circle"), ("purple", "square"), ("cyan", "triangle"))
SEEN = tuple((c, s) for c in COLOURS for s in SHAPES if (c, s) not in HELD_OUT)
PALETTE = {
    "red": (222, 40, 40),
    "green": (30, 165, 60),
    "blue": (40, 80, 215),
    "yellow": (250, 220, 40),
    "purple": (150, 50, 190),
    "cyan": (40, 200, 215),
    "brown": (122, 70, 26),
    "gray": (118, 118, 118),
}
# All lengths are shares of the picture's side; y points down.
CENTRES = (0.2, 0.5, 0.8)  # of the rows and columns of places
RADIUS = {"small": 0.097, "large": 0.16}
# Half the side of a square, half the base and height of a triangle, as shares of the radius: so
# that areas are alike, and nothing is cut off at the border.
EXTENT = {"circle": 1.0, "square": 0.9, "triangle": 1.15}
_JITTER = 0.03  # of positions, at most
_SHADE = 10  # of an object's colour, in levels
_MARGIN = 0.01  # to the border
_GAP = 0.05  # between the boxes of two objects
_SUBROWS = 8


@dataclasses.dataclass(frozen=True)
class Spot:
    """Where and how a thing is drawn: centre of its box and radius in [0, 1], colour in levels."""

    y: float
    x: float
    radius: float
    rgb: tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Scene:
    """Things by rows of places from the top left, how each is drawn, and the ground's colour."""

    things: tuple[Thing, ...]
    spots: tuple[Spot, ...]
    ground: tuple[float, float, float]


def make_scene(split: str, index: int, objects: tuple[int, int] = (1, 1)) -> Scene:
    """Scene `index` of a split; `objects` is the least and most of them, 1 to 3.

    Raises:
      UserError: an unknown split, or an impossible number of objects.
    """
    if split not in SPLITS:
        raise UserError(f"captioned shapes have the splits {', '.join(SPLITS)}, not {split!r}")
    least, most = objects
    if not 1 <= least <= most <= 3:
        raise UserError(f"objects={tuple(objects)}: give the least and most, from 1 to 3")
    rng = np.random.default_rng((SPLITS.index(split), index))
    pairs = HELD_OUT if split == "held_out" else SEEN
    count = least + int(rng.random() * (most - least + 1))
    while True:
        # Plain uniform numbers: a generator's other methods cost more than the drawing.
        draws = rng.random((count, 9))
        things = [_thing(pairs, draw) for draw in draws]
        spots = [_spot(thing, draw[4:]) for thing, draw in zip(things, draws, strict=True)]
        if _apart(things, spots):
            break
    level, *tint = rng.random(4)
    order = sorted(range(count), key=lambda i: PLACES.index(things[i].place or ""))
    r, g, b = (float(228 + 18 * level + 8 * t) for t in tint)
    return Scene(tuple(things[i] for i in order), tuple(spots[i] for i in order), (r, g, b))


def _thing(pairs: tuple[tuple[str, str], ...], draw: np.ndarray) -> Thing:
    colour, shape = pairs[int(draw[0] * len(pairs))]
    return Thing(shape, colour, SIZES[int(draw[1] * 2)], PLACES[int(draw[2] * 9)])


def _spot(thing: Thing, draw: np.ndarray) -> Spot:
    """From five numbers in [0, 1): size, y, x, and two of the colour: brightness and hue."""
    assert thing.shape and thing.colour and thing.size and thing.place  # noqa: PT018
    radius = RADIUS[thing.size] * (0.94 + 0.12 * float(draw[0]))
    extent = radius * EXTENT[thing.shape] + _MARGIN
    y, x = (
        min(max(CENTRES[i] + _JITTER * (2 * float(d) - 1), extent), 1 - extent)
        for i, d in zip(cell(thing.place), draw[1:3], strict=True)
    )
    bright, turn = _SHADE * (2 * draw[3] - 1), 2 * np.pi * draw[4]
    red, green, blue = (
        float(min(max(level + bright + _SHADE / 2 * np.cos(turn + k * 2 * np.pi / 3), 0), 255))
        for k, level in enumerate(PALETTE[thing.colour])
    )
    return Spot(y, x, radius, (red, green, blue))


def _apart(things: list[Thing], spots: list[Spot]) -> bool:
    """Whether all pairs (colour, shape) differ and all boxes have a gap between them."""
    for i in range(len(things)):
        for j in range(i):
            a, b = things[i], things[j]
            if (a.colour, a.shape) == (b.colour, b.shape) or a.place == b.place:
                return False
            reach = sum(spots[k].radius * EXTENT[things[k].shape or ""] for k in (i, j)) + _GAP
            if max(abs(spots[i].y - spots[j].y), abs(spots[i].x - spots[j].x)) < reach:
                return False
    return True


def possible(things: Sequence[Thing]) -> bool:
    """Whether there are scenes of these things: in the middle of their ranges they lie apart."""
    return _apart(list(things), [_spot(thing, np.full(5, 0.5)) for thing in things])


def captions(scene: Scene) -> tuple[str, ...]:
    """Texts that are true of the scene, in a fixed order."""
    return shape_captions.captions(scene.things)


def meaning(scene: Scene) -> int:
    """A number below 2**31: where two differ, no caption of one scene is true of the other."""
    return shape_captions.meaning(scene.things)


# ---- drawing -------------------------------------------------------------------------------------


def coverage(shape: str, y: float, x: float, radius: float, size: int) -> np.ndarray:
    """The share of each pixel that a shape covers, float64 (size, size).

    Exact along rows, by `_SUBROWS` samples along columns.

    Args:
      shape: one of SHAPES.
      y, x: centre of its box, in shares of the side.
      radius: in shares of the side.
      size: side in pixels.
    """
    mask = np.zeros((size, size))
    extent = radius * EXTENT[shape] * size
    top = max(int(y * size - extent), 0)
    bottom = min(int(y * size + extent) + 1, size)
    left = max(int(x * size - extent), 0)
    right = min(int(x * size + extent) + 1, size)
    if top >= bottom or left >= right:
        return mask
    rows = (np.arange(_SUBROWS * (bottom - top)) + 0.5) / _SUBROWS + (top - y * size)
    if shape == "circle":
        half = np.sqrt(np.maximum(extent**2 - rows**2, 0))
    else:
        half = np.full(rows.shape, extent) if shape == "square" else (rows + extent) / 2
        half[np.abs(rows) > extent] = 0
    edges = np.arange(left, right + 1) - x * size
    inside = np.minimum(np.maximum(edges, -half[:, None]), half[:, None])  # (sub-rows, columns + 1)
    inside = inside.reshape(bottom - top, _SUBROWS, -1).mean(1)
    mask[top:bottom, left:right] = inside[:, 1:] - inside[:, :-1]
    return mask


def draw(scene: Scene, size: int) -> np.ndarray:
    """The picture: uint8 (size, size, 3)."""
    picture = np.empty((size, size, 3))
    picture[:] = scene.ground
    for thing, spot in zip(scene.things, scene.spots, strict=True):
        mask = coverage(thing.shape or "", spot.y, spot.x, spot.radius, size)
        picture += mask[..., None] * (np.array(spot.rgb) - np.array(scene.ground))
    return (picture + 0.5).astype(np.uint8)


# ---- records -------------------------------------------------------------------------------------


def check(data: ConfigDict) -> None:
    """Refuses settings under which captions would no longer be true. Raises UserError."""
    if data.flip or data.enlarge > 1:
        raise UserError(
            "data.source=shapes: captions say where things are, so data.flip must be False and "
            "data.enlarge 1"
        )


def open_records(data: ConfigDict, split: str) -> Shapes:
    """The scenes of a split: `data.count` to train on. Raises UserError as `Shapes`."""
    count = data.count if split == "train" else VALIDATION_SCENES
    return Shapes(split, count, data.size, tuple(data.objects), data.cache_mb)


def check_numbers(size: int, count: int) -> None:
    """Raises UserError: a side or a number of scenes that there cannot be."""
    if not 1 <= count <= MOST_SCENES:
        raise UserError(f"captioned shapes need at least 1 scene, {MOST_SCENES} at most: {count}")
    if not 16 <= size <= MOST_SIDE:
        raise UserError(
            f"captioned shapes need 16 pixels or more on a side, {MOST_SIDE} at most: {size}"
        )


class Shapes:
    """Random-access records {"image", "_captions", "meaning", "_scene"}.

    "image" is uint8 (size, size, 3), read-only; a scene is drawn at its first use and kept.

    Args:
      split: "train", "validation" or "held_out".
      count: number of scenes.
      size: side of the pictures in pixels.
      objects: the least and most objects in a scene.
      cache_mb: mebibytes of pictures kept.

    Raises:
      UserError: an unknown split or an impossible number.
    """

    def __init__(
        self,
        split: str,
        count: int,
        size: int,
        objects: tuple[int, int] = (1, 1),
        cache_mb: int = 512,
    ):
        check_numbers(size, count)
        self._split, self._count, self._size = split, count, size
        self._objects = (int(objects[0]), int(objects[1]))
        self._most_kept = cache_mb * 2**20 // (3 * size * size)
        self._kept: dict[int, dict[str, Any]] = {}
        make_scene(split, 0, self._objects)  # refuses bad arguments now

    def __getstate__(self) -> dict[str, Any]:
        """What travels to a worker: the recipe, not the pictures."""
        return self.__dict__ | {"_kept": {}}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = range(self._count)[index]  # negative indices and IndexError as of a list
        record = self._kept.get(index)
        if record is None:
            scene = make_scene(self._split, index, self._objects)
            image = draw(scene, self._size)
            image.setflags(write=False)
            record = {
                "image": image,
                "_captions": captions(scene),
                "meaning": meaning(scene),
                "_scene": scene,
            }
            if len(self._kept) < self._most_kept:
                self._kept[index] = record
        return dict(record)

    def captions(self) -> Iterator[tuple[str, ...]]:
        """The records' captions in their order; draws nothing."""
        for index in range(self._count):
            yield captions(make_scene(self._split, index, self._objects))
