"""PatchGAN: a discriminator that judges overlapping patches (Isola et al., CVPR 2017)."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.conv import Conv

WIDEST = 8  # times `features`


class NLayerDiscriminator(nn.Module):
    """pix2pix's N-layer discriminator with BatchNorm, as VQGAN has it; 2,765,633 parameters.

    Attributes:
      features: channels of the first convolution; doubled with each layer up to 8 times.
      layers: convolutions with stride 2. Three make patches of 70 pixels.
      dtype: of the computation; parameters, statistics and logits are float32.
    """

    features: int = 64
    layers: int = 3
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """x (b, h, w, c) in [-1, 1] -> logits (b, h', w') float32; 30 x 30 for 256 x 256 pixels."""
        normal = nn.initializers.normal(0.02)
        conv = partial(Conv, kernel_size=4, padding=1, dtype=self.dtype, kernel_init=normal)
        y = conv(self.features, strides=2, name="conv_0")(x.astype(self.dtype))
        y = nn.leaky_relu(y, 0.2)
        for i in range(1, self.layers + 1):
            width = self.features * min(2**i, WIDEST)
            stride = 2 if i < self.layers else 1
            y = conv(width, strides=stride, use_bias=False, name=f"conv_{i}")(y)
            y = nn.BatchNorm(
                not train, momentum=0.9, dtype=self.dtype, scale_init=_around_one, name=f"norm_{i}"
            )(y)
            y = nn.leaky_relu(y, 0.2)
        y = conv(1, name="conv_out")(y)
        return y[..., 0].astype(jnp.float32)


def _around_one(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    return 1.0 + 0.02 * jax.random.normal(key, shape, dtype)
