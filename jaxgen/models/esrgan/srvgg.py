"""SRVGGNetCompact, Real-ESRGAN's small generator: a plain stack of convolutions."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.models.esrgan.rrdbnet import OUTER_INIT
from jaxgen.nn.activation import PReLU
from jaxgen.nn.conv import Conv
from jaxgen.nn.resample import pixel_shuffle, upsample_nearest

# By name; the slope below zero of those that have one slope for all.
ACTIVATIONS = {"prelu": 0.25, "relu": 0.0, "leaky_relu": 0.1}


class SRVGGNetCompact(nn.Module):
    """SRVGGNetCompact (Real-ESRGAN's code, 2021): nothing is computed at high resolution.

    A convolution, `convs` more, each after an activation, one to out_channels * scale**2 channels
    and a pixel shuffle; the picture enlarged by nearest neighbours is added. With 64 features at
    x4: 621,424 parameters with 16 convolutions ("animevideov3"), 1,213,296 with 32
    ("general-x4v3").

    The published weights work on pictures in [0, 1]; this module converts from [-1, 1] and back.

    Attributes:
      scale: any whole factor.
      features: channels of the trunk.
      convs: convolutions between the first and the last.
      activation: "prelu", "relu", or "leaky_relu" with a slope of 0.1.
      channels: of the input; one, or as many as of the output.
      out_channels: of the output.
      dtype: of the computation; parameters are float32.
    """

    scale: int = 4
    features: int = 64
    convs: int = 16
    activation: str = "prelu"
    channels: int = 3
    out_channels: int = 3
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """x (b, h, w, channels) in [-1, 1] -> (b, scale*h, scale*w, out_channels), not clipped.

        float32. `train` makes no difference: there is no state.
        """
        del train

        def conv(features, name):
            return Conv(features, 3, dtype=self.dtype, kernel_init=OUTER_INIT, name=name)

        x = (x.astype(jnp.float32) + 1.0) / 2.0
        y = x
        for i in range(self.convs + 1):
            y = self._active(conv(self.features, f"conv_{i}")(y), i)
        y = conv(self.out_channels * self.scale**2, f"conv_{self.convs + 1}")(y)
        y = pixel_shuffle(y, self.scale).astype(jnp.float32) + upsample_nearest(x, self.scale)
        return 2.0 * y - 1.0

    def _active(self, y: jax.Array, i: int) -> jax.Array:
        if self.activation == "prelu":
            return PReLU(ACTIVATIONS["prelu"], name=f"prelu_{i}")(y)
        return nn.leaky_relu(y, ACTIVATIONS[self.activation])

    def radius(self) -> int:
        """Receptive-field radius in low-resolution pixels: one per convolution."""
        return self.convs + 2

    def multiple(self) -> int:
        """Sides of the input must be multiples of this: any will do."""
        return 1
