"""MaskGIT's tokenizer (Chang et al., CVPR 2022): VQGAN without attention, on pictures in [0, 1].

f16 with 128 features, widths 1, 1, 2, 2, 4, two blocks and 1,024 codes of 256: 54,515,587
parameters with the codebook.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.conv import Conv
from jaxgen.nn.resample import upsample_nearest
from jaxgen.nn.unet_blocks import Norm


class _Halves(nn.Module):
    """What encoder and decoder have alike.

    Attributes:
      features: channels, times a level's width.
      widths: of the levels, in `features`; between two of them the side halves.
      blocks: residual blocks of a level, and of the middle.
      latent: channels of the latents, which are those of the codebook.
      groups: of the normalisation.
      epsilon: of the normalisation.
      dtype: of the computation; what comes out is float32.
    """

    features: int = 128
    widths: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks: int = 2
    latent: int = 256
    groups: int = 32
    epsilon: float = 1e-6
    dtype: Any = jnp.float32

    def _blocks(self, x: jax.Array, level: int, first: int) -> jax.Array:
        """A level's residual blocks, numbered from `first` on."""
        for number in range(first, first + self.blocks):
            block = ResBlock(
                self.features * self.widths[level], self.groups, self.epsilon,
                dtype=self.dtype, name=f"block_{number}",
            )  # fmt: skip
            x = block(x)
        return x

    def _out(self, x: jax.Array) -> jax.Array:
        return nn.swish(Norm(self.groups, self.epsilon, self.dtype, name="norm_out")(x))


class ResBlock(nn.Module):
    """(b, h, w, c) -> (b, h, w, features): twice norm, swish, 3x3 convolution; plus the input.

    Where the channels change, a 1x1 convolution of the block's own result stands in place of the
    input: a slip of the published code, which its weights were trained with.

    Attributes: features: channels out. groups, epsilon: of the normalisation. dtype: of the
      computation.
    """

    features: int
    groups: int = 32
    epsilon: float = 1e-6
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = x
        for i in (0, 1):
            y = nn.swish(Norm(self.groups, self.epsilon, self.dtype, name=f"norm_{i}")(y))
            y = Conv(self.features, 3, use_bias=False, dtype=self.dtype, name=f"conv_{i}")(y)
        if x.shape[-1] != self.features:
            x = Conv(self.features, 1, use_bias=False, dtype=self.dtype, name="shortcut")(y)
        return x + y


class Encoder(_Halves):
    """Pictures (b, h, w, c) in [-1, 1] -> latents (b, h / f, w / f, latent)."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        del train
        x = (0.5 * (x + 1.0)).astype(self.dtype)
        x = Conv(self.features, 3, use_bias=False, dtype=self.dtype, name="conv_in")(x)
        last = len(self.widths) - 1
        for level in range(last + 1):
            x = self._blocks(x, level, level * self.blocks)
            if level < last:
                x = nn.avg_pool(x, (2, 2), (2, 2))
        x = self._out(self._blocks(x, last, (last + 1) * self.blocks))
        return Conv(self.latent, 1, dtype=self.dtype, name="conv_out")(x).astype(jnp.float32)


class Decoder(_Halves):
    """Latents (b, h, w, latent) -> (pictures in about [-1, 1], the last convolution's input).

    Attributes: channels: of the pictures.
    """

    channels: int = 3

    @nn.compact
    def __call__(self, z: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        del train
        last = len(self.widths) - 1
        width = self.features * self.widths[last]
        x = Conv(width, 3, dtype=self.dtype, name="conv_in")(z.astype(self.dtype))
        x = self._blocks(x, last, 0)
        for step, level in enumerate(reversed(range(last + 1))):
            x = self._blocks(x, level, (step + 1) * self.blocks)
            if level:
                x = upsample_nearest(x, 2)
                x = Conv(x.shape[-1], 3, dtype=self.dtype, name=f"up_{step}")(x)
        hidden = self._out(x)
        y = Conv(self.channels, 3, dtype=self.dtype, name="conv_out")(hidden)
        return 2.0 * y.astype(jnp.float32) - 1.0, hidden
