"""Captions as a CLIP's text tower reads them that came with weights and a tokenizer of its own."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from jaxgen.data.text.clip_bpe import CLIPTokenizer, from_json

NEW = "{}"  # in a caption or a prompt: the new words


class ReadCLIP:
    """Draws one of a record's captions: {"tokens": int32 (t,), "mask": bool (t,)}.

    What is longer than the tower's context is cut. It pickles without its tokenizer.

    Args:
      vocabulary: as `CLIPTokenizer.to_json` writes it.
      length: tokens that the tower reads. pad: what fills them up.
      words: new ones, also what `NEW` stands for. first: id of their first.
    """

    def __init__(
        self,
        vocabulary: str,
        length: int,
        pad: int,
        words: tuple[str, ...] = (),
        first: int | None = None,
    ):
        self.vocabulary, self.length, self.pad = vocabulary, length, pad
        self.words, self.first = words, first

    def __call__(
        self, captions: tuple[str, ...], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        caption = self.named(captions[int(rng.integers(len(captions)))])
        ids = self.tokenizer.ids(caption)[: self.length - 2]
        tokens = np.full(self.length, self.pad, np.int32)
        tokens[: len(ids) + 2] = [self.tokenizer.start, *ids, self.tokenizer.end]
        return {"tokens": tokens, "mask": np.arange(self.length) < len(ids) + 2}

    def named(self, text: str) -> str:
        """A text with the new words where it says `NEW`."""
        return text.replace(NEW, " ".join(dict.fromkeys(self.words))) if self.words else text

    @functools.cached_property
    def tokenizer(self) -> CLIPTokenizer:
        """Opened where it is first needed."""
        return from_json(self.vocabulary, self.length, self.words, self.first)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "tokenizer"}
