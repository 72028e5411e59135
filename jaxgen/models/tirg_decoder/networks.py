"""What draws the picture that a picture and words ask for, from their composed feature."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.errors import UserError
from jaxgen.losses.contrastive import unit
from jaxgen.nn.conv import Conv
from jaxgen.nn.resample import pixel_shuffle, pixel_unshuffle, upsample_nearest
from jaxgen.nn.time_embedding import TimeEmbedding
from jaxgen.nn.unet_blocks import Norm, ResnetBlock

_PLACED = 16  # channels that a feature has at each place
_SINES = 64  # width of the time's sinusoid


class Asked(NamedTuple):
    """What is asked for: a row for each text.

    source: pictures (n, s, s, 3) float32 in [-1, 1]. map: the retrieval model's last map of them,
    (n, h, w, c). vector, text, composed: its features of them, of the text and of both, (n, e)
    each, of mean square 1.
    """

    source: jax.Array
    map: jax.Array
    vector: jax.Array
    text: jax.Array
    composed: jax.Array

    @property
    def said(self) -> jax.Array:
        """What the prior is told: (n, 3 e)."""
        return jnp.concatenate([self.vector, self.text, self.composed], axis=-1)

    @property
    def unsaid(self) -> jax.Array:
        """The same of a picture alone, of which nothing is asked."""
        nothing = jnp.zeros_like(self.text)
        return jnp.concatenate([self.vector, nothing, nothing], axis=-1)


class Prior(nn.Module):
    """Net "prior": says of a noisy feature how to go to one that the words may mean.

    A flow over features, as unCLIP's prior (Ramesh et al. 2022) draws those of pictures; like that
    it sees the text's own feature beside the common one. What is noisy is the difference of the
    wanted picture's feature from the source's, which is what the words change.

    Attributes:
      width: of the hidden layers.
      blocks: residual blocks of two layers.
    """

    width: int = 256
    blocks: int = 3
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, t: jax.Array, said: jax.Array) -> jax.Array:
        """(n, e) -> (n, e) float32: x a difference with noise, t (n,) its time from 0 to 1000,
        said as of `Asked`."""
        pooled = said.shape[-1]
        time = TimeEmbedding(_SINES, self.width, pooled=pooled, name="time_embed")(t, said)
        time = nn.silu(time).astype(self.dtype)
        y = nn.Dense(self.width, dtype=self.dtype, name="in")(x.astype(self.dtype))
        for i in range(self.blocks):
            z = nn.LayerNorm(dtype=self.dtype, name=f"block_{i}_norm")(y)
            z = nn.Dense(self.width, dtype=self.dtype, name=f"block_{i}_1")(nn.silu(z))
            z += nn.Dense(self.width, dtype=self.dtype, name=f"block_{i}_time")(time)
            y = y + nn.Dense(self.width, dtype=self.dtype, name=f"block_{i}_2")(nn.silu(z))
        y = nn.LayerNorm(dtype=self.dtype, name="norm_out")(y)
        return nn.Dense(x.shape[-1], dtype=self.dtype, name="out")(y).astype(jnp.float32)


class Decoder(nn.Module):
    """Net "decoder": a source and the feature of the wanted picture -> the picture.

    Of the feature's difference from the source's, which is what the words change, a dense layer
    makes what each place gets beside the source's map. As in TIM-GAN (Zhang et al., ACM MM 2021) a
    mask says where the picture changes; elsewhere the source shows.

    Attributes:
      channels: of the levels, from the map's side up, each of twice the side; the rest of the way
        to the pictures' side is one pixel shuffle.
      blocks: residual blocks of a level.
      groups: of the normalisation.
      keep: whether the source is looked at, and shows outside the mask; without it the picture is
        drawn of the wanted feature alone.
    """

    channels: tuple[int, ...] = (96, 64)
    blocks: int = 1
    groups: int = 8
    keep: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, asked: Asked, change: jax.Array) -> jax.Array:
        """Pictures (n, s, s, 3) float32 in [-1, 1]; change: what the wanted feature differs by
        from `asked.vector`, (n, e)."""
        n, h, w, _ = asked.map.shape
        factor = shuffled(asked.source.shape[1], h, len(self.channels))
        said = change if self.keep else asked.vector + change
        x = nn.Dense(h * w * _PLACED, dtype=self.dtype, name="places")(said.astype(self.dtype))
        parts = [x.reshape(n, h, w, _PLACED)]
        if self.keep:
            parts.append(asked.map.astype(self.dtype))
        x = Conv(self.channels[0], 3, dtype=self.dtype, name="conv_in")(parts)
        for level, channels in enumerate(self.channels):
            if level:
                x = upsample_nearest(x, 2)
            for number in range(self.blocks):
                block = ResnetBlock(
                    channels, self.groups, dtype=self.dtype, name=f"up_{level}_block_{number}"
                )
                x = block(x)
        x = nn.swish(Norm(self.groups, dtype=self.dtype, name="norm_out")(x))
        last = [x, pixel_unshuffle(asked.source, factor)] if self.keep else [x]
        x = nn.swish(Conv(self.channels[-1], 3, dtype=self.dtype, name="conv_last")(last))
        x = Conv(4 * factor**2, 3, dtype=self.dtype, name="conv_out")(x).astype(jnp.float32)
        x = pixel_shuffle(x, factor)
        drawn: jax.Array = nn.tanh(x[..., :3])
        if not self.keep:
            return drawn
        return asked.source + nn.sigmoid(x[..., 3:]) * (drawn - asked.source)


def normed(x: jax.Array) -> jax.Array:
    """Features (n, e) of mean square 1, float32: retrieval learns directions, and lengths as they
    come."""
    return unit(x.astype(jnp.float32)) * x.shape[-1] ** 0.5


def shuffled(size: int, side: int, levels: int) -> int:
    """Pixels along each axis of one place of the last level.

    Raises:
      UserError: pictures whose side the levels do not reach.
    """
    last = side * 2 ** (levels - 1)
    if size % last:
        raise UserError(
            f"{levels} model.decoder.channels make {last} places a side of the retrieval model's "
            f"{side}, which does not divide its pictures' {size}: give fewer"
        )
    return size // last
