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
      dtype: of the computation; parameters are float32.
    """

    growth: int = 64
    layers: int = 8
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        dense = [x]  # in all (b, h, w, c + i * growth)
        for i in range(self.layers):
            y = Conv(self.growth, 3, dtype=self.dtype, name=f"layer_{i}")(dense)
            dense.append(nn.relu(y))
        return x + Conv(x.shape[-1], 1, dtype=self.dtype, name="fusion")(dense)
