"""CLIP whole: an image tower, a text tower, and the scale of their cosines."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.encoders.clip.resnet import ModifiedResNet
from jaxgen.encoders.clip.text import TextTower
from jaxgen.encoders.clip.vision import VisionTransformer

LOGIT_SCALE = math.log(1 / 0.07)  # the temperature that training starts from


class CLIP(nn.Module):
    """Pictures and texts as features of one space.

    Attributes:
      visual: the image tower.
      text: the text tower.
      embed: of the features.
      end: the id that ends a text, at which its feature is taken; 0: the largest id of each text,
        as published, where it is the end's.
    """

    visual: VisionTransformer | ModifiedResNet
    text: TextTower
    embed: int
    end: int = 0

    def setup(self) -> None:
        init = nn.initializers.normal(self.text.width**-0.5)
        shape = (self.text.width, self.embed)
        self.text_projection = self.param("text_projection", init, shape, jnp.float32)
        start: Any = nn.initializers.constant(LOGIT_SCALE)
        self.logit_scale = self.param("logit_scale", start, (), jnp.float32)

    def __call__(
        self, x: jax.Array, tokens: jax.Array, train: bool = False
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(picture features, text features, log of the scale); see `pictures` and `texts`."""
        return self.pictures(x, train), self.texts(tokens), self.logit_scale

    def pictures(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Features of pictures, not normalised.

        Args:
          x: (b, h, w, 3) float32, by CLIP's mean and deviation (`preprocess.normalise`).
          train: BatchNorm, where there is one, uses and moves its statistics.

        Returns: (b, embed) float32.
        """
        return self.visual(x, train)

    def texts(self, tokens: jax.Array) -> jax.Array:
        """Features of texts, (b, t) int32 -> (b, embed) float32, not normalised."""
        x = self.text(tokens).astype(jnp.float32)
        last = (tokens == self.end) if self.end else tokens
        at = jnp.argmax(last, axis=-1)
        x = jnp.take_along_axis(x, at[:, None, None], axis=1)[:, 0]
        return x @ self.text_projection
