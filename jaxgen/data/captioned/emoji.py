"""Emoji with their names: the pictures of the font Noto Color Emoji, captioned by Unicode.

Real drawings with real words, offline. Captions are the CLDR short name ("grinning face"), the
Unicode name where it differs, and usual aliases. All skin tones and genders of an emoji have one
meaning and fall on the same side of the split, since "waving hand" is true of each of them.
"""

from __future__ import annotations

import dataclasses
import functools
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict
from PIL import Image, ImageDraw, ImageFont, features

from jaxgen.data.captioned.pictures import fit, hold_out, normalised, shared_meanings
from jaxgen.errors import UserError

EXAMPLE = "grinning face"
FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
# The one size at which the font has bitmaps, and the box that holds one.
_STRIKE = 109
_BOX = (136, 128)

_JOINER, _VARIANT, _RIGHTWARDS = "\u200d", "\ufe0f", "\u27a1"
_TONES = {chr(code) for code in range(0x1F3FB, 0x1F400)}
_GENDERS = {"\u2640", "\u2642"}
# One character for all genders of whom it shows.
_NEUTRAL = str.maketrans(
    {
        "\U0001f468": "\U0001f9d1",  # man: person
        "\U0001f469": "\U0001f9d1",
        "\U0001f466": "\U0001f9d2",  # boy: child
        "\U0001f467": "\U0001f9d2",
        "\U0001f474": "\U0001f9d3",  # old man: older person
        "\U0001f475": "\U0001f9d3",
        "\U0001f478": "\U0001fac5",  # princess: person with crown
        "\U0001f934": "\U0001fac5",
        "\U0001f57a": "\U0001f483",  # man dancing: woman dancing
        "\U0001f385": "\U0001f936",  # Santa Claus: Mrs. Claus
    }
)
_ADULT, _CHILD = "\U0001f9d1", "\U0001f9d2"
_FAMILY = "\U0001f46a"
# Single characters that newer sequences spell out.
_SAME = {
    "\U0001f46b": f"{_ADULT}{_JOINER}\U0001f91d{_JOINER}{_ADULT}",  # two people holding hands
    "\U0001f46c": f"{_ADULT}{_JOINER}\U0001f91d{_JOINER}{_ADULT}",
    "\U0001f46d": f"{_ADULT}{_JOINER}\U0001f91d{_JOINER}{_ADULT}",
    "\U0001f48f": f"{_ADULT}{_JOINER}\u2764{_JOINER}\U0001f48b{_JOINER}{_ADULT}",  # kiss
    "\U0001f491": f"{_ADULT}{_JOINER}\u2764{_JOINER}{_ADULT}",  # couple with heart
    "\U0001faf1\u200d\U0001faf2": "\U0001f91d",  # two hands: handshake
    f"{_ADULT}{_JOINER}\U0001f384": "\U0001f936",  # Mx Claus
    f"{_ADULT}{_JOINER}\U0001f430{_JOINER}{_ADULT}": "\U0001f46f",  # people with bunny ears
    f"{_ADULT}{_JOINER}\U0001faef{_JOINER}{_ADULT}": "\U0001f93c",  # people wrestling
}
# Flags of a country XX and of a region xxx, which there are not.
_NO_COUNTRY = "\U0001f1fd\U0001f1fd"
_NO_REGION = "\U0001f3f4\U000e0078\U000e0078\U000e0078\U000e007f"


@dataclasses.dataclass(frozen=True)
class Named:
    """An emoji: its code points, what it is called, and the base that it is a form of."""

    text: str
    captions: tuple[str, ...]
    base: str


class Emoji:
    """Random-access records {"image", "_captions", "meaning", "_emoji", "_name"}.

    "image" is uint8 (n, n, 3) on white, n = `data.size` times `data.enlarge`, read-only; drawn at
    its first use and kept. "meaning" is shared by all forms of one base, and by emoji with an equal
    caption.

    Args:
      data: a `data` section. split: "train", or "validation": `data.holdout` of the bases.

    Raises:
      UserError: the font is absent or cannot be drawn with.
    """

    def __init__(self, data: ConfigDict, split: str):
        self._font, self._side = data.font or FONT, round(data.size * data.enlarge)
        chosen, meanings = divide(self._font, split, data.holdout)
        if not chosen:
            raise UserError(f"data.holdout={data.holdout} leaves no emoji for {split}")
        self._emoji, self._meanings = chosen, meanings
        self._most_kept = data.cache_mb * 2**20 // (3 * self._side**2)
        self._kept: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What travels to a worker: the recipe, not the pictures."""
        return self.__dict__ | {"_kept": {}}

    def __len__(self) -> int:
        return len(self._emoji)

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = range(len(self))[index]  # negative indices and IndexError as of a list
        emoji = self._emoji[index]
        image = self._kept.get(index)
        if image is None:
            image = draw(emoji.text, self._side, self._font)
            image.setflags(write=False)
            if len(self._kept) < self._most_kept:
                self._kept[index] = image
        return {
            "image": image,
            "_captions": emoji.captions,
            "meaning": self._meanings[index],
            "_emoji": emoji.text,
            "_name": emoji.captions[0],
        }

    def captions(self) -> Iterator[tuple[str, ...]]:
        """Every emoji's captions; draws nothing."""
        return (emoji.captions for emoji in self._emoji)


def open_records(data: ConfigDict, split: str) -> Emoji:
    """The emoji of a split. Raises UserError where the font is absent or draws none."""
    return Emoji(data, split)


def divide(font: str, split: str, holdout: float) -> tuple[tuple[Named, ...], tuple[int, ...]]:
    """(the emoji of a split that the font can draw, their meanings)."""
    found = drawable(font)
    # Forms of one base are linked by it as by an equal caption.
    linked = [(f"base {emoji.base!a}", *emoji.captions) for emoji in found]
    meanings = shared_meanings(linked)
    # By what stands first in a group, so that no caption is on both sides.
    held = hold_out((found[meaning].base for meaning in meanings), holdout)
    kept = [
        (emoji, meaning)
        for emoji, meaning in zip(found, meanings, strict=True)
        if (found[meaning].base in held) == (split == "validation")
    ]
    return tuple(emoji for emoji, _ in kept), tuple(meaning for _, meaning in kept)


@functools.lru_cache(maxsize=2)
def drawable(font: str = FONT) -> tuple[Named, ...]:
    """The emoji that a font can draw, in the order of their code points.

    Those that it lacks are left out; and, with one warning, all that consist of several code points
    (flags, keycaps, skin tones, professions) where Pillow was built without Raqm.

    Raises:
      UserError: no such font, or one that cannot be drawn with.
    """
    face = _face(font)
    kept = []
    left_out = 0
    for emoji in every():
        if not features.check("raqm") and len(emoji.text.replace(_VARIANT, "")) > 1:
            left_out += 1
        elif _has(face, emoji.text):
            kept.append(emoji)
    if left_out:
        logging.warning(
            "%d emoji of several code points are left out: they need Pillow with Raqm "
            "(the packages of PyPI have it)", left_out,
        )  # fmt: skip
    if not kept:
        raise UserError(f"{font} draws no emoji; data.font needs one with colour bitmaps")
    return tuple(kept)


def draw(text: str, side: int, font: str = FONT) -> np.ndarray:
    """An emoji on white, in the middle of a square: uint8 (side, side, 3). Raises UserError."""
    bitmap = Image.fromarray(_bitmap(_face(font), text))
    square = Image.new("RGB", (_BOX[0], _BOX[0]), "white")
    square.paste(bitmap, (0, (_BOX[0] - _BOX[1]) // 2), bitmap)
    return fit(np.array(square), side)


@functools.lru_cache(maxsize=1)
def every() -> tuple[Named, ...]:
    """All emoji that Unicode lists in full form, with their names. Draws nothing."""
    import emoji as names

    full = names.STATUS["fully_qualified"]
    listed = [(text, entry) for text, entry in names.EMOJI_DATA.items() if entry["status"] == full]
    return tuple(
        Named(text, captions(text, entry), base(text))
        for text, entry in sorted(listed, key=lambda item: item[0])
    )


def captions(text: str, entry: dict[str, Any]) -> tuple[str, ...]:
    """What an emoji is called, the CLDR short name first; each name once.

    Args:
      entry: of the package `emoji`: {"en": ":short_name:", "alias": [":other_name:", ...]}.
    """
    found = [_words(entry["en"])]
    plain = text.replace(_VARIANT, "")
    if _is_flag(plain):
        found = [f"flag {found[0]}"]
    elif len(plain) == 1:
        found.append(unicodedata.name(plain, "").lower())
    found += [_words(alias) for alias in entry.get("alias", ())]
    by_words: dict[str, str] = {}
    for name in found:
        # Codes such as +1 say nothing in words.
        if any(letter.isalpha() for letter in name):
            by_words.setdefault(normalised(name), name)
    return tuple(by_words.values())


def base(text: str) -> str:
    """The emoji that another one is a form of: without skin tones, genders and direction."""
    kept = "".join(c for c in text if c not in _TONES and c != _VARIANT)
    if len(kept) > 1:
        parts = kept.split(_JOINER)
        kept = _JOINER.join(p for p in parts if p not in _GENDERS and p != _RIGHTWARDS)
    kept = (kept or text).translate(_NEUTRAL)
    if _JOINER in kept and set(kept) <= {_ADULT, _CHILD, _JOINER}:
        return _FAMILY
    return _SAME.get(kept, kept)


def _words(code: str) -> str:
    """ ":flag_for_Aruba:" -> "flag for Aruba"."""
    return " ".join(code.strip(":").replace("_", " ").split())


def _is_flag(text: str) -> bool:
    """Of a country (two letters) or of a part of one (tags on a black flag)."""
    letters = [0x1F1E6 <= ord(c) <= 0x1F1FF for c in text]
    return all(letters) or (len(text) > 1 and 0xE0000 <= ord(text[-1]) <= 0xE007F)


def _drawn(text: str) -> str:
    """What is given to the font: variation selectors only where shaping understands them."""
    return text if features.check("raqm") else text.replace(_VARIANT, "")


def _has(face: ImageFont.FreeTypeFont, text: str) -> bool:
    """Whether the font holds an emoji, as one glyph."""
    # An unknown sequence is drawn as its parts, side by side.
    if face.getlength(_drawn(text)) > _BOX[0]:
        return False
    plain = text.replace(_VARIANT, "")
    if _is_flag(plain):  # an unknown one may be drawn as a flag with a question mark
        unknown = _NO_COUNTRY if len(plain) == 2 else _NO_REGION
        return _bitmap(face, text).tobytes() != _nowhere(face, unknown)
    if len(plain) > 1:
        return True
    _, top, _, bottom = face.getbbox(_drawn(text))
    return bottom > top


@functools.lru_cache(maxsize=4)
def _nowhere(face: ImageFont.FreeTypeFont, flag: str) -> bytes:
    return _bitmap(face, flag).tobytes()


def _bitmap(face: ImageFont.FreeTypeFont, text: str) -> np.ndarray:
    """The glyph as the font holds it: uint8 (128, 136, 4)."""
    canvas = Image.new("RGBA", _BOX, (255, 255, 255, 0))
    # By its own box: where the glyph lies about the baseline differs between versions of the font.
    left, top, _, _ = face.getbbox(_drawn(text))
    ImageDraw.Draw(canvas).text((-left, -top), _drawn(text), font=face, embedded_color=True)
    return np.array(canvas)


@functools.lru_cache(maxsize=2)
def _face(font: str) -> ImageFont.FreeTypeFont:
    path = Path(font).expanduser()
    if not path.is_file():
        raise UserError(
            f"the emoji font {font} is not there: install the Debian package "
            "fonts-noto-color-emoji, or set data.font to a NotoColorEmoji.ttf"
        )
    try:
        raqm = features.check("raqm")
        layout = ImageFont.Layout.RAQM if raqm else ImageFont.Layout.BASIC
        return ImageFont.truetype(str(path), _STRIKE, layout_engine=layout)
    except OSError as error:
        raise UserError(
            f"{path} cannot be drawn with ({error}): data.font needs a font of colour bitmaps, "
            "such as Noto Color Emoji's"
        ) from None
