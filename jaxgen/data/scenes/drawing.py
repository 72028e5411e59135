"""Scenes whose low-resolution picture does not say what they show: only the prompt does.

A scene is a coloured ground with one to three patches, each with a fine texture, and a caption such
as "vertical stripes on the left, checks on the right". All textures repeat every 4 pixels and have
zero mean, and MATLAB's bicubic by 1/4 has its spectral zeros there: its weights add up to the same
over each residue class of positions modulo 4. So every texture becomes the same flat colour at low
resolution, where the patches' places and colours stay visible. At a patch's border the texture
fades out over some pixels, and what would still be seen of it is taken away. The textures' phase is
fixed to the picture's grid: the prompt decides every pixel, and PSNR can be high.

Records follow from split and index alone. Some pairs and triples of textures are never trained on;
the validation scenes of more than one patch show only those.
"""

from __future__ import annotations

import dataclasses
import itertools
import zlib
from collections.abc import Sequence

import numpy as np

from jaxgen.data.resize import imresize
from jaxgen.data.text.tokens import COMMA

SCALE = 4
# Standard deviation of a texture, in levels; the brightest dot is sqrt(3) times as far from its
# patch's colour.
CONTRAST = 40.0
# Pixels over which a texture fades out at its patch's border.
FADE = 4
# They leave two levels at most, rounding included.
BACK_PROJECTIONS = 2
MARGIN = 4

_TILES = {
    "vertical stripes": ("##..", "##..", "##..", "##.."),
    "horizontal stripes": ("####", "....", "....", "####"),
    "fine vertical stripes": ("#.#.", "#.#.", "#.#.", "#.#."),
    "fine horizontal stripes": ("....", "####", "....", "####"),
    "rising stripes": (".##.", "##..", "#..#", "..##"),
    "falling stripes": ("#..#", "##..", ".##.", "..##"),
    "checks": ("..##", "..##", "##..", "##.."),
    "fine checks": ("#.#.", ".#.#", "#.#.", ".#.#"),
    "dots": ("....", "..##", "..##", "...."),
    "grid": (".###", ".###", ".###", "...."),
    "plain": ("....", "....", "....", "...."),
}
TEXTURES = tuple(_TILES)
# What captions call them; the first is the usual name.
_NAMES: dict[str, tuple[str, ...]] = {
    "vertical stripes": ("vertical stripes", "upright stripes", "vertical lines"),
    "horizontal stripes": ("horizontal stripes", "level stripes", "horizontal lines"),
    "fine vertical stripes": ("fine vertical stripes", "fine vertical lines"),
    "fine horizontal stripes": ("fine horizontal stripes", "fine horizontal lines"),
    "rising stripes": ("rising stripes", "rising diagonal lines"),
    "falling stripes": ("falling stripes", "falling diagonal lines"),
    "checks": ("checks", "squares"),
    "fine checks": ("fine checks", "fine squares"),
    "dots": ("dots", "spots"),
    "grid": ("grid", "mesh"),
    "plain": ("plain", "no texture"),
}
# All channels leave room for the textures.
_COLOURS = {
    "red": (172, 74, 74),
    "green": (78, 160, 84),
    "blue": (74, 100, 176),
    "yellow": (172, 160, 70),
    "purple": (140, 76, 164),
    "gray": (128, 128, 128),
}
# Grounds are paler or darker than any patch.
_GROUNDS = ((205, 200, 190), (190, 202, 212), (60, 58, 70), (48, 64, 58))
_ARRANGEMENTS: dict[str, tuple[str, ...]] = {
    "one": ("",),
    "columns": ("left", "right"),
    "rows": ("top", "bottom"),
    "three columns": ("left", "middle", "right"),
    "three rows": ("top", "middle", "bottom"),
}
_PLACES = {
    "left": ("on the left", "at the left"),
    "right": ("on the right", "at the right"),
    "top": ("at the top", "above"),
    "bottom": ("at the bottom", "below"),
    "middle": ("in the middle", "in the centre"),
}
_HELD_OUT = 8  # one combination of textures in so many
_SPLITS = {"train": 0, "validation": 1}


def vocabulary() -> tuple[str, ...]:
    """Every word that captions use, in a fixed order."""
    texts = [*itertools.chain(*_NAMES.values()), *itertools.chain(*_PLACES.values()), *_COLOURS]
    texts += ["left", "right", "top", "bottom", "middle", "the patch has", "and", "a with"]
    return (COMMA, *dict.fromkeys(" ".join(texts).split()))


@dataclasses.dataclass(frozen=True)
class Patch:
    """A rectangle, or the ellipse inside it, in pixels; `place` is its name in the arrangement."""

    place: str
    colour: str
    top: int
    left: int
    height: int
    width: int
    round: bool


@dataclasses.dataclass(frozen=True)
class Layout:
    """All of a scene that is seen at low resolution."""

    size: int
    ground: tuple[int, int, int]
    arrangement: str
    patches: tuple[Patch, ...]


@dataclasses.dataclass(frozen=True)
class Scene:
    """A layout, and the texture of each of its patches."""

    layout: Layout
    textures: tuple[str, ...]


def tile(texture: str) -> np.ndarray:
    """The texture's 4x4 pixels, float64 with mean 0 and standard deviation 1 ("plain": zeros)."""
    pixels = np.array([[c == "#" for c in row] for row in _TILES[texture]], np.float64)
    pixels -= pixels.mean()
    spread = pixels.std()
    return pixels / spread if spread else pixels


def make_layout(rng: np.random.Generator, size: int) -> Layout:
    """A random layout: patches on the low-resolution grid, in different colours."""
    arrangement = str(rng.choice(list(_ARRANGEMENTS)))
    places = _ARRANGEMENTS[arrangement]
    colours = rng.choice(list(_COLOURS), size=len(places), replace=False)
    inside = size - 2 * MARGIN
    # Borders between the patches, on the grid of 4 pixels.
    cuts = [MARGIN + inside * i // len(places) // SCALE * SCALE for i in range(len(places))]
    cuts.append(size - MARGIN)
    across = "rows" in arrangement
    patches = []
    for place, colour, low, high in zip(places, colours, cuts, cuts[1:], strict=False):
        high -= SCALE * int(high < size - MARGIN)
        # The free side may be shorter, and starts somewhere.
        length = inside - SCALE * int(rng.integers(0, inside // (3 * SCALE) + 1))
        start = MARGIN + SCALE * int(rng.integers(0, (inside - length) // SCALE + 1))
        box = (low, start, high - low, length) if across else (start, low, length, high - low)
        patches.append(Patch(place, str(colour), *box, round=bool(rng.random() < 0.25)))
    ground = _GROUNDS[int(rng.integers(len(_GROUNDS)))]
    return Layout(size, ground, arrangement, tuple(patches))


def draw(scene: Scene) -> np.ndarray:
    """The picture: uint8 (size, size, 3)."""
    layout = scene.layout
    picture = np.empty((layout.size, layout.size, 3))
    picture[:] = layout.ground
    pattern = np.zeros((layout.size, layout.size))
    repeats = layout.size // SCALE
    for patch, texture in zip(layout.patches, scene.textures, strict=True):
        depth = _depth(patch, layout.size)
        picture[depth > 0] = _COLOURS[patch.colour]
        strength = CONTRAST * np.clip(depth / FADE, 0, 1)
        pattern += strength * np.tile(tile(texture), (repeats, repeats))
    picture += _unseen(pattern)[..., None]
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


def _unseen(pattern: np.ndarray) -> np.ndarray:
    """The pattern (h, w) without what bicubic shrinking keeps of it, by back-projection."""
    for _ in range(BACK_PROJECTIONS):
        seen = imresize(pattern, scale=1 / SCALE, mode="float")
        pattern = pattern - imresize(seen, scale=SCALE, mode="float")
    return pattern


def _depth(patch: Patch, size: int) -> np.ndarray:
    """Distance to the patch's border in pixels, positive inside: (size, size)."""
    y, x = np.mgrid[:size, :size] + 0.5
    up, down = y - patch.top, patch.top + patch.height - y
    left, right = x - patch.left, patch.left + patch.width - x
    if not patch.round:
        return np.minimum(np.minimum(up, down), np.minimum(left, right))
    a, b = patch.height / 2, patch.width / 2
    radius = np.hypot((y - patch.top - a) / a, (x - patch.left - b) / b)
    return (1 - radius) * min(a, b)


def caption(scene: Scene, rng: np.random.Generator, leave_out: float = 0.0) -> tuple[str, set[str]]:
    """(a caption, the textures that it names).

    Patches are named by place or by colour, in any order and several phrasings.

    Args:
      leave_out: probability that one of several patches is not mentioned.
    """
    order = list(rng.permutation(len(scene.textures)))
    if len(order) > 1 and rng.random() < leave_out:
        order.pop()
    by_colour = rng.random() < 0.4
    alone = scene.layout.arrangement == "one"
    clauses = []
    for i in order:
        patch, texture = scene.layout.patches[i], scene.textures[i]
        name = _pick(rng, _NAMES[texture])
        forms: tuple[str, ...]
        if by_colour:
            forms = (f"{name} on the {patch.colour} patch", f"the {patch.colour} patch has {name}")
        elif alone:
            forms = (name, f"a patch with {name}", f"{name} {_pick(rng, _PLACES['middle'])}")
        else:
            forms = (f"{name} {_pick(rng, _PLACES[patch.place])}", f"{patch.place}: {name}")
        clauses.append(_pick(rng, forms))
    text = _pick(rng, (", ", " and ")).join(clauses)
    return text, {scene.textures[i] for i in order}


def usual_caption(scene: Scene) -> str:
    """The caption that evaluation uses: by place, in order, all patches."""
    parts = (
        f"{texture} {_PLACES[patch.place][0]}" if patch.place else texture
        for patch, texture in zip(scene.layout.patches, scene.textures, strict=True)
    )
    return ", ".join(parts)


def other_textures(scene: Scene, rng: np.random.Generator) -> Scene:
    """The same layout, with another texture on every patch."""
    free = [t for t in TEXTURES if t not in scene.textures]
    chosen = rng.choice(free, size=len(scene.textures), replace=False)
    return Scene(scene.layout, tuple(str(t) for t in chosen))


def held_out(arrangement: str, textures: Sequence[str]) -> bool:
    """True for combinations that only validation scenes show."""
    if len(textures) == 1:
        return False
    return zlib.crc32("|".join((arrangement, *textures)).encode()) % _HELD_OUT == 0


def make_scene(split: str, index: int, size: int) -> Scene:
    """Scene `index` of a split, "train" or "validation"."""
    rng = np.random.default_rng((_SPLITS[split], index))
    layout = make_layout(rng, size)
    count = len(layout.patches)
    while True:
        textures = tuple(str(t) for t in rng.choice(TEXTURES, size=count, replace=False))
        wanted = split == "validation" and count > 1
        if held_out(layout.arrangement, textures) == wanted:
            return Scene(layout, textures)


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]
