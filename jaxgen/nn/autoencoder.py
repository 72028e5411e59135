"""The two halves of CompVis's convolutional autoencoders: VQGAN's, latent diffusion's VAE.

Layer by layer as in taming-transformers (Esser et al., CVPR 2021), so that published weights fit.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.conv import Conv
from jaxgen.nn.resample import pixel_shuffle, pixel_unshuffle
from jaxgen.nn.unet_blocks import AttnBlock, Downsample, Norm, ResnetBlock, Upsample


class _Halves(nn.Module):
    """What encoder and decoder have alike.

    Attributes:
      features: channels, times a level's width.
      widths: of the levels, in `features`; between two of them the side halves.
      blocks: residual blocks of a level; the decoder has one more.
      attention: levels, counted from 0, with attention after each block.
      middle_attention: whether the middle has attention, too.
      latent: channels of what the encoder gives.
      groups: of the normalisation; 0: none. Without it and attention pictures are tiled exactly.
      epsilon: of the normalisation.
      dropout: rate in residual blocks.
      patch: side of the pixels that the first level has as one place; 1 in published nets. On a CPU
        many channels of few places are several times as fast as few channels of many.
      dtype: of the computation; what comes out is float32.
    """

    features: int = 128
    widths: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks: int = 2
    attention: tuple[int, ...] = (4,)
    middle_attention: bool = True
    latent: int = 256
    groups: int = 32
    epsilon: float = 1e-6
    dropout: float = 0.0
    patch: int = 1
    dtype: Any = jnp.float32

    def _block(self, x: jax.Array, level: int, name: str, number: int, train: bool) -> jax.Array:
        """A residual block of a level, and the attention after it."""
        x = self._resnet(self.features * self.widths[level], f"{name}_{level}_block_{number}")(
            x, train
        )
        if level in self.attention:
            x = self._attend(f"{name}_{level}_attn_{number}")(x)
        return x

    def _middle(self, x: jax.Array, train: bool) -> jax.Array:
        width = self.features * self.widths[-1]
        x = self._resnet(width, "mid_block_1")(x, train)
        if self.middle_attention:
            x = self._attend("mid_attn_1")(x)
        return self._resnet(width, "mid_block_2")(x, train)

    def _resnet(self, width: int, name: str) -> ResnetBlock:
        return ResnetBlock(
            width, self.groups, self.epsilon, self.dropout, dtype=self.dtype, name=name
        )

    def _attend(self, name: str) -> AttnBlock:
        return AttnBlock(self.groups, self.epsilon, dtype=self.dtype, name=name)

    def _out(self, x: jax.Array) -> jax.Array:
        return nn.swish(Norm(self.groups, self.epsilon, self.dtype, name="norm_out")(x))


class Encoder(_Halves):
    """Pictures (b, h, w, c) -> latents (b, h / f, w / f, latent); f = `factor(self)`."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = pixel_unshuffle(x, self.patch) if self.patch > 1 else x
        x = Conv(self.features, 3, dtype=self.dtype, name="conv_in")(x.astype(self.dtype))
        for level in range(len(self.widths)):
            for number in range(self.blocks):
                x = self._block(x, level, "down", number, train)
            if level < len(self.widths) - 1:
                x = Downsample(dtype=self.dtype, name=f"down_{level}_downsample")(x)
        x = self._out(self._middle(x, train))
        return Conv(self.latent, 3, dtype=self.dtype, name="conv_out")(x).astype(jnp.float32)


class Decoder(_Halves):
    """Latents (b, h, w, latent) -> (pictures (b, h * f, w * f, channels), hidden).

    hidden (b, h * f / patch, w * f / patch, k) is the last convolution's input.

    Attributes: channels: of the pictures.
    """

    channels: int = 3

    @nn.compact
    def __call__(self, z: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        width = self.features * self.widths[-1]
        x = Conv(width, 3, dtype=self.dtype, name="conv_in")(z.astype(self.dtype))
        x = self._middle(x, train)
        for level in reversed(range(len(self.widths))):
            for number in range(self.blocks + 1):
                x = self._block(x, level, "up", number, train)
            if level:
                x = Upsample(dtype=self.dtype, name=f"up_{level}_upsample")(x)
        hidden = self._out(x)
        last = Conv(self.channels * self.patch**2, 3, dtype=self.dtype, name="conv_out")
        y = last(hidden).astype(jnp.float32)
        return (pixel_shuffle(y, self.patch) if self.patch > 1 else y), hidden


def factor(half: Any) -> int:
    """Pixels per latent along each axis; of either half, or of the settings of one."""
    return int(getattr(half, "patch", 1) * 2 ** (len(half.widths) - 1))


def radii(encoder: nn.Module, decoder: nn.Module) -> tuple[int, int] | None:
    """`radius` of both; None where either has none."""
    down, up = radius(encoder), radius(decoder)
    return None if down is None or up is None else (down, up)


def radius(net: nn.Module) -> int | None:
    """Receptive-field radius in pixels; None: something looks at the whole picture at once."""
    if not isinstance(net, Encoder | Decoder):
        return None  # others have normalisation always
    if net.groups or net.middle_attention or net.attention:
        return None
    levels, total = range(len(net.widths)), 0
    extra = 0 if isinstance(net, Encoder) else 1
    for level in levels:
        total += 2 * (net.blocks + extra) * 2**level  # two 3x3 convolutions a block
        if level < len(net.widths) - 1:
            # Down: the far end of the stride-2 window. Up: a convolution, and the cell's own side.
            total += 2 * 2**level
    deepest = 2 ** levels[-1]
    total += 4 * deepest + deepest + 1  # the middle, and the first and last convolution
    # A pixel may be any of its place's, and so is what it looks at.
    return net.patch * (total + 1) - 1
