"""A text as numbers: what every tokenizer gives and every model that reads takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A text as a model reads it.

    tokens: (t,) int32, padded. mask: (t,) bool, True where there is a token; of a model that knows
      weights (`jaxgen.data.text.weighted`) float32 where a word has one: how much it counts, 0
      where there is none.
    words: what the user reads of the tokens 1, 2, ...; token 0 begins every prompt, and the empty
      prompt is it alone.
    unknown: words that the model does not know, with the nearest that it knows.
    cut: words at the end that did not fit.
    """

    tokens: np.ndarray
    mask: np.ndarray
    words: tuple[str, ...]
    unknown: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    cut: tuple[str, ...] = ()
