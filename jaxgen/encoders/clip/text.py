"""CLIP's text tower, also the text encoder of Stable Diffusion."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.encoders.clip.transformer import LayerNorm, Transformer


class TextTower(nn.Module):
    """Tokens -> a feature at each of them; every token sees those before it.

    123,060,480 parameters as in ViT-L/14 and Stable Diffusion 1 (vocabulary 49,408, context 77,
    width 768, 12 layers).

    Attributes:
      vocabulary: different ids.
      context: tokens, at most.
      width, layers, heads: of the transformer.
      activation: quick_gelu or gelu.
      mlp: width of the MLPs; 0: four times `width`.
      dtype: of the computation; parameters and norms are float32.
    """

    vocabulary: int
    context: int
    width: int
    layers: int
    heads: int
    activation: str = "quick_gelu"
    mlp: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: jax.Array, depth: int | None = None, final_norm: bool = True
    ) -> jax.Array:
        """Features of all tokens.

        Args:
          tokens: (b, t) int32, t <= context.
          depth: blocks that are computed; None: all. Stable Diffusion 2 takes layers - 1.
          final_norm: whether the last norm follows, after fewer blocks too.

        Returns: (b, t, width) in `dtype`.
        """
        table = self.param(
            "tokens", nn.initializers.normal(0.02), (self.vocabulary, self.width), jnp.float32
        )
        places = self.param(
            "places", nn.initializers.normal(0.01), (self.context, self.width), jnp.float32
        )
        x = (jnp.take(table, tokens, axis=0) + places[None, : tokens.shape[1]]).astype(self.dtype)
        x = Transformer(
            self.width,
            self.layers,
            self.heads,
            self.activation,
            causal=True,
            dtype=self.dtype,
            mlp=self.mlp,
            name="transformer",
        )(x, depth)
        norm = LayerNorm(name="ln_final")
        return norm(x).astype(self.dtype) if final_norm else x
