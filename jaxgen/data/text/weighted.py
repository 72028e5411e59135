"""Prompts with weights on words, and prompts longer than a text encoder reads.

As in the prompts that users of Stable Diffusion share: `(word)` counts 1.1 times, `(word:1.3)` 1.3
times, `[word]` 1 / 1.1 times; brackets nest, their weights multiply, and a backslash makes a
bracket a plain sign. A long prompt is read in chunks, each with its own start and end, and the
features of the chunks stand one after another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgen.errors import UserError, shown

EMPHASIS = 1.1  # of one pair of brackets
MOST = 10.0  # of a weight
_SIGNS = re.compile(r"\\(.)|([()\[\]])", re.DOTALL)
_WEIGHT = re.compile(r"^(.*):\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*$", re.DOTALL)


class Piece(NamedTuple):
    """Part of a prompt, and how much it counts."""

    text: str
    weight: float


def parse(prompt: str) -> list[Piece]:
    """The pieces of a prompt, neighbours of one weight put together.

    A bracket without its other half is a plain sign, as in ":(".

    Raises: UserError: a weight below 0 or above 10.
    """
    pieces: list[list[Any]] = []  # [text, weight]
    opened: list[tuple[str, int]] = []  # of brackets: the sign, and its own piece
    at = 0
    for found in _SIGNS.finditer(prompt):
        escaped, sign = found.groups()
        if escaped is not None and escaped not in "()[]\\":
            continue  # a backslash before another sign is itself
        pieces.append([prompt[at : found.start()], 1.0])
        at = found.end()
        pieces.append([escaped or sign, 1.0])
        if escaped is not None:
            continue
        if sign in "([":
            opened.append((sign, len(pieces) - 1))
            continue
        partner = "(" if sign == ")" else "["
        if all(kind != partner for kind, _ in opened):
            continue
        while opened[-1][0] != partner:
            opened.pop()
        _, first = opened.pop()
        _close(pieces, first, sign, prompt)
    pieces.append([prompt[at:], 1.0])
    return _joined(pieces)


def _close(pieces: list[list[Any]], first: int, sign: str, prompt: str) -> None:
    """Weights what stands after the bracket `first`; it and the closing one are no text."""
    factor = EMPHASIS if sign == ")" else 1 / EMPHASIS
    pieces[first][0] = pieces[-1][0] = ""
    said = _WEIGHT.match(pieces[-2][0]) if sign == ")" else None
    if said:
        pieces[-2][0], factor = said[1], float(said[2])
        if not 0 <= factor <= MOST:
            raise UserError(
                f"a word's weight is from 0 to {MOST:g}, not {said[2]}, in {shown(prompt)}"
            )
    for piece in pieces[first + 1 :]:
        piece[1] *= factor


def _joined(pieces: Sequence[Sequence[Any]]) -> list[Piece]:
    joined: list[Piece] = []
    for text, weight in pieces:
        if not text:
            continue
        if joined and np.isclose(joined[-1].weight, weight, rtol=1e-9):
            joined[-1] = Piece(joined[-1].text + text, joined[-1].weight)
        else:
            joined.append(Piece(text, float(weight)))
    return joined


class Chunks(NamedTuple):
    """A prompt for an encoder of fixed length.

    tokens: (n, length) int32. weights: (n, length) float32, 1 of starts, ends and padding.
    """

    tokens: np.ndarray
    weights: np.ndarray


class Frame(NamedTuple):
    """What stands around the words of a chunk.

    length: tokens of a chunk, 77 of CLIP. start, end: ids; end None where an encoder has none.
    pad: id that fills a chunk: CLIP's end in Stable Diffusion 1, 0 in 2.
    """

    length: int
    start: int
    end: int | None
    pad: int


def cut(pieces: Sequence[Piece], ids: Callable[[str], Sequence[int]], frame: Frame) -> Chunks:
    """Chunks of a prompt, one at least: all its words, however many.

    Args:
      ids: all ids of a text, without start and end (`Tokenizer.ids`).
    """
    found = [(i, piece.weight) for piece in pieces for i in ids(piece.text)]
    room = frame.length - (1 if frame.end is None else 2)
    count = max(1, -(-len(found) // room))
    tokens = np.full((count, frame.length), frame.pad, np.int32)
    weights = np.ones((count, frame.length), np.float32)
    for row in range(count):
        part = found[row * room : (row + 1) * room]
        tokens[row, 0] = frame.start
        for place, (token, weight) in enumerate(part, 1):
            tokens[row, place], weights[row, place] = token, weight
        if frame.end is not None:
            tokens[row, len(part) + 1] = frame.end
    return Chunks(tokens, weights)


def level(several: Sequence[Chunks], frame: Frame) -> list[Chunks]:
    """The same number of chunks for each prompt, empty ones at the end: guidance compares them."""
    most = max(len(one.tokens) for one in several)
    empty = cut([], lambda _: (), frame)

    def filled(rows: np.ndarray, more: np.ndarray) -> np.ndarray:
        return np.concatenate([rows, *[more] * (most - len(rows))])

    return [
        Chunks(filled(one.tokens, empty.tokens), filled(one.weights, empty.weights))
        for one in several
    ]


def weigh(features: Any, weights: Any) -> Any:
    """A prompt's features, as one sequence, with its words' weights.

    Each token's feature times its weight; then a chunk's mean is what it was, so that a weight
    tells words from each other and does not make the whole prompt louder.

    Args:
      features: (n, length, d) of n chunks; NumPy's or JAX's.
      weights: (n, length).

    Returns: (n * length, d).
    """
    weighted = features * weights[..., None]
    before, after = (x.mean(axis=(1, 2), keepdims=True) for x in (features, weighted))
    weighted = weighted * (before / (after + (after == 0)))
    return weighted.reshape(-1, features.shape[-1])
