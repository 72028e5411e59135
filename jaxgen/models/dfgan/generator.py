"""DF-GAN's generators: one stage, and the text in every block by affine maps of the channels."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.init import torch_conv, torch_dense
from jaxgen.nn.rdb import ResidualDenseBlock
from jaxgen.nn.resample import upsample_nearest
from jaxgen.nn.text import Drawn, Text

BLOCKS = ("base", "rdb")
HIDDEN_2020 = 256  # of the affine maps' hidden layers in the first version


def widths(size: int, features: int, most: int = 8) -> list[int]:
    """Channels at `size` pixels, at half of it, ... down to 4: features * min(2**i, most)."""
    return [features * min(2**i, most) for i in range(int(math.log2(size)) - 1)]


def first_map(x: jax.Array, channels: int, dtype: Any) -> jax.Array:
    """Layer "dense_in": (b, k) -> (b, 4, 4, channels); within a module."""
    y = torch_dense(x, 16 * channels, "dense_in", dtype)
    # In PyTorch's order, (c, h, w): it costs nothing, and weights need no reordering.
    return y.reshape(-1, channels, 4, 4).transpose(0, 2, 3, 1)


class Affine(nn.Module):
    """x * gamma + beta, channel by channel, both from a condition by a small MLP (section 3.3).

    Starts as the identity.

    Attributes: hidden: width of the MLPs. dtype: of the computation; parameters are float32.
    """

    hidden: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        """x (b, h, w, c), condition (b, e) -> (b, h, w, c)."""
        zeros, ones = nn.initializers.zeros, nn.initializers.ones

        def mlp(name, bias):
            y = nn.relu(torch_dense(condition, self.hidden, f"{name}_hidden", self.dtype))
            last = nn.Dense(
                x.shape[-1], dtype=self.dtype, kernel_init=zeros, bias_init=bias, name=f"{name}_out"
            )
            return last(y)[:, None, None, :]

        return x * mlp("gamma", ones) + mlp("beta", zeros)


class Block(nn.Module):
    """UPBlock: [nearest x2], then twice a deep text-image fusion and a convolution, plus x.

    A fusion is affine, LeakyReLU, affine, LeakyReLU. As the published block, which enlarges first
    of all; but what treats pixels one by one is done on the small picture, and enlarged then.

    Attributes:
      features: channels out.
      enlarge: whether the output is twice as large.
      hidden: width of the affine maps' MLPs; 0: as many as the map has channels.
      gain: whether the residual is multiplied by a learned scalar, 0 at first (2020).
      block: "base", or "rdb": a residual dense block in place of the second convolution.
      growth_divisor, layers, scale: of the dense block: growth is features / growth_divisor.
      dtype: of the computation; parameters are float32.
    """

    features: int
    enlarge: bool = True
    hidden: int = 0
    gain: bool = False
    block: str = "base"
    growth_divisor: int = 4
    layers: int = 3
    scale: float = 0.2
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        """x (b, h, w, c), condition (b, e) -> (b, h', w', features); h' is 2 * h or h."""
        y = self._up(self._fuse(x, condition, 0))
        y = torch_conv(y, self.features, 3, "conv_0", self.dtype)
        y = self._fuse(y, condition, 1)
        if self.block == "rdb":
            y = ResidualDenseBlock(
                max(1, self.features // self.growth_divisor),
                self.layers,
                scale=self.scale,
                fusion_init=nn.initializers.zeros,
                dtype=self.dtype,
                name="dense",
            )(y)
        else:
            y = torch_conv(y, self.features, 3, "conv_1", self.dtype)
        if self.gain:
            gain = self.param("gain", nn.initializers.zeros, (1,))
            y = y * gain.astype(y.dtype).reshape(1, 1, 1, 1)
        if x.shape[-1] != self.features:
            x = torch_conv(x, self.features, 1, "shortcut", self.dtype)
        return self._up(x) + y

    def _up(self, x: jax.Array) -> jax.Array:
        return upsample_nearest(x, 2) if self.enlarge else x

    def _fuse(self, x: jax.Array, condition: jax.Array, n: int) -> jax.Array:
        for i in (0, 1):
            affine = Affine(self.hidden or x.shape[-1], self.dtype, name=f"fuse_{n}_affine_{i}")
            x = nn.leaky_relu(affine(x, condition), 0.2)
        return x


class Generator(nn.Module):
    """DF-GAN's generator (Tao et al., CVPR 2022, section 3), for 8, 16, ... 256 pixels.

    With 32 features 9,744,131 parameters at 256 px, 7,306,499 at 128, 4,868,867 at 64; with 64
    features 31,819,267 at 256. No layer normalises. In the first version (arXiv, 2020; version
    "2020": 12,240,010 with 32 features, 31,480,074 with 64) the affine maps see the sentence alone
    and have wider MLPs, one more block works at 4 pixels, and residuals have a gain from 0.

    Block "rdb" is seed 001's idea (IMAGAN): a residual dense block in each block. With the
    settings here 10,003,883 and 32,856,787 parameters at 256 px; the dense blocks start as the
    identity.

    Attributes:
      size: of the pictures, a power of two from 8 on.
      features: channels at full size; 2, 4, then 8 times as many below.
      z_size: numbers in one picture's noise.
      version: "2022" or "2020".
      block: "base" or "rdb".
      growth_divisor, layers, scale: of the dense blocks, see `Block`.
      sentence_first: whether the first layer, too, sees the sentence. Places are then learned in
        much less time; not in the published networks.
      dtype: of the computation; parameters are float32.
    """

    size: int = 256
    features: int = 32
    z_size: int = 100
    version: str = "2022"
    block: str = "base"
    growth_divisor: int = 4
    layers: int = 3
    scale: float = 0.2
    sentence_first: bool = False
    dtype: Any = jnp.float32

    @property
    def noise(self) -> tuple[int, ...]:
        """Shape of one picture's z."""
        return (self.z_size,)

    @nn.compact
    def __call__(self, z: jax.Array, text: Text, train: bool = False) -> Drawn:
        """z (b, z_size), N(0, I) -> pictures (b, size, size, 3) float32 in [-1, 1].

        Of the text it sees the sentence. `train` makes no difference: there is no state.
        """
        del train
        old = self.version == "2020"
        z, sentence = z.astype(self.dtype), text.sentence.astype(self.dtype)
        both = jnp.concatenate([z, sentence], axis=-1)
        condition = sentence if old else both
        channels = widths(self.size, self.features)[::-1]  # at 4, 8, ... pixels
        y = first_map(both if self.sentence_first else z, channels[0], self.dtype)
        outs = channels if old else channels[1:]
        for i, features in enumerate(outs):
            y = Block(
                features,
                enlarge=i > 0 or not old,
                hidden=HIDDEN_2020 if old else 0,
                gain=old,
                block=self.block,
                growth_divisor=self.growth_divisor,
                layers=self.layers,
                scale=self.scale,
                dtype=self.dtype,
                name=f"block_{i}",
            )(y, condition)
        y = torch_conv(nn.leaky_relu(y, 0.2), 3, 3, "conv_out", self.dtype)
        return Drawn(image=jnp.tanh(y.astype(jnp.float32)))
