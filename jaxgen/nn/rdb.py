"""The residual dense block of RDN (Zhang et al., CVPR 2018, section 3.2)."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.conv import Conv


class ResidualDenseBlock(nn.Module):
    """3x3 convolutions that each see all before them, fused by a 1x1 convolution, plus the input.

    (b, h, w, c) -> the same. Every layer's ReLU output of `growth` channels is joined to the
    layers' input (eq. 5); the fusion (eq. 6) brings c + layers * growth channels back to c, and
    the input is added (eq. 7). 1,364,544 parameters with c = 64 and the defaults.

    Attributes:
      growth: channels that a layer adds, the paper's G.
      layers: convolutions, the paper's C.
      scale: factor on what is added to the input; 0.2 in ESRGAN.
      fusion_init: initial values of the 1x1 kernel; with zeros the block starts as the identity.
      dtype: of the computation; parameters are float32.
    """

    growth: int = 64
    layers: int = 8
    scale: float = 1.0
    fusion_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        dense = [x]  # in all (b, h, w, c + i * growth)
        for i in range(self.layers):
            y = Conv(self.growth, 3, dtype=self.dtype, name=f"layer_{i}")(dense)
            dense.append(nn.relu(y))
        fusion = Conv(
            x.shape[-1], 1, dtype=self.dtype, kernel_init=self.fusion_init, name="fusion"
        )  # fmt: skip
        y = fusion(dense)
        return x + (y if self.scale == 1.0 else self.scale * y)
