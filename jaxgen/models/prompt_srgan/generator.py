"""The paper's SRResNet with places in its trunk where the prompt comes in."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.attention import attention
from jaxgen.nn.sr_resnet import Trunk
from jaxgen.nn.text import Text


class CrossAttention(nn.Module):
    """y + tanh(g) * attention from each place to the words; g is 0 at first, and y unchanged.

    Parameters with 64 channels, text width 512 and the defaults: 147,649. The attention's weights
    (b, heads, h, w, t) are sown as "intermediates"/"attention".

    Attributes:
      heads, head_size: of the attention.
      dtype: of the computation; parameters are float32.
    """

    heads: int = 4
    head_size: int = 32
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, y: jax.Array, text: Text) -> jax.Array:
        """y (b, h, w, c) -> the same shape."""
        b, h, w, c = y.shape

        def heads(x, name):
            inner = self.heads * self.head_size
            x = nn.Dense(inner, use_bias=False, dtype=self.dtype, name=name)(x)
            return x.reshape(b, -1, self.heads, self.head_size)

        x = nn.LayerNorm(dtype=jnp.float32, name="norm")(y).astype(self.dtype)
        q = heads(x.reshape(b, h * w, c), "q")
        k, v = heads(text.words, "k"), heads(text.words, "v")
        if self.is_mutable_collection("intermediates"):
            x, weights = attention(q, k, v, text.mask, return_weights=True)
            self.sow("intermediates", "attention", weights.reshape(b, self.heads, h, w, -1))
        else:
            x = attention(q, k, v, text.mask)
        x = nn.Dense(c, dtype=self.dtype, name="out")(x.reshape(b, h, w, -1))
        gate = self.param("gate", nn.initializers.zeros, ())
        return y + jnp.tanh(gate).astype(y.dtype) * x


class Film(nn.Module):
    """y * (1 + scale) + shift per channel, from the whole prompt (Perez et al. 2018, eq. 2).

    Zero at first, so y unchanged. Parameters with 64 channels and text width 512: 65,664.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, y: jax.Array, text: Text) -> jax.Array:
        """y (b, h, w, c) -> the same shape."""
        zeros = nn.initializers.zeros
        x = nn.Dense(2 * y.shape[-1], kernel_init=zeros, dtype=self.dtype, name="out")(
            text.sentence
        )
        scale, shift = jnp.split(x[:, None, None, :], 2, axis=-1)  # (b, 1, 1, c) each
        return y * (1 + scale) + shift


class PromptSRResNet(Trunk):
    """SRResNet (Ledig et al. 2017, figure 4) that a prompt guides.

    The trunk has the names and shapes of the family srgan's SRResNet, whose weights fit. After some
    of the residual blocks the prompt comes in, by attention to its words or by FiLM; both start as
    the identity. With the defaults and text width 512: 2,141,255 parameters, 590,596 of them
    attention; with guidance "film" 1,813,315. The receptive field is the trunk's: each place reads
    the words by itself.

    Attributes: the trunk's, and
      guidance: "attention" or "film".
      guided: the numbers of the blocks, from 1, after which the prompt comes in.
      heads, head_size: of the attention.
    """

    guidance: str = "attention"
    guided: tuple[int, ...] = (4, 8, 12, 16)
    heads: int = 4
    head_size: int = 32

    @nn.compact
    def __call__(self, x: jax.Array, text: Text, train: bool = False) -> jax.Array:
        """x (b, h, w, 3) in [-1, 1], text of b prompts -> (b, scale*h, scale*w, 3) float32."""

        def guide(i: int, y: jax.Array) -> jax.Array:
            return self._guide(f"guide_{i + 1}")(y, text) if i + 1 in self.guided else y

        return self.upscale(x, train, guide)

    def _guide(self, name: str) -> nn.Module:
        if self.guidance == "film":
            return Film(dtype=self.dtype, name=name)
        return CrossAttention(self.heads, self.head_size, dtype=self.dtype, name=name)
