"""Unicode's one form: what is a letter, a word's part, an emoji, and text at all.

Equal texts may be written by different code points (é as one, or as e and an accent: macOS writes
names of files so). Captions, prompts and names of files are compared in the form NFC.
"""

from __future__ import annotations

import codecs
import functools
import re
import sys
import unicodedata
from pathlib import Path

from jaxgen.errors import UserError, shown

# How an emoji is shown, coloured or plain: not what it is.
_SELECTORS = dict.fromkeys((0xFE0E, 0xFE0F))
# The blocks of pictographs and arrows. Not asked of a library: ids of words depend on it.
_EMOJI = (
    "\u203c\u2049\u2190-\u21ff\u2300-\u23ff\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff"
    "\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
)
_FLAG = "[\U0001f1e6-\U0001f1ff]"  # two letters are a country's flag
# Skin tones, and the tags of regional flags.
_CHANGED = "\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
_JOINER = "\u200d"


def plain(text: str, where: str = "") -> str:
    """A text in NFC.

    Args: where: it stands, for the message; "": the text is shown alone.

    Raises:
      UserError: half a surrogate pair, which is also how Python shows a byte that is no UTF-8.
    """
    if text.isascii():
        return text
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UserError(
            f"{where + ': ' if where else ''}half a surrogate pair, or a byte that is no UTF-8, in "
            f"{shown(text)}; write it as UTF-8"
        )
    return unicodedata.normalize("NFC", text)


def nfc(text: str) -> str:
    """A file's name, say, as it is compared: in NFC; bytes that are no UTF-8 stay as they are."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def lower(text: str) -> str:
    """A text in lower case and NFC, without signs that say how an emoji or a letter is shown.

    Raises:
      UserError: as `plain`.
    """
    if text.isascii():
        return text.lower()
    text = nfc(plain(text).lower()).translate(_SELECTORS)
    # Behind a mark (a virama, say) joiners choose between the shapes of one word.
    return _shape_joiners().sub("", text)


@functools.cache
def marks() -> str:
    """All combining signs, as the inside of a regular expression's brackets."""
    runs: list[list[int]] = []
    for code in range(0x300, sys.maxunicode + 1):
        if unicodedata.category(chr(code)).startswith("M"):
            if runs and runs[-1][1] == code - 1:
                runs[-1][1] = code
            else:
                runs.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in runs)


@functools.cache
def word() -> str:
    """A regular expression of a run of letters and digits, each with its combining signs."""
    return rf"[^\W_](?:[^\W_]|[{marks()}])*"


@functools.cache
def emoji() -> str:
    """A regular expression of one emoji with what changes it: tones, tags, joined others."""
    one = rf"[{_EMOJI}][{_CHANGED}{marks()}]*"
    return rf"{_FLAG}{{2}}|{one}(?:{_JOINER}{one})*|[#*]\u20e3"


@functools.cache
def _shape_joiners() -> re.Pattern[str]:
    return re.compile(rf"(?<=[{marks()}])[\u200c{_JOINER}]")


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
      UserError: it can't be read, or is no UTF-8; says the line.
    """
    try:
        # Not as "utf-8-sig", whose errors are counted from behind the mark.
        raw = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from None
