"""The retrieval model whose composed feature is drawn: a part that stays as it is, or net "g"."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.data.triplets.examples import make_words
from jaxgen.data.triplets.words import Words
from jaxgen.errors import UserError
from jaxgen.models.tirg import over_clip
from jaxgen.models.tirg.networks import Composed, Parts, make_net
from jaxgen.models.tirg_decoder.networks import Asked, normed
from jaxgen.task import Nets

PART = "retrieval"


class Retrieval:
    """A config's retrieval model: `parts.retrieval`, or of its own `model` where that is empty.

    Attributes:
      config: the retrieval model's own. frozen: whether it is a part.
      net: see `jaxgen.models.tirg.networks`. name: of its variables, as verbs have them.
      words: what reads the texts.
    """

    def __init__(self, config: ConfigDict):
        part = config.parts.get(PART)
        self.frozen = isinstance(part, ConfigDict)
        self.config: ConfigDict = part if self.frozen else config
        self.name = f"{PART}/g" if self.frozen else "g"
        self.net: Composed = make_net(self.config)
        self.words: Words = make_words(self.config.data)
        self.size: int = self.config.data.size

    def asked(self, nets: Nets, x: jax.Array, tokens: jax.Array, mask: jax.Array) -> Asked:
        """Of pictures (b, s, s, 3) float32 in [-1, 1] with texts (n, t), n / b for each picture."""
        found: Any = self.net.apply(nets[self.name], x, tokens, mask, method=Composed.composed)
        return as_asked(jnp.repeat(x, len(tokens) // len(x), axis=0), found)

    def features(self, nets: Nets, x: jax.Array) -> jax.Array:
        """Of pictures (n, s, s, 3) float32 in [-1, 1], (n, e) of mean square 1."""
        found: Any = self.net.apply(nets[self.name], x, method=Composed.pictures)
        return normed(found)


def as_asked(source: jax.Array, parts: Parts) -> Asked:
    """A query of the retrieval model as it is drawn; source: (n, s, s, 3), a row for each text."""
    features = (normed(feature) for feature in (parts.vector, parts.text, parts.composed))
    return Asked(source, parts.map, *features)


def check_part(config: ConfigDict | None) -> None:
    """Raises UserError for a retrieval model whose composed features cannot be drawn."""
    if config is None:
        raise UserError(
            f"parts.{PART} must be a run or an exported model: a lone file has no config"
        )
    if over_clip.is_over_clip(config):
        raise UserError(
            f"parts.{PART} composes over a CLIP, whose pictures have no map to draw of: give a "
            "retrieval model with an image encoder of its own"
        )
