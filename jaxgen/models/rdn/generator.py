"""RDN, the residual dense network for super-resolution."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.conv import Conv
from jaxgen.nn.rdb import ResidualDenseBlock
from jaxgen.nn.resample import pixel_shuffle, upsample_bicubic


class RDN(nn.Module):
    """RDN (Zhang et al., CVPR 2018, figure 2).

    Two 3x3 convolutions, residual dense blocks, the blocks' outputs joined and fused by a 1x1 and a
    3x3 convolution, plus the first convolution's output; then up-stages of a 3x3 convolution and a
    pixel shuffle (one by 3, or one by 2 per factor of two), and a 3x3 convolution. Parameters with
    the defaults: 22,123,395 at x2, 22,308,035 at x3, 22,271,107 at x4.

    Attributes:
      scale: 2, 3, 4 or 8.
      features: channels between the blocks, the paper's G_0.
      blocks: residual dense blocks, D.
      layers: convolutions of a block, C.
      growth: channels that a layer adds, G.
      up_features: channels after each pixel shuffle.
      value_range: the network's numbers go from 0 to this; 255 for weights trained so.
      skip: adds the bicubically upsampled input to the output, whose last layer then starts at
        zero: training begins at the bicubic picture. Not in the paper.
      remat: computes each block's insides again in the backward pass instead of keeping them.
      dtype: of the computation; parameters are float32.
    """

    scale: int = 4
    features: int = 64
    blocks: int = 16
    layers: int = 8
    growth: int = 64
    up_features: int = 64
    value_range: float = 1.0
    skip: bool = False
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """x (b, h, w, 3) in [-1, 1] -> (b, scale*h, scale*w, 3) float32."""
        del train  # nothing here differs

        def conv(features, kernel, name, **kwargs):
            return Conv(features, kernel, dtype=self.dtype, name=name, **kwargs)

        block = nn.remat(ResidualDenseBlock) if self.remat else ResidualDenseBlock
        half = self.value_range / 2
        first = conv(self.features, 3, "conv_0")((x + 1.0) * half)
        y = conv(self.features, 3, "conv_1")(first)  # (b, h, w, features)
        outputs = []
        for i in range(self.blocks):
            y = block(self.growth, self.layers, dtype=self.dtype, name=f"rdb_{i}")(y)
            outputs.append(y)
        y = conv(self.features, 1, "fusion_0")(jnp.concatenate(outputs, axis=-1))
        y = first + conv(self.features, 3, "fusion_1")(y)
        for i, factor in enumerate(shuffles(self.scale)):
            y = pixel_shuffle(conv(factor**2 * self.up_features, 3, f"up_{i}")(y), factor)
        start = {"kernel_init": nn.initializers.zeros} if self.skip else {}
        y = conv(3, 3, "conv_out", **start)(y).astype(jnp.float32) / half
        if self.skip:
            return y + upsample_bicubic(x.astype(jnp.float32), self.scale)
        return y - 1.0

    def radius(self) -> int:
        """Receptive-field radius in low-resolution pixels."""
        # The bicubic skip reaches two pixels, less than any trunk.
        reach, pixel = float(3 + self.blocks * self.layers), 1.0
        for factor in shuffles(self.scale):
            reach, pixel = reach + pixel, pixel / factor
        return math.ceil(reach + pixel)


def shuffles(scale: int) -> tuple[int, ...]:
    """Factors of the pixel shuffles, first to last: 3 at once, powers of two one by one."""
    return (3,) if scale == 3 else (2,) * int(math.log2(scale))
