"""Which token of a target comes from which of the source: Prompt-to-Prompt's tables, on the host.

Hertz et al. 2022, "Prompt-to-Prompt Image Editing with Cross Attention Control". Two forms of each:
what the original's code computes (`original_*`), and what is used where nobody asks for that.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from jaxgen.errors import UserError, near

# From one share of the steps to another; a number alone: from 0 to it.
Span: TypeAlias = "float | tuple[float, float]"


class Spelled(NamedTuple):
    """A prompt's words and where their tokens are.

    words: as the text has them, parted by spaces. places: of each word's tokens, among all tokens
    of the prompt with its start. ids: of all tokens, start and end included where there are such.
    """

    words: tuple[str, ...]
    places: tuple[tuple[int, ...], ...]
    ids: tuple[int, ...]

    def of(self, word: str) -> list[int]:
        """Places of a word's tokens, wherever it stands; [] where it is not."""
        return [i for said, at in zip(self.words, self.places, strict=True) if said == word
                for i in at]  # fmt: skip

    def find(self, word: str) -> list[int]:
        """As `of`, without regard to capitals and commas. Raises UserError where it is not."""
        plain = [_plain(said) for said in self.words]
        found = [
            i for said, at in zip(plain, self.places, strict=True) if said == _plain(word)
            for i in at
        ]  # fmt: skip
        if not found:
            raise UserError(
                f"the word {word!r} is not in {' '.join(self.words)!r}{near(word, plain)}"
            )
        return found


def _plain(word: str) -> str:
    return word.strip(" ,.;:!?").lower()


def spell(words: Sequence[str], counts: Sequence[int], ids: Sequence[int]) -> Spelled:
    """Words of so many tokens each, which follow one another after the start."""
    ends = np.cumsum([1, *counts])
    places = tuple(tuple(range(a, b)) for a, b in itertools.pairwise(ends))
    return Spelled(tuple(words), places, tuple(int(i) for i in ids))


# ---- which token comes from which ----------------------------------------------------------------


def align(source: Spelled, target: Spelled, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Words that stay take their own maps along, changed ones those of what they replace.

    Words are matched as a `diff` does. A changed stretch of other token counts shares each map of
    the source out evenly. Each token of the source that has a partner gives all of its attention,
    once: rows sum to 1, or to 0 where its word fell away.

    Returns: (mapper (length, length) float32 [source, target]; taken (length,) float32, 1 of tokens
      whose maps come from the source, 0 of new ones, which keep their own).
    """
    mapper, taken = np.zeros((length, length), np.float32), np.zeros(length, np.float32)

    def join(rows: Sequence[int], columns: Sequence[int]) -> None:
        taken[list(columns)] = 1
        if len(rows) == len(columns):
            mapper[list(rows), list(columns)] = 1
        else:
            mapper[np.ix_(rows, columns)] = 1 / len(columns)

    join([0], [0])
    for kind, a, b, c, d in _matched(source, target):
        if kind == "equal" or (kind == "replace" and b - a == d - c):
            for i, j in zip(range(a, b), range(c, d), strict=True):
                join(source.places[i], target.places[j])
        elif kind == "replace":
            rows, columns = (
                [i for at in one.places[x:y] for i in at]
                for one, x, y in ((source, a, b), (target, c, d))
            )
            join(rows, columns)
    _join_rest(mapper, taken, _after(source), _after(target))
    return mapper, taken


def _matched(source: Spelled, target: Spelled) -> list[tuple[str, int, int, int, int]]:
    a, b = ([_plain(word) for word in one.words] for one in (source, target))
    return list(difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes())


def _after(one: Spelled) -> int:
    return one.places[-1][-1] + 1 if one.places and one.places[-1] else 1


def _join_rest(mapper: np.ndarray, taken: np.ndarray, first: int, to: int) -> None:
    """The end and what fills up: one to one, and what is left over to the last of the others."""
    length = len(mapper)
    taken[to:] = 1
    if first == length or to == length:
        return
    for i in range(first, length):
        mapper[i, min(to + i - first, length - 1)] = 1
    over = range(to + length - first, length)  # the target's own, where it is shorter
    if over:
        mapper[length - 1, length - 1 - len(over) :] = 1 / (len(over) + 1)


def refined(
    source: Spelled, target: Spelled, mapper: np.ndarray, taken: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`align`'s tables, but changed words keep their own maps, too: only what stays is taken."""
    mapper, taken = mapper.copy(), taken.copy()
    for kind, _, _, c, d in _matched(source, target):
        if kind == "replace":
            at = [i for places in target.places[c:d] for i in places]
            mapper[:, at], taken[at] = 0, 0
    return mapper, taken


def original_replacement(source: Spelled, target: Spelled, length: int) -> np.ndarray:
    """The original's mapper (length, length) [source, target], with its misalignment.

    After the last changed word its diagonal follows the target's index on both axes.

    Raises:
      UserError: another number of words.
    """
    if len(source.words) != len(target.words):
        raise UserError(
            f"{' '.join(source.words)!r} has {len(source.words)} words, {' '.join(target.words)!r} "
            f"{len(target.words)}: the original replaces equally many alone; take kind refine"
        )
    changed = [
        (a, b)
        for x, y, a, b in zip(source.words, target.words, source.places, target.places, strict=True)
        if x != y
    ]
    mapper = np.zeros((length, length), np.float32)
    i = j = 0
    while i < length and j < length:
        if changed and changed[0][0][:1] == (i,):
            rows, columns = changed.pop(0)
            if len(rows) == len(columns):
                mapper[list(rows), list(columns)] = 1
            else:
                mapper[np.ix_(rows, columns)] = 1 / len(columns)
            i, j = i + len(rows), j + len(columns)
        else:
            mapper[i if changed else j, j] = 1
            i, j = i + 1, j + 1
    return mapper


def original_refinement(
    source: Sequence[int], target: Sequence[int], length: int
) -> tuple[np.ndarray, np.ndarray]:
    """The original's alignment of token ids (Needleman-Wunsch: match 1, gap 0, mismatch -1).

    Returns: (for each token of the target the source's, (length,) int, -1: none; taken (length,)
      float32, 0 where there is none).
    """
    score = np.zeros((len(source) + 1, len(target) + 1), int)
    back = np.full(score.shape, 3)
    back[0, 1:], back[1:, 0] = 1, 2
    for i, a in enumerate(source, 1):
        for j, b in enumerate(target, 1):
            ways = (score[i, j - 1], score[i - 1, j], score[i - 1, j - 1] + (1 if a == b else -1))
            score[i, j] = max(ways)
            back[i, j] = ways.index(score[i, j]) + 1
    mapper = np.arange(length)
    i, j = len(source), len(target)
    while i or j:
        if back[i, j] == 3:
            i, j = i - 1, j - 1
            mapper[j] = i
        elif back[i, j] == 1:
            j -= 1
            mapper[j] = -1
        else:
            i -= 1
    return mapper, (mapper != -1).astype(np.float32)


def as_matrix(mapper: np.ndarray) -> np.ndarray:
    """(length,) of `original_refinement` -> (length, length) [source, target] of zeros and ones."""
    matrix = np.zeros((len(mapper),) * 2, np.float32)
    matrix[mapper, np.arange(len(mapper))] = 1  # -1 is the last, as the original reads it
    return matrix


# ---- weights, and when ---------------------------------------------------------------------------


def equalizer(target: Spelled, weights: Mapping[str, float], length: int) -> np.ndarray:
    """(length,) float32: how much each token's map counts; below 0 it counts against.

    Raises:
      UserError: a word that the target does not have.
    """
    found = np.ones(length, np.float32)
    for word, weight in weights.items():
        found[target.find(word)] = weight
    return found


def span(bounds: Span, steps: int, original: int = 0) -> tuple[int, int]:
    """(first step, step after the last) of shares of the steps.

    Args: original: 1: rounded as the original's cross-attention has it, from one step more.
    """
    low, high = bounds if isinstance(bounds, tuple) else (0.0, bounds)
    count = steps + original
    return int(low * count + 1e-9), int(high * count + 1e-9)


def replaced_when(
    target: Spelled, spans: Mapping[str, Span], steps: int, length: int, original: bool = False
) -> np.ndarray:
    """In which steps each token's map is taken: (steps + 1, length) float32 of 0 and 1.

    Args:
      spans: of words; "" of all others, from 0 to 1 where it does not say.
      original: as the original has it, which counts from one step more.

    Raises:
      UserError: a word that the target does not have.
    """
    found = np.zeros((steps + 1, length), np.float32)

    def put(bounds: Span, columns: Sequence[int]) -> None:
        first, last = span(bounds, steps, int(original))
        rows = np.arange(steps + 1)
        found[:, list(columns)] = ((rows >= first) & (rows < last)).astype(np.float32)[:, None]

    put(spans.get("", (0.0, 1.0)), range(length))
    for word, bounds in spans.items():
        if word:
            put(bounds, target.find(word))
    return found


def marked(spelled: Spelled, words: Sequence[str], length: int) -> np.ndarray:
    """(length,) float32: 1 of these words' tokens. Raises UserError: a word that is not there."""
    found = np.zeros(length, np.float32)
    for word in words:
        found[spelled.find(word)] = 1
    return found
