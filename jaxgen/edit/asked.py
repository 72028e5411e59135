"""What edits are told of words, as users write it: "0.8,dog:0.4", "cat:dog", "dog:2.0,red:-1"."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from jaxgen.edit.words import Span, Spelled
from jaxgen.errors import UserError, near

V = TypeVar("V")


def read_spans(text: Any, name: str) -> dict[str, Span]:
    """ "0.8", "0.2-0.7", "0.8,dog:0.4" -> {"": span of all words, word: its own}.

    Raises:
      UserError: another form, or shares outside of 0 to 1.
    """
    found: dict[str, Span] = {}
    for part in _parts(text):
        word, _, bounds = part.rpartition(":")
        low, dash, high = bounds.partition("-")
        ends = [_number(end) for end in ((low, high) if dash else ("0", low))]
        if None in ends or not 0 <= ends[0] <= ends[1] <= 1:  # type: ignore[operator]
            raise UserError(
                f"{name}={text}: give shares of the steps from 0 to 1, as 0.8, 0.2-0.7 or "
                "0.8,WORD:0.4"
            )
        found[word.strip()] = (ends[0], ends[1])  # type: ignore[assignment]
    return found


def read_weights(text: str) -> dict[str, float]:
    """ "dog:2.0,red:-1" -> {"dog": 2.0, "red": -1.0}. Raises UserError: another form."""
    found = {}
    for part in _parts(text):
        word, _, weight = part.rpartition(":")
        value = _number(weight)
        if not word.strip() or value is None:
            raise UserError(f"weight={text}: give WORD:NUMBER, several parted by commas")
        found[word.strip()] = value
    return found


def read_pairs(text: str, name: str) -> tuple[list[str], list[str]]:
    """ "cat:dog,mat" -> (words of the source, of the targets). Raises UserError: another form."""
    source, target = [], []
    for part in _parts(text):
        one, colon, other = (piece.strip() for piece in part.partition(":"))
        if not one or (colon and not other):
            raise UserError(f"{name}={text}: give SOURCE:TARGET, words of the two texts")
        source.append(one)
        target.append(other or one)
    return source, target


def within(said: Mapping[str, V], targets: Sequence[Spelled], name: str) -> list[dict[str, V]]:
    """Of each target what is said of its own words, and of "".

    Raises:
      UserError: a word that no target has.
    """
    found: list[dict[str, V]] = [{} for _ in targets]
    for word, value in said.items():
        has = [not word or _has(target, word) for target in targets]
        if not any(has):
            words = [known for target in targets for known in target.words]
            raise UserError(
                f"{name}: the word {word!r} is in no target; they have {' '.join(words)!r}"
                f"{near(word, words)}"
            )
        for row, there in zip(found, has, strict=True):
            if there:
                row[word] = value
    return found


def _has(spelled: Spelled, word: str) -> bool:
    try:
        return bool(spelled.find(word))
    except UserError:
        return False


def _parts(text: Any) -> list[str]:
    return [part for part in str(text).split(",") if part.strip()]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
