"""Prompts as numbers: a word-level tokenizer whose vocabulary stands in the config.

Any other `Tokenizer` can take its place: one that cuts words into pieces (`jaxgen.data.text.bpe`)
gives each piece as one of the prompt's words.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from jaxgen.data.text import unicode
from jaxgen.data.text.prompt import Prompt
from jaxgen.errors import UserError

# The first three ids. Every prompt begins with <start>; the empty prompt is <start> alone.
SPECIAL = ("<pad>", "<start>", "<unk>")
PAD, START, UNKNOWN = range(3)
# Words, and the comma: it tells which words belong together.
COMMA = ","
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*|,")  # of ASCII texts


class Tokenizer(Protocol):
    """What the models ask of a tokenizer.

    length: tokens of an encoded prompt, padding included. size: number of different ids.
    """

    length: int
    size: int

    def encode(self, text: str) -> Prompt:
        """The prompt of a text, with a report of what was not understood."""

    def ids(self, text: str) -> list[int]:
        """All ids of a text, however many, without the start: what training needs, quickly."""


def split_words(text: str) -> list[str]:
    """The words of a text in lower case and NFC, and its commas; other punctuation is left out.

    Combining signs belong to their letters, and each emoji is a word.

    Raises:
      UserError: half a surrogate pair, or a byte that is no UTF-8.
    """
    return (_WORD if text.isascii() else _any_word()).findall(unicode.lower(text))


@functools.cache
def _any_word() -> re.Pattern[str]:
    """As `_WORD`, of all scripts; made where a text needs it, since it is large."""
    word = unicode.word()
    return re.compile(rf"{unicode.emoji()}|{word}(?:['\u2019-]{word})*|,")


class WordTokenizer:
    """One id per known word; the others become <unk> and are reported, never dropped.

    Args:
      vocabulary: known words, lower case; their order gives the ids, so it must not change.
      length: ids per prompt, the start included.

    Raises:
      UserError: a word that `split_words` would not leave whole, a repeated one, no words, or no
        room for one.
    """

    def __init__(self, vocabulary: Sequence[str], length: int):
        for word in vocabulary:
            if split_words(word) != [unicode.nfc(word)]:
                raise UserError(f"the vocabulary holds {word!r}, which is not one lower-case word")
        if len(set(vocabulary)) != len(vocabulary) or not vocabulary:
            raise UserError("the vocabulary must hold words, each of them once")
        if length < 2:
            raise UserError(f"a prompt's length must be at least 2 tokens, not {length}")
        self.vocabulary = tuple(vocabulary)
        self.length = length
        self.size = len(SPECIAL) + len(self.vocabulary)
        self._ids: dict[str, int] = {}
        for i, word in enumerate(self.vocabulary, start=len(SPECIAL)):
            # Vocabularies of before have words in other forms than NFC, too.
            self._ids.setdefault(unicode.nfc(word), i)

    def encode(self, text: str) -> Prompt:
        """The prompt of a text; words that don't fit in `length` are listed in `cut`."""
        said = split_words(text)
        kept, cut = said[: self.length - 1], said[self.length - 1 :]
        tokens, mask = fill(self.ids(text), self.length)
        unknown = {word: self._nearest(word) for word in kept if word not in self._ids}
        return Prompt(
            tokens=tokens,
            mask=mask,
            words=tuple(kept),
            unknown=unknown,
            cut=tuple(cut),
        )

    def ids(self, text: str) -> list[int]:
        """All ids of a text, without the start."""
        return [self._ids.get(word, UNKNOWN) for word in split_words(text)]

    def _nearest(self, word: str) -> tuple[str, ...]:
        return tuple(difflib.get_close_matches(word, self.vocabulary, n=2, cutoff=0.6))


def complaint(prompt: Prompt) -> str:
    """One line on the words that the model does not know and those that did not fit; or ""."""
    parts = []
    if prompt.unknown:
        named = (
            f"{word} (nearest: {', '.join(near)})" if near else word
            for word, near in prompt.unknown.items()
        )
        parts.append(f"the model does not know {', '.join(named)}")
    if prompt.cut:
        parts.append(f"the prompt is too long; left out: {' '.join(prompt.cut)}")
    return "; ".join(parts)


def fill(ids: Sequence[int], length: int) -> tuple[np.ndarray, np.ndarray]:
    """(tokens (t,) int32, mask (t,) bool): the start, as many of the ids as fit, and padding."""
    ids = ids[: length - 1]
    tokens = np.full(length, PAD, np.int32)
    tokens[0] = START
    tokens[1 : 1 + len(ids)] = ids
    return tokens, np.arange(length) <= len(ids)


def only_start(prompt_length: int) -> tuple[np.ndarray, np.ndarray]:
    """(tokens (t,) int32, mask (t,) bool) of the empty prompt."""
    return fill((), prompt_length)
