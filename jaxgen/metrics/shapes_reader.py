"""An exact reader of captioned shapes: which objects a picture shows, from its pixels alone.

No learned judge: the ground is the border's median colour; what differs from it falls into
connected components; a component's moments give each shape's centre and radius, and the shape is
the one whose drawn (and perhaps blurred) form overlaps best; the colour is the nearest of the
palette. Moments don't change under blur, so blurred pictures are read as well as sharp ones.

Its own errors, in % of the pictures (2,000 of one object, 1,000 of two or three; half of them with
held-out pairs), under Gaussian blur (sigma in pixels) and white noise (sigma in levels):

    blur, noise           0, 0   0.5, 0   1, 0   0, 8   0, 16   0.5, 8   1, 16
    32 px, one: whole       0      0       0      0     0.05      0       2.3
      (of it: shape)        0      0       0      0     0         0       1.5
      (called invalid)      0      0       0      0     0.05      0       0.8
    32 px, 2 or 3: whole    0      0       0.2    0     0         0       7.5
    64 px, any: whole       0      0       0      0     0         0       0

Colour, size and place have no errors but those of 0.4 % of the several objects that strong blur
joins. What passes for a circle though it is none: a square on its corner (overlap 0.83).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np
from scipy import ndimage

from jaxgen.data.captioned.shape_captions import ATTRIBUTES, COLOURS, PLACES, SHAPES, Claim, Thing
from jaxgen.data.captioned.shapes import CENTRES, EXTENT, PALETTE, RADIUS, Scene, coverage

# An object's pixels differ from the ground by so many levels (the palette does by 180 or more).
# Fainter spots, and those with less than `SPECK` of the smallest object's area, are passed over.
FAINT = 80.0
SPECK = 0.25
# An object is valid where its soft mask and its shape's overlap by so much (intersection over
# union), its colour is so near to one of the palette, at most this share of its inner pixels are
# nearer to another one, and its radius is this near to that of its size.
OVERLAP = 0.8
NEAR = 60.0
MIXED = 0.15
SCALE = 1.4
# The ground of a valid picture is bright.
BRIGHT = 200.0
# Blurs are tried where the sharp form overlaps less than this.
SHARP = 0.95
# Blurs tried, as standard deviations in pixels of a 32 px picture.
_BLURS = (0.0, 0.6, 1.1)
_AREA = {
    "circle": np.pi,
    "square": 4 * EXTENT["square"] ** 2,
    "triangle": 2 * EXTENT["triangle"] ** 2,
}
_LARGE = (RADIUS["small"] * RADIUS["large"]) ** 0.5
_PALETTE = np.array([PALETTE[colour] for colour in COLOURS], np.float64)


@dataclasses.dataclass(frozen=True)
class Found:
    """One object of a picture.

    thing: its attributes. y, x, radius: as of `jaxgen.data.captioned.shapes.Spot`. rgb: colour in
    levels. overlap: of its mask with its shape, 0 to 1. distance: of rgb to the named colour.
    mixed: share of its inner pixels that are nearer to another colour.
    """

    thing: Thing
    y: float
    x: float
    radius: float
    rgb: tuple[float, float, float]
    overlap: float
    distance: float
    mixed: float

    @property
    def valid(self) -> bool:
        """Whether it is one of the dataset's objects, whatever its attributes."""
        near = 1 / SCALE < self.radius / RADIUS[self.thing.size or ""] < SCALE
        return near and self.overlap >= OVERLAP and self.distance <= NEAR and self.mixed <= MIXED


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a picture shows: its objects, the largest first, and the ground's colour in levels."""

    found: tuple[Found, ...]
    ground: tuple[float, float, float]

    @property
    def valid(self) -> bool:
        """Whether it is a picture like the dataset's: 1 to 3 valid objects on a bright ground."""
        return (
            1 <= len(self.found) <= 3
            and min(self.ground) >= BRIGHT
            and all(found.valid for found in self.found)
        )


def read(picture: np.ndarray) -> Reading:
    """Finds the objects of a picture, uint8 (n, n, 3).

    Raises:
      ValueError: another shape or type.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"a picture is uint8 (n, n, 3), not {picture.dtype} {picture.shape}")
    size = picture.shape[0]
    if picture.shape[1] != size:
        raise ValueError(f"pictures of shapes are square, not {picture.shape}")
    pixels = picture.astype(np.float64)
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    ground = np.median(border, axis=0)
    offset = pixels - ground  # (n, n, 3)
    distance = np.sqrt((offset**2).sum(-1))
    found = [_fit(offset, part, ground) for part in _components(distance)]
    found.sort(key=lambda f: -f.radius)
    r, g, b = ground.tolist()
    return Reading(tuple(found), (r, g, b))


def _components(distance: np.ndarray) -> list[np.ndarray]:
    """A mask (n, n) of each object and its soft border; the masks don't overlap."""
    size = len(distance)
    least = SPECK * _AREA["triangle"] * (RADIUS["small"] * size) ** 2
    labels, _ = ndimage.label(distance > FAINT)
    seeds = np.zeros((size, size), np.int32)
    parts = 0
    for at, box in enumerate(ndimage.find_objects(labels), 1):
        part = labels[box] == at
        if part.sum() < least:
            continue
        # Blur joins neighbours; at 60 % of their strength they part again.
        strength = np.percentile(distance[box][part], 90)
        strong, pieces = ndimage.label(part & (distance[box] > 0.6 * strength))
        areas = np.bincount(strong.ravel(), minlength=pieces + 1)
        for piece in range(1, pieces + 1):
            if areas[piece] >= least:
                parts += 1
                seeds[box][strong == piece] = parts
    reach = 2 + size // 32
    if parts == 1:
        return [ndimage.binary_dilation(seeds, _BLOCK, iterations=reach)]
    if parts == 0:
        return []
    away, nearest = ndimage.distance_transform_edt(seeds == 0, return_indices=True)
    owner = np.where(away <= reach, seeds[tuple(nearest)], 0)
    return [owner == part for part in range(1, parts + 1)]


_BLOCK = np.ones((3, 3), bool)


def _fit(offset: np.ndarray, part: np.ndarray, ground: np.ndarray) -> Found:
    """The shape, place, size and colour of one component.

    Args:
      offset: the picture minus its ground, (n, n, 3).
      part: the component's pixels with a margin, (n, n).
    """
    size = len(part)
    rows, columns = np.nonzero(part)
    box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    at = rows - rows.min(), columns - columns.min()
    own = offset[rows, columns]  # (k, 3)
    strength = np.sqrt((own**2).sum(-1))
    inner = strength >= 0.85 * np.percentile(strength, 90)
    core = own[inner].mean(0)
    along = own @ core / (core @ core)  # how much of the object's colour a pixel has
    area = max(float(along.sum()), 1.0)
    y, x = float(along @ (rows + 0.5)) / area, float(along @ (columns + 0.5)) / area
    best: tuple[float, str, float, float, float] = (-1.0, "", 0.0, 0.0, 0.0)
    best_form = along
    for blur, shape in itertools.product(_BLURS, SHAPES):
        if blur > 0 and best[0] > SHARP:
            break
        # A blurred core is paler than the object by `peak`, which grows a little with the radius.
        peak = 1.0
        for _ in range(3 if blur else 1):
            radius = (area * peak / _AREA[shape]) ** 0.5 / size
            middle = y / size - (radius * EXTENT[shape] / 3 if shape == "triangle" else 0)
            drawn = coverage(shape, middle, x / size, radius, size)[box]
            if blur:
                kernel = _blur(size, blur * size / 32)
                drawn = kernel[box[0], box[0]] @ drawn @ kernel[box[1], box[1]]
                peak = min(max(float(drawn[at][inner].mean()), 0.5), 1.0)
        form = drawn[at]
        seen, sharp = _steep(along * peak), _steep(form)
        overlap = np.minimum(seen, sharp).sum() / max(np.maximum(seen, sharp).sum(), 1e-9)
        if overlap > best[0]:
            best = float(overlap), shape, middle, radius, peak
            best_form = form
    overlap, shape, middle, radius, peak = best
    rgb = ground + core / peak
    distances = np.sqrt(((_PALETTE - rgb) ** 2).sum(-1))
    colour = int(distances.argmin())
    inside = best_form > 0.8
    # A little pale, as at the edge, is no other colour.
    share = np.maximum(along[inside] * peak, 0.8)
    levels = ground + own[inside] / share[:, None]  # (j, 3)
    nearest = ((levels[:, None] - _PALETTE[None]) ** 2).sum(-1).argmin(1)
    place = PLACES[_nearest(middle) * 3 + _nearest(x / size)]
    r, g, b = rgb.tolist()
    return Found(
        Thing(shape, COLOURS[colour], "large" if radius > _LARGE else "small", place),
        y=middle,
        x=x / size,
        radius=radius,
        rgb=(r, g, b),
        overlap=overlap,
        distance=float(distances[colour]),
        mixed=float((nearest != colour).mean()) if len(nearest) else 0.0,
    )


def _steep(mask: np.ndarray) -> np.ndarray:
    """A soft mask in [0, 1] without the noise near 0 and 1."""
    return np.clip((mask - 0.15) / 0.7, 0, 1)


def _nearest(position: float) -> int:
    """The row or column of places that a position belongs to."""
    return int(np.argmin([abs(position - centre) for centre in CENTRES]))


@functools.lru_cache(maxsize=32)
def _blur(size: int, sigma: float) -> np.ndarray:
    """The matrix that blurs rows or columns, (n, n)."""
    at = np.arange(size)
    kernel = np.exp(-0.5 * ((at[:, None] - at) / sigma) ** 2)
    return kernel / (sigma * np.sqrt(2 * np.pi))


# ---- judging -------------------------------------------------------------------------------------


def judge(picture: np.ndarray | Reading, claim: Claim | Scene) -> dict[str, bool]:
    """What of a claim (of a caption, or a scene's truth) is right of a picture or its reading.

    Objects are matched to the claim's so that most of it is right. Keys:
      valid: the picture is like the dataset's, see `Reading.valid`.
      count: it shows as many objects as the claim has.
      shape, colour, size, place: right for all objects of which the claim names it; left out where
        it names none.
      relation: all relations hold; left out where there are none.
      named: all of these four and the relations are right at once, whatever else there is: of as
        many of the largest objects as the claim has, and two more.
      whole: all of these.
    """
    reading = picture if isinstance(picture, Reading) else read(picture)
    relations = claim.relations if isinstance(claim, Claim) else ()
    found: list[Found | None] = list(reading.found[: len(claim.things) + 2])
    found += [None] * (len(claim.things) - len(found))
    best: dict[str, bool] = {}
    most = -1
    for order in itertools.permutations(found, len(claim.things)):
        checks = [
            (name, seen is not None and getattr(seen.thing, name) == getattr(said, name))
            for said, seen in zip(claim.things, order, strict=True)
            for name in ATTRIBUTES
            if getattr(said, name) is not None
        ]
        checks += [("relation", _holds(order[i], kind, order[j])) for i, kind, j in relations]
        right = sum(good for _, good in checks)
        if right > most:
            most = right
            best = {
                name: all(good for key, good in checks if key == name)
                for name in (*ATTRIBUTES, "relation")
                if any(key == name for key, _ in checks)
            }
    result = {"valid": reading.valid, "count": len(reading.found) == len(claim.things)} | best
    result["named"] = all(best.values())
    return result | {"whole": all(result.values())}


def _holds(first: Found | None, kind: str, second: Found | None) -> bool:
    """Whether two objects are in one column (row) of places, the first one above (left)."""
    if first is None or second is None:
        return False
    half = (CENTRES[1] - CENTRES[0]) / 2
    down, right = second.y - first.y, second.x - first.x
    if kind == "left of":
        down, right = right, down
    return down > half and abs(right) < half
