"""Which pictures of a tree are originals (HR), and which are small copies of them (LR).

Benchmark sets come in many layouts: HR/ beside LR/, DIV2K_valid_HR/0801.png beside
DIV2K_valid_LR_bicubic/X4/0801x4.png, image_SRF_4/img_001_SRF_4_HR.png beside .._LR.png, original/
or GTmod12/ beside LRbicx4/. Names of folders and files say what a picture is (its role and scale)
and, without these words, which others show the same.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxgen.data.picture_files import image_size, list_images, read_image
from jaxgen.data.text.unicode import nfc
from jaxgen.errors import UserError

_LOW = re.compile(r"l[rq](?:[a-z]*?)(?:x?(\d+))?(?:up|down)?")
_LOW_WORDS = ("lowres", "lowresolution")
# Folders of these names alone; in a file's name they say what it shows ("low_tide").
_FOLDERS = {"low": True, "input": True, "inputs": True, "high": False, "target": False,
            "targets": False}  # fmt: skip
_HIGH = re.compile(r"hr(?:x(\d+))?|gt(?:mod\d+)?|originals?|groundtruth|highres|orig")
_SCALE = re.compile(r"x(\d+)[mdw]?")
_SUFFIX = re.compile(r"(.+)x(\d+)[mdw]?", re.IGNORECASE)  # 0801x4
# Say how an LR was made; a folder of the name alone says nothing.
_WAYS = ("bicubic", "bic", "unknown", "mild", "difficult", "wild", "sub")
_NAMED = 5
# Pictures of which one is the other in small differ by less than this on the scale of 0..255.
_SAME = 10.0
# Sizes that differ by such factors are looked at; so many pairs of pictures at most.
_FACTORS = (2, 3, 4, 8, 16)
_LOOKS = 1000


class _Reading(NamedTuple):
    """What a path says. key: what is shown. low: it is an LR; None: it does not say."""

    key: tuple[str, ...]
    low: bool | None
    scale: int | None


class Pairs(NamedTuple):
    """The originals, in order; each one's LR where the tree has them; the folder of their names."""

    high: list[Path]
    low: dict[Path, Path]
    folder: Path


def find_pairs(root: Path, scale: int) -> Pairs:
    """Originals below a folder (or one file), with their LR of a scale.

    Where the tree holds no LR, `low` is empty: they are to be made.

    Raises:
      UserError: no pictures, originals without LR, several that may be, or small copies beside
        originals that no name tells apart.
    """
    files = list_images(root)
    if not files:
        raise UserError(f"{root} holds no pictures")
    if root.is_file():
        return Pairs(files, {}, root)
    readings, groups, lows = _grouped(root, files)
    _refuse_results([file for file in files if file not in lows], readings)
    if not lows or len(lows) == len(files):
        _refuse_copies(files)
        return Pairs(files, {}, root)
    if not any(readings[file].scale in (scale, None) for file in lows):
        found = sorted({f"x{readings[file].scale}" for file in lows})
        raise UserError(
            f"{root} holds LR pictures of {', '.join(found)}, none of x{scale}: use such a model, "
            "or give the folder of the originals alone, of which LR pictures are made"
        )
    pairs: dict[Path, Path] = {}
    missing: list[str] = []
    for group in groups.values():
        every = [file for file in group if file not in lows]
        if not every:
            continue
        low = [f for f in group if f in lows and readings[f].scale in (scale, None)]
        high = _of_scale(every, scale, readings)
        if not low or not high:
            missing.append(every[0].name)
            continue
        one, its = _choose(high, low, scale)
        pairs[one] = its
    if missing:
        where = next(iter(sorted({file.parent for file in lows})))
        raise UserError(
            f"{where} has no picture for {', '.join(missing[:_NAMED])}: give the folder of the "
            "originals alone, of which LR pictures are made, or complete the pairs"
        )
    order = sorted(pairs)
    return Pairs(order, pairs, root / "HR" if (root / "HR").is_dir() else _common(order))


def originals(root: Path) -> list[Path]:
    """The pictures of a tree that are not small copies of others.

    Raises:
      UserError: as `find_pairs`.
    """
    files = list_images(root)
    if root.is_file():
        return files
    readings, _, lows = _grouped(root, files)
    _refuse_results([file for file in files if file not in lows], readings)
    if len(lows) == len(files):
        lows = set()
    rest = [file for file in files if file not in lows]
    _refuse_copies(rest)
    return rest


_Readings = dict[Path, _Reading]
_Groups = dict[tuple[str, ...], list[Path]]


def _grouped(root: Path, files: list[Path]) -> tuple[_Readings, _Groups, set[Path]]:
    """What each path says, the files that show the same, and those of them that are LR."""
    readings = {file: _read(file.relative_to(root)) for file in files}
    keys = {reading.key for reading in readings.values()}
    for file, (key, low, scale) in readings.items():
        # A number after an x is a scale where the name before it is there, too (0801x4, but fox2).
        if key and (found := _SUFFIX.fullmatch(key[-1])) and (*key[:-1], found[1]) in keys:
            readings[file] = _Reading((*key[:-1], found[1]), low, scale or int(found[2]))
    groups: _Groups = defaultdict(list)
    for file, reading in readings.items():
        groups[reading.key].append(file)
    return readings, groups, {f for group in groups.values() for f in _lows(group, readings)}


def _read(place: Path) -> _Reading:
    """A path below the tree's root, part by part."""
    low: bool | None = None
    scale: int | None = None
    key: list[str] = []
    for at, part in enumerate((*place.parent.parts, nfc(place.stem))):
        if at < len(place.parent.parts) and part.lower() in _FOLDERS:
            low = _FOLDERS[part.lower()]
            continue
        words, kept = re.split(r"[_\-\s.]+", part), []
        roles = [_role(word) for word in words]
        told = any(role is not None for role in roles)
        after_srf = False
        for word, role in zip(words, roles, strict=True):
            lower = word.lower()
            if role is not None:
                # The file's own name says more than its folder's.
                low = role[0]
                scale = role[1] or scale
            elif lower == "srf":
                after_srf = True
                continue
            elif after_srf and lower.isdigit():
                scale = int(lower)
            elif found := _SCALE.fullmatch(lower):
                scale = int(found[1])
            elif not (told and lower in _WAYS):
                kept.append(word)
            after_srf = False
        if kept:
            key.append("_".join(kept))
    if key and key[0] in ("image", "images"):
        key = key[1:]
    return _Reading(tuple(key), low, scale)


def _role(word: str) -> tuple[bool, int | None] | None:
    """(whether an LR, of which scale) of one word; None: it says neither."""
    lower = word.lower()
    if lower in _LOW_WORDS:
        return True, None
    if found := _LOW.fullmatch(lower):
        return True, int(found[1]) if found[1] else None
    if found := _HIGH.fullmatch(lower):
        return False, int(found[1]) if found[1] else None
    return None


def _lows(group: list[Path], readings: _Readings) -> list[Path]:
    """Of files that show the same, those that are LR; a scale alone makes one beside another."""
    told = [file for file in group if readings[file].low]
    silent = [f for f in group if readings[f].low is None and readings[f].scale is not None]
    if any(not readings[f].low and f not in silent for f in group):
        told += silent
    return told


def _of_scale(high: list[Path], scale: int, readings: _Readings) -> list[Path]:
    """Originals that are cut for a scale (HR_x4) are those of that scale alone."""
    own = [file for file in high if readings[file].scale == scale]
    return own or [file for file in high if readings[file].scale is None]


def _choose(high: list[Path], low: list[Path], scale: int) -> tuple[Path, Path]:
    """The one pair of sizes that fit; several are refused."""
    if len(high) == 1 and len(low) == 1:
        return high[0], low[0]
    fitting = [(h, l_) for h in high for l_ in low if _fits(image_size(h), image_size(l_), scale)]
    exact = [pair for pair in fitting if _fits(image_size(pair[0]), image_size(pair[1]), scale, 0)]
    found = exact if len(exact) == 1 else fitting
    if len(found) != 1:
        several = ", ".join(str(file) for file in (*high, *low)[:_NAMED])
        raise UserError(
            f"which of these are a pair of x{scale} is not told by names and sizes: {several}; "
            "give a folder with one original and one LR of each picture"
        )
    return found[0]


def _fits(high: tuple[int, int], low: tuple[int, int], scale: int, rest: int | None = None) -> bool:
    """Whether sizes are in the ratio of the scale, up to what is cut off to a multiple of it."""
    rest = scale - 1 if rest is None else rest
    return all(0 <= h - scale * n <= rest for h, n in zip(high, low, strict=True))


def _refuse_results(files: list[Path], readings: _Readings) -> None:
    """Raises UserError if beside a folder of originals (HR) another one holds what a model made.

    It has pictures of the same names and sizes, and does not say that they are originals, too.
    """
    told = {_place(file): file for file in files if readings[file].low is False}
    for file in files:
        original = told.get(_place(file))
        if readings[file].low is not None or original is None or file.parent == original.parent:
            continue
        if image_size(file) == image_size(original):
            raise UserError(
                f"{file} has the name and size of {original}, but its folder does not say that it "
                f"is an original: give {original.parent} alone"
            )


def _place(file: Path) -> tuple[Path, str]:
    """The folder that holds a file's own, and its name."""
    return file.parent.parent, nfc(file.stem).lower()


def _refuse_copies(files: list[Path]) -> None:
    """Raises UserError if of two files of one name one is the other in small."""
    named: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        stem = nfc(file.stem).lower()
        found = re.fullmatch(r"(.+?)[_\-]?x\d+(?:\.\d+)?", stem)
        named[found[1] if found else stem].append(file)
    looks = 0
    for group in named.values():
        if len(group) < 2:
            continue
        of_size: dict[tuple[int, int], list[Path]] = defaultdict(list)
        for file in group:
            of_size[image_size(file)].append(file)
        for height, width in list(of_size):
            for factor in _FACTORS:
                for small in of_size.get((height // factor, width // factor), ()):
                    for large in of_size[height, width]:
                        looks += 1
                        if looks < _LOOKS and _same(small, large):
                            raise UserError(
                                f"{small} is {large} in small: give the folder of the originals "
                                "alone, or name the folders HR and LR"
                            )


def _same(small: Path, large: Path) -> bool:
    """Whether a picture is another one in small."""
    a = read_image(small).astype(np.float64)
    b = read_image(large)
    factor = b.shape[0] // a.shape[0]
    b = b[: a.shape[0] * factor, : a.shape[1] * factor]
    if b.shape[1] != a.shape[1] * factor:
        return False
    mean = b.reshape(a.shape[0], factor, a.shape[1], factor, 3).mean((1, 3))
    return bool(np.abs(a - mean).mean() < _SAME)


def _common(files: list[Path]) -> Path:
    """The deepest folder that holds all of them."""
    common = files[0].parent
    while not all(file.is_relative_to(common) for file in files):
        common = common.parent
    return common
