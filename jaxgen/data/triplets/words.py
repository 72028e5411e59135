"""Words as TIRG reads them, by a vocabulary that stands in the config."""

from __future__ import annotations

import difflib
import string
from collections.abc import Iterable, Sequence

import numpy as np

from jaxgen.data.text.prompt import Prompt

UNKNOWN = 0  # also what short texts are filled up with
_LEFT_OUT = str.maketrans("", "", string.punctuation)


def split(text: str) -> list[str]:
    """The words of a text: lower case, of ASCII; punctuation joins what it stands between.

    "top-left" is `topleft`; other letters than ASCII's vanish from their words.
    """
    return text.encode("ascii", "ignore").decode().lower().translate(_LEFT_OUT).split()


def vocabulary(texts: Iterable[str]) -> tuple[str, ...]:
    """The words of texts in alphabetical order, which google/tirg has them in."""
    return tuple(sorted({word for text in texts for word in split(text)}))


class Words:
    """A `Tokenizer`: id 0 is any word that is unknown, then come the vocabulary's.

    An empty text is one unknown word. (The original takes the last step of the padded batch, so
    that its feature depends on the texts beside it.)

    Args:
      words: known words in the order of their ids.
      length: ids per text, at most.
    """

    def __init__(self, words: Sequence[str], length: int):
        self.length = length
        self.size = 1 + len(words)
        self._ids = {word: 1 + i for i, word in enumerate(words)}

    def ids(self, text: str) -> list[int]:
        """All ids of a text, however many."""
        return [self._ids.get(word, UNKNOWN) for word in split(text)]

    def fill(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """(tokens (t,) int32, mask (t,) bool, one True at least)."""
        ids = self.ids(text)[: self.length] or [UNKNOWN]
        tokens = np.full(self.length, UNKNOWN, np.int32)
        tokens[: len(ids)] = ids
        return tokens, np.arange(self.length) < len(ids)

    def encode(self, text: str) -> Prompt:
        """The prompt of a text, with a report of what was not understood."""
        said = split(text)
        tokens, mask = self.fill(text)
        unknown = {
            word: tuple(difflib.get_close_matches(word, self._ids, n=2, cutoff=0.6))
            for word in said[: self.length]
            if word not in self._ids
        }
        return Prompt(tokens, mask, tuple(said[: self.length]), unknown, tuple(said[self.length :]))
