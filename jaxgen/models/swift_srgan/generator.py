"""Swift-SRGAN's generator: SRGAN's, with depthwise separable convolutions throughout."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.activation import PReLU
from jaxgen.nn.depthwise import SeparableConv
from jaxgen.nn.resample import pixel_shuffle, upsample_bicubic
from jaxgen.nn.sr_resnet import staged_radius


class SwiftGenerator(nn.Module):
    """Generator of Swift-SRGAN (Krishnan and Krishnan 2021, section 3.1).

    A 9x9 convolution and PReLU, residual blocks and trunk with BatchNorm, one pixel-shuffle stage
    per factor of two, a 9x9 convolution and (tanh + 1) / 2. Every convolution is separable, with
    bias where no BatchNorm follows. It works in [0, 1]; the conversion is inside.

    With the defaults: 201,209 parameters at x4, 183,865 at x2. As in the original, the second
    convolution of each block and the trunk have slopes that are never applied (1,088 of them):
    without these, the original could not read our weights.

    Attributes:
      scale: 2, 4 or 8.
      features: channels of the trunk.
      blocks: residual blocks.
      edge_kernel: kernel size of the first and last convolution.
      norm: BatchNorm in trunk and blocks (momentum 0.9, epsilon 1e-5, as PyTorch's); without it
        these convolutions have a bias.
      skip: the output is the bicubically upsampled input plus the last layer, which starts at
        zero, with no tanh: training begins at the bicubic picture.
      dtype: of the computation; parameters are float32.
    """

    scale: int = 4
    features: int = 64
    blocks: int = 16
    edge_kernel: int = 9
    norm: bool = True
    skip: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """x (b, h, w, 3) in [-1, 1] -> (b, scale*h, scale*w, 3) float32 in [-1, 1]."""

        def conv(y, features, kernel, name, use_bias=True):
            return SeparableConv(
                features, kernel, use_bias=use_bias, dtype=self.dtype, name=f"{name}_conv"
            )(y)

        def normed(y, name):
            y = conv(y, self.features, 3, name, use_bias=not self.norm)
            if self.norm:
                y = nn.BatchNorm(not train, momentum=0.9, dtype=self.dtype, name=f"{name}_norm")(y)
            # Both, before and after the slopes: callers take one, and the slopes are always there.
            return y, PReLU(name=f"{name}_prelu")(y)

        y = conv((x + 1.0) / 2.0, self.features, self.edge_kernel, "in")
        first = y = PReLU(name="in_prelu")(y)  # (b, h, w, features)
        for i in range(self.blocks):
            _, r = normed(y, f"block_{i}_0")
            r, _ = normed(r, f"block_{i}_1")
            y = y + r
        trunk, _ = normed(y, "trunk")
        y = first + trunk
        for i in range(int(math.log2(self.scale))):
            y = pixel_shuffle(conv(y, 4 * self.features, 3, f"up_{i}"), 2)
            y = PReLU(name=f"up_{i}_prelu")(y)  # (b, 2**(i+1) h, 2**(i+1) w, features)
        if not self.skip:
            y = conv(y, 3, self.edge_kernel, "out").astype(jnp.float32)
            # The original's (tanh + 1) / 2 in [0, 1] is tanh itself in [-1, 1].
            return jnp.tanh(y)
        start = nn.initializers.zeros
        y = SeparableConv(
            3, self.edge_kernel, kernel_init=start, dtype=self.dtype, name="out_conv"
        )(y).astype(jnp.float32)  # fmt: skip
        return y + upsample_bicubic(x.astype(jnp.float32), self.scale)

    def radius(self) -> int:
        """Receptive-field radius in low-resolution pixels."""
        return staged_radius(self.scale, self.blocks, self.edge_kernel)
