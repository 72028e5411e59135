"""Blocks of CompVis's convolutional networks: taming-transformers' VQGAN, latent diffusion's VAE.

Layer order, padding and names are those of `taming/modules/diffusionmodules/model.py`, so that
published weights fit.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.attention import attention
from jaxgen.nn.conv import Conv
from jaxgen.nn.resample import upsample_nearest


class Norm(nn.Module):
    """GroupNorm over (h, w) and a group's channels, statistics float32; or nothing.

    Attributes:
      groups: of channels; 0: the input as it is.
      epsilon: added to the variance.
      dtype: of the result.
    """

    groups: int = 32
    epsilon: float = 1e-6
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if not self.groups:
            return x
        b, c = x.shape[0], x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (c,))
        bias = self.param("bias", nn.initializers.zeros, (c,))
        # Mean and variance per channel first, which is one pass over the map as it lies in memory;
        # the groups' follow from these few numbers.
        wide = x.astype(jnp.float32)
        mean = wide.mean(axis=(1, 2))  # (b, c)
        spread = jnp.square(wide - mean[:, None, None]).mean(axis=(1, 2))
        grouped = mean.reshape(b, self.groups, -1)
        middle = grouped.mean(axis=2, keepdims=True)
        variance = spread.reshape(b, self.groups, -1).mean(axis=2, keepdims=True)
        variance += jnp.square(grouped - middle).mean(axis=2, keepdims=True)
        factor = jax.lax.rsqrt(variance + self.epsilon)
        gain = jnp.broadcast_to(factor, grouped.shape).reshape(b, c) * scale.reshape(1, c)
        centre = jnp.broadcast_to(middle, grouped.shape).reshape(b, c)
        shift = bias.reshape(1, c) - centre * gain
        return (wide * gain[:, None, None] + shift[:, None, None]).astype(self.dtype)


class ResnetBlock(nn.Module):
    """(b, h, w, c) -> (b, h, w, features): twice norm, swish, 3x3 convolution; plus the input.

    Attributes:
      features: channels out; where the input has others, a 1x1 convolution brings it there.
      groups, epsilon: of the normalisation; no groups: none.
      dropout: rate before the second convolution, in training.
      dtype: of the computation.
    """

    features: int
    groups: int = 32
    epsilon: float = 1e-6
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        y = nn.swish(Norm(self.groups, self.epsilon, self.dtype, name="norm1")(x))
        y = Conv(self.features, 3, dtype=self.dtype, name="conv1")(y)
        y = nn.swish(Norm(self.groups, self.epsilon, self.dtype, name="norm2")(y))
        if self.dropout:
            y = nn.Dropout(self.dropout, deterministic=not train)(y)
        y = Conv(self.features, 3, dtype=self.dtype, name="conv2")(y)
        if x.shape[-1] != self.features:
            x = Conv(self.features, 1, dtype=self.dtype, name="nin_shortcut")(x)
        return x + y


class AttnBlock(nn.Module):
    """Self-attention of all places, one head, plus the input: (b, h, w, c) -> the same.

    Attributes: groups, epsilon: of the normalisation. dtype: of the computation; the softmax is
      float32.
    """

    groups: int = 32
    epsilon: float = 1e-6
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        b, h, w, c = x.shape
        y = Norm(self.groups, self.epsilon, self.dtype, name="norm")(x)
        q, k, v = (
            Conv(c, 1, dtype=self.dtype, name=name)(y).reshape(b, h * w, 1, c)
            for name in ("q", "k", "v")
        )
        y = attention(q, k, v).reshape(b, h, w, c)
        return x + Conv(c, 1, dtype=self.dtype, name="proj_out")(y)


class Downsample(nn.Module):
    """3x3 convolution with stride 2: (b, h, w, c) -> (b, h / 2, w / 2, c).

    Zeros stand below and on the right only, so that a cell looks at its own four pixels and those
    that follow.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
        conv = Conv(x.shape[-1], 3, strides=2, padding="VALID", dtype=self.dtype, name="conv")
        return conv(x)


class Upsample(nn.Module):
    """Nearest neighbour, then a 3x3 convolution: (b, h, w, c) -> (b, 2h, 2w, c)."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = upsample_nearest(x, 2)
        return Conv(x.shape[-1], 3, dtype=self.dtype, name="conv")(x)
