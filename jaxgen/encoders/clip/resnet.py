"""CLIP's image tower in its second form: a ResNet with a stem of three convolutions, strides as
average pooling before 1x1 convolutions, and attention in the place of the last pooling.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.attention import attention
from jaxgen.nn.conv import Conv

EXPANSION = 4  # of a block's output, over its inner channels
_HE = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class ModifiedResNet(nn.Module):
    """Pictures -> features. Variables are {"params", "batch_stats"}.

    Attributes:
      embed: of the features.
      image_size: side of the pictures, a multiple of 32.
      width: channels of the first stage; the pooled ones are 32 times as many.
      layers: blocks of each of the four stages.
      heads: of the pooling attention.
      dtype: of the computation; parameters and features are float32.
    """

    embed: int
    image_size: int
    width: int
    layers: tuple[int, ...]
    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """(b, image_size, image_size, 3) normalised (`preprocess.normalise`) -> (b, embed)."""
        conv = partial(Conv, use_bias=False, kernel_init=_HE, dtype=self.dtype)
        norm = partial(nn.BatchNorm, not train, momentum=0.9, epsilon=1e-5, dtype=self.dtype)
        x = x.astype(self.dtype)
        stem = ((self.width // 2, 2), (self.width // 2, 1), (self.width, 1))
        for i, (channels, stride) in enumerate(stem, start=1):
            x = conv(channels, 3, stride, name=f"conv{i}")(x)
            x = nn.relu(norm(name=f"bn{i}")(x))
        x = _pool(x, 2)
        for stage, count in enumerate(self.layers):
            for i in range(count):
                x = Bottleneck(
                    self.width * 2**stage,
                    2 if stage > 0 and i == 0 else 1,
                    conv,
                    norm,
                    name=f"layer{stage + 1}_{i}",
                )(x)
        return AttentionPool(self.embed, self.heads, self.dtype, name="attnpool")(x)


class Bottleneck(nn.Module):
    """1x1, 3x3, pooling by the stride, 1x1; a shortcut that is pooled before its 1x1, too."""

    channels: int
    stride: int
    conv: Any
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(b, h, w, c) -> (b, h / stride, w / stride, 4 channels)."""
        out = EXPANSION * self.channels
        y = nn.relu(self.norm(name="bn1")(self.conv(self.channels, 1, name="conv1")(x)))
        y = nn.relu(self.norm(name="bn2")(self.conv(self.channels, 3, name="conv2")(y)))
        y = self.conv(out, 1, name="conv3")(_pool(y, self.stride))
        y = self.norm(name="bn3", scale_init=nn.initializers.zeros)(y)
        if self.stride > 1 or x.shape[-1] != out:
            x = self.conv(out, 1, name="shortcut")(_pool(x, self.stride))
            x = self.norm(name="shortcut_bn")(x)
        return nn.relu(x + y)


class AttentionPool(nn.Module):
    """The mean of all places asks them, and itself, what they hold."""

    embed: int
    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(b, h, w, c) -> (b, embed) float32."""
        b, h, w, c = x.shape
        x = x.reshape(b, h * w, c)
        x = jnp.concatenate([x.mean(axis=1, keepdims=True), x], axis=1)
        init = nn.initializers.normal(c**-0.5)
        places = self.param("places", init, (h * w + 1, c), jnp.float32)
        x = x + places.astype(self.dtype)[None]
        dense = partial(nn.Dense, kernel_init=init, dtype=self.dtype)
        q, k, v = (
            dense(c, name=f"{name}_proj")(part).reshape(b, -1, self.heads, c // self.heads)
            for name, part in (("q", x[:, :1]), ("k", x), ("v", x))
        )
        y = attention(q, k, v).reshape(b, c)
        return dense(self.embed, name="c_proj")(y).astype(jnp.float32)


def _pool(x: jax.Array, stride: int) -> jax.Array:
    return nn.avg_pool(x, (stride, stride), (stride, stride)) if stride > 1 else x
