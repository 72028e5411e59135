"""MSRResNet, BasicSR's modified SRResNet (Wang et al., "BasicSR", 2022): no BatchNorm."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.conv import Conv
from jaxgen.nn.resample import pixel_shuffle, upsample_bilinear


class MSRResNet(nn.Module):
    """SRResNet without BatchNorm, with LeakyReLU 0.1 and the bilinear picture added at the end.

    1,517,571 parameters at x4, 1,369,859 at x2, 1,554,499 at x3. Works in [0, 1].

    Attributes:
      scale: 2, 3 or 4; x4 has two pixel-shuffle stages, the others one.
      features: channels.
      blocks: residual blocks (convolution, ReLU, convolution).
      dtype: of the computation; parameters are float32.
    """

    scale: int = 4
    features: int = 64
    blocks: int = 16
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """x (b, h, w, 3) in [-1, 1] -> (b, scale*h, scale*w, 3) float32; `train` has no effect."""
        del train
        # He-normal times 0.1 (standard deviation), biases 0, as BasicSR starts its networks.
        small = nn.initializers.variance_scaling(0.02, "fan_in", "normal")

        def conv(features, name):
            return Conv(features, 3, kernel_init=small, dtype=self.dtype, name=name)

        unit = (x.astype(jnp.float32) + 1.0) / 2.0
        y = nn.leaky_relu(conv(self.features, "conv_in")(unit), 0.1)
        for i in range(self.blocks):  # (b, h, w, features)
            r = nn.relu(conv(self.features, f"block_{i}_conv_0")(y))
            y = y + conv(self.features, f"block_{i}_conv_1")(r)
        for i, factor in enumerate(self._stages()):
            y = conv(factor**2 * self.features, f"up_{i}_conv")(y)
            y = nn.leaky_relu(pixel_shuffle(y, factor), 0.1)
        y = nn.leaky_relu(conv(self.features, "conv_hr")(y), 0.1)
        y = conv(3, "conv_out")(y).astype(jnp.float32)
        return 2.0 * (y + upsample_bilinear(unit, self.scale)) - 1.0

    def _stages(self) -> tuple[int, ...]:
        return (2, 2) if self.scale == 4 else (self.scale,)

    def radius(self) -> int:
        """Receptive-field radius in low-resolution pixels; see `staged_radius`."""
        reach, pixel = float(1 + 2 * self.blocks), 1.0
        for factor in self._stages():
            reach, pixel = reach + pixel, pixel / factor
        return math.ceil(reach + 2 * pixel)
