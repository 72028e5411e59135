"""SRResNet, the residual network of super-resolution that several families build on."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.activation import PReLU
from jaxgen.nn.conv import Conv
from jaxgen.nn.resample import pixel_shuffle, upsample_bicubic

AfterBlock = Callable[[int, jax.Array], jax.Array]


class Trunk(nn.Module):
    """SRResNet's attributes and computation, for it and for networks that change its middle.

    Attributes:
      scale: 2, 4 or 8; one pixel-shuffle stage per factor of two.
      features: channels of the trunk.
      blocks: residual blocks.
      norm: BatchNorm in trunk and blocks (momentum 0.9, epsilon 1e-5, as PyTorch's).
      edge_kernel: kernel size of the first and last convolution.
      skip: adds the bicubically upsampled input to the output.
      tail: "stages" (paper: convolution, pixel shuffle x2 and PReLU per factor of two, then the
        last convolution), or "direct" (one convolution to 3 * scale**2 channels and one shuffle,
        as in ESPCN, Shi et al. 2016): nothing is computed at high resolution.
      output: "linear" (paper) or "tanh".
      dtype: of the computation; parameters are float32.
    """

    scale: int = 4
    features: int = 64
    blocks: int = 16
    norm: bool = True
    edge_kernel: int = 9
    skip: bool = False
    tail: str = "stages"
    output: str = "linear"
    dtype: Any = jnp.float32

    def upscale(
        self, x: jax.Array, train: bool, after_block: AfterBlock = lambda i, y: y
    ) -> jax.Array:
        """The network, for `__call__` here and of a network that has it as its trunk.

        after_block: (i, y (b, h, w, features)) -> y, after the residual block i = 0, 1, ...
        """

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
            y = after_block(i, y + norm(r, f"block_{i}_norm_1"))
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
        return jnp.tanh(y) if self.output == "tanh" else y

    def radius(self) -> int:
        """Receptive-field radius in low-resolution pixels."""
        # The bicubic skip reaches two pixels, less than any trunk.
        if self.tail == "direct":
            return 2 * (self.edge_kernel // 2) + 2 * self.blocks + 1
        return staged_radius(self.scale, self.blocks, self.edge_kernel)


class SRResNet(Trunk):
    """SRResNet, the generator of SRGAN (Ledig et al. 2017, figure 4).

    With the defaults: 1,550,659 parameters at x4 (convolutions with bias, one PReLU slope per
    channel). Without BatchNorm and with `skip` it is the light form for small budgets: its last
    layer starts at zero, so that training begins at the bicubic picture.

    Attributes: see `Trunk`.
    """

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """x (b, h, w, 3) in [-1, 1] -> (b, scale*h, scale*w, 3) float32."""
        return self.upscale(x, train)


def staged_radius(scale: int, blocks: int, edge_kernel: int) -> int:
    """Reach in low-resolution pixels: first convolution, 3x3 pairs, trunk, up-stages, last.

    A 3x3 convolution at 2**i times the resolution reaches 2**-i pixels.
    """
    edge = edge_kernel // 2
    reach, pixel = float(edge + 2 * blocks + 1), 1.0
    for _ in range(int(math.log2(scale))):
        reach, pixel = reach + pixel, pixel / 2
    return math.ceil(reach + edge * pixel)
