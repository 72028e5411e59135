"""CLIP's text tower as a denoiser's condition: Stable Diffusion's, a part of the family clip."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.captioned.clip_captions import ReadCLIP
from jaxgen.data.text import weighted
from jaxgen.data.text.prompt import Prompt
from jaxgen.data.text.weighted import Frame
from jaxgen.encoders.clip.text import TextTower
from jaxgen.errors import UserError
from jaxgen.models.clip.text import make_text_tower
from jaxgen.nn.text import Text


@dataclasses.dataclass(frozen=True, eq=False)
class ClipText:
    """A text tower with the interface of an encoder of `jaxgen.nn.text`.

    All places count, those that fill a text up too, as published models were trained.

    Attributes:
      tower: the net. depth: blocks that are computed, before the final norm. end: the id that ends
        a text.
      captions: what reads a record's captions in training.
    """

    tower: TextTower
    depth: int
    end: int
    captions: ReadCLIP

    @property
    def width(self) -> int:
        """Of the features."""
        return self.tower.width

    def init(self, rng: jax.Array, tokens: jax.Array, mask: jax.Array) -> Any:
        """Variables of the tower; as of a module."""
        del mask
        return self.tower.init(rng, tokens, self.depth)

    def apply(self, variables: Any, tokens: jax.Array, mask: jax.Array) -> Text:
        """Tokens (b, t) int32 -> features; the sentence is that at the first end.

        Args: variables: of the tower; its table may have vectors of the new words at its end.
        """
        own, new = self.tower.vocabulary, len(self.captions.words)
        there = variables["params"]["tokens"].shape[0] == own + new
        tower = self.tower.clone(vocabulary=own + new if there else own)
        words: Any = tower.apply(variables, tokens, self.depth)
        at = jnp.argmax(tokens == self.end, axis=-1)
        sentence = jnp.take_along_axis(words, at[:, None, None], axis=1)[:, 0]
        return Text(words, jnp.ones_like(mask), sentence)


def make_clip_text(config: ConfigDict, words: tuple[str, ...] = ()) -> ClipText:
    """Of a converted text tower's config.

    Args: words: new ones, see `CLIPTokenizer`.
    """
    tower = make_text_tower(config)
    end = tower.vocabulary - 1
    said = config.model
    captions = ReadCLIP(said.vocabulary, tower.context, said.pad, words, tower.vocabulary)
    return ClipText(tower, tower.layers - said.skip, end, captions)


def reader(config: ConfigDict, captions: ReadCLIP) -> Callable[[str], Prompt]:
    """Reads a prompt as the tower was trained to: filled up by its own id, a long one in chunks.

    Raises: UserError, when it reads words: the weights came without their vocabulary.
    """

    def read(text: str) -> Prompt:
        if not text.strip():
            tokens = empty(config)
            return Prompt(tokens, np.arange(len(tokens)) < 2, ())
        check_reads(config)
        tokenizer = captions.tokenizer
        frame = Frame(tokenizer.length, tokenizer.start, tokenizer.end, captions.pad)
        return weighted.reader(tokenizer, frame)(captions.named(text))

    return read


def check_reads(config: ConfigDict) -> None:
    """Raises UserError if the weights came without their vocabulary."""
    if not config.model.vocabulary:
        raise UserError(
            "this model came without CLIP's vocabulary, so it reads no texts: put "
            "bpe_simple_vocab_16e6.txt.gz, or a folder tokenizer/, beside the weights and "
            "convert them again"
        )


def empty(config: ConfigDict) -> np.ndarray:
    """Tokens (t,) of the empty text: start and end, filled up."""
    text = config.model.text
    tokens = np.full(text.context, config.model.pad, np.int32)
    tokens[:2] = text.ids - 2, text.ids - 1
    return tokens
