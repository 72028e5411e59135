"""SRGAN's generator as PyTorch projects publish it."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.models.srgan.generator import staged_radius
from jaxgen.nn.activation import PReLU
from jaxgen.nn.conv import Conv
from jaxgen.nn.resample import pixel_shuffle


class PublishedSRResNet(nn.Module):
    """The paper's generator with what its PyTorch versions have in common, for their weights.

    One PReLU slope for all channels (PyTorch's default), and a network that works in [0, 1]: its
    zero padding is black there, and gray in `SRResNet`, so that weights can't be moved between the
    two. 1,549,462 parameters at x4; 1,547,350 without the `bias` (Lornatang's SRGAN-PyTorch).
    With 5 blocks and trunk="prelu" 734,092 (leftthomas' SRGAN), with 8 956,431 (goldhuang's).

    Attributes:
      scale: 2, 4 or 8; one pixel-shuffle stage per factor of two.
      features: channels of the trunk.
      blocks: residual blocks.
      edge_kernel: kernel size of the first and last convolution.
      bias: of the convolutions that a BatchNorm follows.
      trunk: what follows the trunk's last convolution: "norm" (paper) or "prelu".
      output: "linear" (Lornatang cuts it to [0, 1]; here that is the caller's part), or "tanh",
        that is (tanh + 1) / 2 in [0, 1].
      dtype: of the computation; parameters are float32.
    """

    scale: int = 4
    features: int = 64
    blocks: int = 16
    edge_kernel: int = 9
    bias: bool = True
    trunk: str = "norm"
    output: str = "linear"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """x (b, h, w, 3) in [-1, 1] -> (b, scale*h, scale*w, 3) float32."""

        def conv(features, kernel, name, bias=True):
            return Conv(features, kernel, use_bias=bias, dtype=self.dtype, name=name)

        def norm(y, name):
            return nn.BatchNorm(not train, momentum=0.9, dtype=self.dtype, name=name)(y)

        def prelu(y, name):
            return PReLU(0.25, shared=True, name=name)(y)

        unit = (x.astype(jnp.float32) + 1.0) / 2.0
        first = prelu(conv(self.features, self.edge_kernel, "conv_in")(unit), "prelu_in")
        y = first  # (b, h, w, features)
        for i in range(self.blocks):
            r = conv(self.features, 3, f"block_{i}_conv_0", self.bias)(y)
            r = prelu(norm(r, f"block_{i}_norm_0"), f"block_{i}_prelu")
            r = conv(self.features, 3, f"block_{i}_conv_1", self.bias)(r)
            y = y + norm(r, f"block_{i}_norm_1")
        if self.trunk == "prelu":
            y = prelu(conv(self.features, 3, "conv_trunk")(y), "prelu_trunk")
        else:
            y = norm(conv(self.features, 3, "conv_trunk", self.bias)(y), "norm_trunk")
        y = first + y
        for i in range(int(math.log2(self.scale))):
            y = pixel_shuffle(conv(4 * self.features, 3, f"up_{i}_conv")(y), 2)
            y = prelu(y, f"up_{i}_prelu")  # (b, 2**(i+1) h, 2**(i+1) w, features)
        y = conv(3, self.edge_kernel, "conv_out")(y).astype(jnp.float32)
        # (tanh(y) + 1) / 2 in [0, 1] is tanh(y) in [-1, 1].
        return jnp.tanh(y) if self.output == "tanh" else 2.0 * y - 1.0

    def radius(self) -> int:
        """Receptive-field radius in low-resolution pixels."""
        return staged_radius(self.scale, self.blocks, self.edge_kernel)
