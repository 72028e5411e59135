"""The paper's SRResNet with places in its trunk where the prompt comes in."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.models.prompt_srgan.text import Text
from jaxgen.nn.activation import PReLU
from jaxgen.nn.attention import attention
from jaxgen.nn.conv import Conv
from jaxgen.nn.resample import pixel_shuffle, upsample_bicubic


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
        x = nn.Dense(2 * y.shape[-1], kernel_init=zeros, dtype=self.dtype, name="out")(text.pooled)
        scale, shift = jnp.split(x[:, None, None, :], 2, axis=-1)  # (b, 1, 1, c) each
        return y * (1 + scale) + shift


class PromptSRResNet(nn.Module):
    """SRResNet (Ledig et al. 2017, figure 4) that a prompt guides.

    The trunk has the names and shapes of the family srgan's SRResNet, whose weights fit. After some
    of the residual blocks the prompt comes in, by attention to its words or by FiLM; both start as
    the identity. With the defaults and text width 512: 2,141,255 parameters, 590,596 of them
    attention; with guidance "film" 1,813,315.

    Attributes:
      guidance: "attention" or "film".
      guided: the numbers of the blocks, from 1, after which the prompt comes in.
      heads, head_size: of the attention.
      scale, features, blocks, norm, edge_kernel, skip, tail: as of SRResNet: `norm` BatchNorm;
        `skip` adds the bicubic picture, and the last layer starts at zero; `tail` "stages" or
        "direct" (one convolution, one pixel shuffle).
      dtype: of the computation; parameters are float32.
    """

    scale: int = 4
    features: int = 64
    blocks: int = 16
    norm: bool = True
    edge_kernel: int = 9
    skip: bool = False
    tail: str = "stages"
    guidance: str = "attention"
    guided: tuple[int, ...] = (4, 8, 12, 16)
    heads: int = 4
    head_size: int = 32
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, text: Text, train: bool = False) -> jax.Array:
        """x (b, h, w, 3) in [-1, 1], text of b prompts -> (b, scale*h, scale*w, 3) float32."""

        def conv(features, kernel, name, **kwargs):
            return Conv(features, kernel, dtype=self.dtype, name=name, **kwargs)

        def norm(y, name):
            if not self.norm:
                return y
            return nn.BatchNorm(not train, momentum=0.9, dtype=self.dtype, name=name)(y)

        def prelu(y, name):
            return PReLU(0.25, name=name)(y)

        first = prelu(conv(self.features, self.edge_kernel, "conv_in")(x), "prelu_in")
        y = first  # (b, h, w, features)
        for i in range(self.blocks):
            r = conv(self.features, 3, f"block_{i}_conv_0")(y)
            r = prelu(norm(r, f"block_{i}_norm_0"), f"block_{i}_prelu")
            r = conv(self.features, 3, f"block_{i}_conv_1")(r)
            y = y + norm(r, f"block_{i}_norm_1")
            if i + 1 in self.guided:
                y = self._guide(f"guide_{i + 1}")(y, text)
        y = first + norm(conv(self.features, 3, "conv_trunk")(y), "norm_trunk")
        start = {"kernel_init": nn.initializers.zeros} if self.skip else {}
        if self.tail == "direct":
            y = conv(3 * self.scale**2, self.edge_kernel, "conv_out", **start)(y)
            y = pixel_shuffle(y, self.scale).astype(jnp.float32)
        else:
            for i in range(int(math.log2(self.scale))):
                y = pixel_shuffle(conv(4 * self.features, 3, f"up_{i}_conv")(y), 2)
                y = prelu(y, f"up_{i}_prelu")  # (b, 2**(i+1) h, 2**(i+1) w, features)
            y = conv(3, self.edge_kernel, "conv_out", **start)(y).astype(jnp.float32)
        if self.skip:
            y = y + upsample_bicubic(x.astype(jnp.float32), self.scale)
        return y

    def _guide(self, name: str) -> nn.Module:
        if self.guidance == "film":
            return Film(dtype=self.dtype, name=name)
        return CrossAttention(self.heads, self.head_size, dtype=self.dtype, name=name)

    def radius(self) -> int:
        """Receptive-field radius in low-resolution pixels.

        The prompt adds nothing: each place reads the words by itself.
        """
        edge = self.edge_kernel // 2
        reach = float(edge + 2 * self.blocks + 1)
        if self.tail == "direct":
            return int(reach) + edge
        pixel = 1.0
        for _ in range(int(math.log2(self.scale))):  # a 3x3 at 2**i times the size: 2**-i pixels
            reach, pixel = reach + pixel, pixel / 2
        return math.ceil(reach + edge * pixel)
