"""ESRGAN's discriminator in VGG's style and Real-ESRGAN's U-Net with spectral normalisation."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.models.esrgan.rrdbnet import OUTER_INIT
from jaxgen.nn.conv import Conv
from jaxgen.nn.resample import upsample_bilinear
from jaxgen.nn.spectral_norm import SpectralConv

# Side of the picture where the VGG-style discriminator's head begins.
HEAD_SIDE = 4


def vgg_stages(size: int) -> int:
    """Halvings from `size` to 4 pixels: 5 for 128, 6 for 256.

    Raises:
      ValueError: `size` is not a power of two, or below 16.
    """
    if size < 16 or size & (size - 1):
        raise ValueError(f"sides of {size} pixels: must be a power of two, 16 or more")
    return (size // HEAD_SIDE).bit_length() - 1


class VGGStyleDiscriminator(nn.Module):
    """ESRGAN's discriminator (Wang et al. 2018; BasicSR's code), for one size of pictures.

    Per stage a 3x3 convolution and a 4x4 one with stride 2, channels doubling to 8 * features,
    each but the first with BatchNorm; at 4x4 pixels two dense layers. With 64 features 14,499,401
    parameters for 128 x 128 and 21,055,049 for 256 x 256. Other powers of two are ours.

    The published weights work on pictures in [0, 1]; this module converts from [-1, 1].

    Attributes:
      size: side of the pictures, a power of two, 16 or more.
      features: channels of the first stage.
      hidden: width of the first dense layer.
      dtype: of the computation; parameters and logits are float32.
    """

    size: int = 128
    features: int = 64
    hidden: int = 100
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """x (b, size, size, 3) in [-1, 1] -> logits (b,) float32."""
        if x.shape[1:3] != (self.size, self.size):
            raise ValueError(f"made for {self.size} x {self.size}, not {x.shape[1]} x {x.shape[2]}")
        y = (x.astype(jnp.float32) + 1.0) / 2.0
        for i in range(vgg_stages(self.size)):
            features = self.features * 2 ** min(i, 3)
            for j in range(2):
                # 3x3 and stride 1, then 4x4 and stride 2; a bias where no BatchNorm follows.
                y = Conv(
                    features,
                    3 + j,
                    strides=1 + j,
                    padding=1,
                    use_bias=(i, j) == (0, 0),
                    dtype=self.dtype,
                    kernel_init=OUTER_INIT,
                    name=f"conv{i}_{j}",
                )(y)
                if (i, j) != (0, 0):
                    y = nn.BatchNorm(
                        not train, momentum=0.9, dtype=self.dtype, name=f"bn{i}_{j}"
                    )(y)  # fmt: skip
                y = nn.leaky_relu(y, 0.2)
        y = y.reshape(y.shape[0], -1)  # (b, 4 * 4 * 8 * features)
        y = nn.Dense(self.hidden, dtype=self.dtype, kernel_init=OUTER_INIT, name="linear1")(y)
        y = nn.leaky_relu(y, 0.2).astype(jnp.float32)
        return nn.Dense(1, kernel_init=OUTER_INIT, name="linear2")(y)[:, 0]


class UNetDiscriminatorSN(nn.Module):
    """Real-ESRGAN's discriminator (Wang et al. 2021, §3.3): a U-Net that judges every pixel.

    Three halvings, three bilinear doublings with the features of the way down added; all
    convolutions but the first and the last are spectrally normalised and have no bias. With 64
    features 4,376,897 parameters. State: the collection "spectral".

    The published weights work on pictures in [0, 1]; this module converts from [-1, 1].

    Attributes:
      features: channels of the first layer, doubled three times on the way down.
      dtype: of the computation; parameters, state and logits are float32.
    """

    features: int = 64
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """x (b, h, w, 3) in [-1, 1], sides multiples of 8 -> logits (b, h, w) float32."""
        if x.shape[1] % 8 or x.shape[2] % 8:
            raise ValueError(f"sides must be multiples of 8, not {x.shape[1]} x {x.shape[2]}")

        def layer(y, times, name, down=False):
            # Down: 4x4 with stride 2; otherwise 3x3.
            y = SpectralConv(
                self.features * times,
                4 if down else 3,
                strides=2 if down else 1,
                padding=1,
                use_bias=False,
                dtype=self.dtype,
                kernel_init=OUTER_INIT,
                name=name,
            )(y, train)
            return nn.leaky_relu(y, 0.2)

        def edge(y, features, name, dtype):
            return Conv(features, 3, dtype=dtype, kernel_init=OUTER_INIT, name=name)(y)

        x = (x.astype(jnp.float32) + 1.0) / 2.0
        down = [nn.leaky_relu(edge(x, self.features, "conv0", self.dtype), 0.2)]
        for i in range(1, 4):
            down.append(layer(down[-1], 2**i, f"conv{i}", down=True))
        y = down[3]  # (b, h / 8, w / 8, 8 * features)
        for i in range(4, 7):
            y = layer(upsample_bilinear(y, 2), 2 ** (6 - i), f"conv{i}") + down[6 - i]
        y = layer(y, 1, "conv7")
        y = layer(y, 1, "conv8")
        return edge(y.astype(jnp.float32), 1, "conv9", jnp.float32)[..., 0]
