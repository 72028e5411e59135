"""CLIP's image tower in its first form: a vision transformer (Dosovitskiy et al. 2021)."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.encoders.clip.transformer import LayerNorm, Transformer


class VisionTransformer(nn.Module):
    """Pictures -> features. 87,849,216 parameters as in ViT-B/32.

    Attributes:
      embed: of the features.
      image_size: side of the pictures, a multiple of patch.
      patch: side of the squares that become tokens.
      width, layers, heads: of the transformer.
      activation: quick_gelu or gelu.
      dtype: of the computation; parameters, norms and features are float32.
    """

    embed: int
    image_size: int
    patch: int
    width: int
    layers: int
    heads: int
    activation: str = "quick_gelu"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """(b, image_size, image_size, 3) normalised (`preprocess.normalise`) -> (b, embed)."""
        del train  # the same in training
        scale = nn.initializers.normal(self.width**-0.5)
        side = (self.patch, self.patch)
        x = nn.Conv(
            self.width, side, side, "VALID", use_bias=False, dtype=self.dtype, name="conv1"
        )(x.astype(self.dtype))
        b, rows, columns, _ = x.shape
        cls = self.param("class_embedding", scale, (self.width,), jnp.float32)
        count = (self.image_size // self.patch) ** 2 + 1
        places = self.param("places", scale, (count, self.width), jnp.float32)
        x = x.reshape(b, rows * columns, self.width)
        first = jnp.broadcast_to(cls.astype(self.dtype), (b, 1, self.width))
        x = jnp.concatenate([first, x], axis=1) + places.astype(self.dtype)[None]
        x = LayerNorm(name="ln_pre")(x).astype(self.dtype)
        x = Transformer(
            self.width,
            self.layers,
            self.heads,
            self.activation,
            dtype=self.dtype,
            name="transformer",
        )(x)
        x = LayerNorm(name="ln_post")(x[:, 0])
        return x @ self.param("proj", scale, (self.width, self.embed), jnp.float32)
