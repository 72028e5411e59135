"""The generator of GAN-CLS and GAN-INT-CLS (Reed et al. 2016)."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.dcgan import SMALL, Bottleneck, UpConv, leaky, norm
from jaxgen.nn.text import Drawn, Text


class Generator(nn.Module):
    """DCGAN's generator on [z, a projection of the sentence], with two residual bottlenecks.

    At 64 px, 128 features and 1,024-wide sentences 18,909,699 parameters; with 196 features
    41,107,551. A smaller picture has fewer up-stages, the widest first ones left out.

    Attributes:
      size: side of the pictures: 8, 16, 32, 64 or another power of two.
      features: channels before the last layer; each earlier stage has twice as many.
      z: length of the noise.
      condition: width of the sentence's projection.
      dtype: of the computation; parameters are float32.
    """

    size: int = 64
    features: int = 128
    z: int = 100
    condition: int = 128
    dtype: Any = jnp.float32

    @property
    def noise(self) -> tuple[int, ...]:
        """Shape of one picture's noise."""
        return (self.z,)

    @nn.compact
    def __call__(self, z: jax.Array, text: Text, train: bool = False) -> Drawn:
        """z (b, z) from N(0, I) -> pictures (b, size, size, 3) in [-1, 1], float32."""
        dense = nn.Dense(self.condition, dtype=self.dtype, kernel_init=SMALL, name="sentence")
        seed = jnp.concatenate([z.astype(self.dtype), leaky(dense(text.sentence))], axis=-1)
        stages = int(math.log2(self.size)) - 2
        channels = self.features * 2 ** (stages - 1)
        # A transposed 4x4 convolution of a single pixel is a matrix product, one bias a channel.
        # Not a reshaped (inputs, 16 * channels): if the columns of that are sharded, so are the
        # map's rows, and XLA's partitioner then gives a wrong batch mean.
        y = nn.DenseGeneral(
            (4, 4, channels), use_bias=False, dtype=self.dtype, kernel_init=SMALL, name="first"
        )(seed)
        bias = self.param("first_bias", nn.initializers.zeros_init(), (channels,))
        y = norm(train, self.dtype, "first_norm")(y + bias.astype(self.dtype).reshape(1, 1, 1, -1))
        for i in range(stages):
            if i < 2:
                y = Bottleneck(nn.relu, True, self.dtype, name=f"bottleneck_{i}")(y, train)
            y = nn.relu(y)
            last = i == stages - 1
            features = 3 if last else self.features * 2 ** (stages - 2 - i)
            y = UpConv(features, self.dtype, name=f"up_{i}")(y)  # (b, 2**(i+3), 2**(i+3), features)
            if not last:
                y = norm(train, self.dtype, f"up_{i}_norm")(y)
        return Drawn(image=jnp.tanh(y.astype(jnp.float32)))
