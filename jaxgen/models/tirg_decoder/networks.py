"""What draws the picture that a picture and words ask for, from their composed feature."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.errors import UserError
from jaxgen.nn.conv import Conv
from jaxgen.nn.resample import pixel_shuffle, pixel_unshuffle, upsample_nearest
from jaxgen.nn.unet_blocks import Norm, ResnetBlock

_PLACED = 16  # channels that a vector, or noise, has at each place


class Asked(NamedTuple):
    """What is drawn: a row for each text.

    source: pictures (n, s, s, 3) float32 in [-1, 1]. map: the retrieval model's last map of them,
    (n, h, w, c). vector: its feature of them, (n, e). composed: with the text, a map (n, h, w, c)
    or a vector (n, e).
    """

    source: jax.Array
    map: jax.Array
    vector: jax.Array
    composed: jax.Array


class Decoder(nn.Module):
    """Net "decoder": `Asked` and noise -> pictures.

    A composition that works on maps gives a map, which keeps the layout; of a vector, and of its
    difference from the source's, a dense layer makes what each place gets, and another what all
    get, beside the source's map. As in TIM-GAN (Zhang et al., ACM MM 2021) a mask says where the
    picture changes; elsewhere the source shows.

    Attributes:
      channels: of the levels, from the map's side up, each of twice the side; the rest of the way
        to the pictures' side is one pixel shuffle.
      blocks: residual blocks of a level.
      groups: of the normalisation.
      noise: numbers of the noise, which says what the words leave open.
      keep: whether the source is looked at, and shows outside the mask; without it the picture is
        drawn of the composed feature alone.
    """

    channels: tuple[int, ...] = (96, 48, 24)
    blocks: int = 1
    groups: int = 8
    noise: int = 16
    keep: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, asked: Asked, z: jax.Array) -> jax.Array:
        """Pictures (n, s, s, 3) float32 in [-1, 1]; z: (n, noise)."""
        n, h, w, _ = asked.map.shape
        factor = shuffled(asked.source.shape[1], h, len(self.channels))

        def placed(x: jax.Array, name: str) -> jax.Array:
            x = nn.Dense(h * w * _PLACED, dtype=self.dtype, name=name)(x.astype(self.dtype))
            return x.reshape(n, h, w, _PLACED)

        composed = _normed(asked.composed)
        is_map = composed.ndim == 4
        if self.keep and not is_map:
            # Both stand for pictures in one space: what the words change is their difference.
            composed = jnp.concatenate([composed, composed - _normed(asked.vector)], axis=-1)
        parts = [placed(z, "noise"), composed if is_map else placed(composed, "places")]
        if self.keep:
            parts.append(asked.map)
        x = Conv(self.channels[0], 3, dtype=self.dtype, name="conv_in")(parts)
        if not is_map:
            everywhere = nn.Dense(self.channels[0], dtype=self.dtype, name="everywhere")
            x = x + everywhere(composed.astype(self.dtype))[:, None, None]
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


class Posterior(nn.Module):
    """Net "posterior", of training alone: the noise that would have drawn a target.

    Attributes:
      noise: see `Decoder`.
      channels: of the convolutions, each of which halves the side.
    """

    noise: int = 16
    channels: tuple[int, ...] = (32, 64, 64)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, source: jax.Array, target: jax.Array) -> jax.Array:
        """Pictures (n, s, s, 3) -> mean and log of the variance, (n, 2 * noise) float32."""
        x = jnp.concatenate([source, target - source], axis=-1)
        for i, channels in enumerate(self.channels):
            x = nn.swish(Conv(channels, 3, 2, dtype=self.dtype, name=f"conv_{i}")(x))
        x = x.reshape(len(x), -1)
        return nn.Dense(2 * self.noise, dtype=self.dtype, name="out")(x).astype(jnp.float32)


def _normed(x: jax.Array) -> jax.Array:
    """Of mean square 1 in each row: retrieval learns directions, and lengths as they come."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.square(x).mean(axis=tuple(range(1, x.ndim)), keepdims=True) + 1e-6)


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
