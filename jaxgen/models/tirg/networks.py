"""Net "g": an image encoder, a text encoder, and what composes their features."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.data.triplets.words import Words
from jaxgen.models.tirg import compose, encoders
from jaxgen.models.tirg.compose import View
from jaxgen.tasks.common import make_module, module_of

START_SCALE = 4.0  # of the learned length of features


class Parts(NamedTuple):
    """A query and what it is made of, a row for each text; features are not normalised.

    map: (n, h, w, c), the picture's last. vector, text, composed: features (n, e) of the picture,
    of the words and of both.
    """

    map: jax.Array
    vector: jax.Array
    text: jax.Array
    composed: jax.Array


class Composed(nn.Module):
    """Pictures and queries as features of one space.

    image, text, composer: see `encoders` and `compose`. `scale` is the features' learned length,
    from 4.
    """

    image: nn.Module
    text: nn.Module
    composer: nn.Module

    def setup(self) -> None:
        self.scale = self.param("scale", nn.initializers.constant(START_SCALE), (1,))

    def pictures(self, x: jax.Array, train: bool = False) -> jax.Array:
        """(b, h, w, 3) float32 in [-1, 1] -> (b, e) float32, not normalised."""
        found: jax.Array = self.image.head(self.image.map(x, train))
        return found.astype(jnp.float32)

    def queries(
        self, x: jax.Array, tokens: jax.Array, mask: jax.Array, train: bool = False
    ) -> jax.Array:
        """Pictures (b, h, w, 3) with texts (b, t) -> (b, e) float32, not normalised."""
        return self._compose(self.image.map(x, train), tokens, mask, train).composed

    def __call__(
        self,
        source: jax.Array,
        target: jax.Array,
        tokens: jax.Array,
        mask: jax.Array,
        train: bool = False,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """All that a loss needs, with all pictures in one pass.

        Args:
          source: (b, h, w, 3) float32 in [-1, 1].
          target: (b, k, h, w, 3), what each of a picture's k texts asks for.
          tokens, mask: (b, k, t).

        Returns: (queries (b * k, e), targets (b * k, e), scale ()), not normalised.
        """
        return self.with_source(source, target, tokens, mask, train)[0]

    def composed(self, x: jax.Array, tokens: jax.Array, mask: jax.Array) -> Parts:
        """What a picture can be drawn of; n / b texts for each picture, one after another.

        Args: x: (b, h, w, 3). tokens, mask: (n, t).
        """
        maps = jnp.repeat(self.image.map(x, False), len(tokens) // len(x), axis=0)
        return self._compose(maps, tokens, mask, False)

    def with_source(
        self,
        source: jax.Array,
        target: jax.Array,
        tokens: jax.Array,
        mask: jax.Array,
        train: bool = False,
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], Parts]:
        """(as `__call__`, the sources with each text)."""
        b, k = tokens.shape[:2]
        pictures = jnp.concatenate([source, target.reshape(b * k, *target.shape[2:])])
        maps = self.image.map(pictures, train)
        asked = jnp.repeat(maps[:b], k, axis=0)
        parts = self._compose(asked, tokens.reshape(b * k, -1), mask.reshape(b * k, -1), train)
        targets = self.image.head(maps[b:]).astype(jnp.float32)
        return (parts.composed, targets, self.scale[0]), parts

    def _compose(self, maps, tokens, mask, train) -> Parts:
        view, text = View(self.image.head(maps), maps), self.text(tokens, mask, train)
        found: jax.Array = self.composer(view, text, train)
        found = self.image.head(found) if found.ndim == 4 else found
        return Parts(maps, view.vector, text, found.astype(jnp.float32))


def make_net(config: ConfigDict) -> Composed:
    """Net "g" of `config.model`.

    Raises:
      UserError: settings that don't go together.
    """
    model = config.model
    image = model.image.to_dict()
    image.pop("form")
    if "channels" in image:
        image["channels"] = tuple(image["channels"])
    composer = model.compose.to_dict()
    composer.pop("form")
    return Composed(
        image=make_module(
            module_of(config, "image", encoders.FORMS), "image", config, embed=model.embed, **image
        ),
        text=make_module(
            encoders.WordLSTM,
            "text",
            config,
            size=Words(config.data.vocabulary, config.data.length).size,
            embed=model.embed,
            **model.text.to_dict(),
        ),
        composer=make_module(
            module_of(config, "compose", compose.FORMS), "compose", config, **composer
        ),
    )
