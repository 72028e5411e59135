"""Prompts with weights on words, and prompts longer than a text encoder reads.

As in the prompts that users of Stable Diffusion share: `(word)` counts 1.1 times, `(word:1.3)` 1.3
times, `[word]` 1 / 1.1 times; brackets nest, their weights multiply, and a backslash makes a
bracket a plain sign. A long prompt is read in chunks, each with its own start and end, and the
features of the chunks stand one after another.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data.text.prompt import Prompt
from jaxgen.data.text.tokens import Tokenizer
from jaxgen.errors import UserError, shown

EMPHASIS = 1.1  # of one pair of brackets
MOST = 10.0  # of a weight
LEAST = 1e-6  # so that a word of weight 0 is told from what fills a chunk up
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

    tokens: (n, length) int32. weights: (n, length) float32: of the words, 1 of starts and ends, 0
    of what fills a chunk up.
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
    weights = np.zeros((count, frame.length), np.float32)
    for row in range(count):
        part = found[row * room : (row + 1) * room]
        tokens[row, 0], weights[row, 0] = frame.start, 1
        for place, (token, weight) in enumerate(part, 1):
            tokens[row, place], weights[row, place] = token, max(weight, LEAST)
        if frame.end is not None:
            tokens[row, len(part) + 1], weights[row, len(part) + 1] = frame.end, 1
    return Chunks(tokens, weights)


def reader(tokenizer: Tokenizer, frame: Frame) -> Callable[[str], Prompt]:
    """What reads prompts with weights, of any length, for an encoder of fixed length.

    The prompt's tokens and mask are those of all its chunks, one after another. Where a word has a
    weight of its own the mask is float32, and says how much each token counts.
    """

    def read(text: str) -> Prompt:
        pieces = parse(text)
        chunks = cut(pieces, tokenizer.ids, frame)
        plain = tokenizer.encode(" ".join(piece.text for piece in pieces))
        mask = chunks.weights.reshape(-1)
        if all(piece.weight == 1 for piece in pieces):
            mask = mask > 0
        words = plain.words + plain.cut
        return dataclasses.replace(
            plain, tokens=chunks.tokens.reshape(-1), mask=mask, words=words, cut=()
        )

    return read


def weigh(features: Any, weights: Any) -> Any:
    """A prompt's features with its words' weights.

    Each token's feature times its weight; then a chunk's mean is what it was, so that a weight
    tells words from each other and does not make the whole prompt louder.

    Args:
      features: (n, length, d) of n chunks; NumPy's or JAX's.
      weights: (n, length); what fills a chunk up, of weight 0, counts as 1 here.

    Returns: (n, length, d).
    """
    weighted = features * (weights + (weights == 0))[..., None]
    before, after = (x.mean(axis=(1, 2), keepdims=True) for x in (features, weighted))
    weighted = weighted * (before / (after + (after == 0)))
    return weighted
