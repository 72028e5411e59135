"""DF-GAN's discriminator: features of the picture, then one logit of picture and sentence."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.models.dfgan.generator import widths
from jaxgen.nn.conv import conv2d
from jaxgen.nn.init import TORCH_KERNEL, torch_conv
from jaxgen.nn.text import Judgement

MOST = {"2022": 8, "2020": 16}  # channels at 4 pixels, times `features`


def mean_2x2(x: jax.Array) -> jax.Array:
    """(b, h, w, c) -> (b, h / 2, w / 2, c), means of 2x2 pixels."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


class DownBlock(nn.Module):
    """Half the size: two convolutions, times a learned scalar that is 0 at first, plus a shortcut.

    The shortcut is a mean over 2x2 pixels, and a 1x1 convolution if the channels differ; that
    comes first in the published block and here, as a quarter of the work, after the mean.

    Attributes: features: channels out. dtype: of the computation; parameters are float32.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x (b, h, w, c) -> (b, h / 2, w / 2, features)."""
        y = torch_conv(
            x, self.features, 4, "conv_0", self.dtype, strides=2, padding=1, use_bias=False
        )
        y = nn.leaky_relu(y, 0.2)
        y = torch_conv(y, self.features, 3, "conv_1", self.dtype, use_bias=False)
        y = nn.leaky_relu(y, 0.2)
        x = mean_2x2(x)
        if x.shape[-1] != self.features:
            x = torch_conv(x, self.features, 1, "shortcut", self.dtype)
        gain = self.param("gain", nn.initializers.zeros, (1,))
        return x + y * gain.astype(y.dtype).reshape(1, 1, 1, 1)


class Features(nn.Module):
    """The part that sees pictures alone, down to 4x4 pixels; the published "netD".

    With 32 features 6,421,830 parameters at 256 px. Published files have 197,376 more, of
    shortcuts that are never used.

    Attributes: features: channels at full size. version: "2022" or "2020". dtype: as everywhere.
    """

    features: int = 32
    version: str = "2022"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x (b, n, n, 3) in [-1, 1] -> (b, 4, 4, c)."""
        channels = widths(x.shape[1], self.features, MOST[self.version])
        y = torch_conv(x.astype(self.dtype), channels[0], 3, "conv_in", self.dtype)
        for i, features in enumerate(channels[1:]):
            y = DownBlock(features, self.dtype, name=f"block_{i}")(y)
        return y


class Joined(nn.Module):
    """A 3x3 convolution of features joined with a sentence at each place, for several sentences.

    As the convolution of the concatenation, but the features' share is computed once, and that of
    a sentence, which is the same everywhere, by one product per tap of the kernel.

    Attributes: features: channels out. dtype: of the computation; parameters are float32.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, sentences: tuple[jax.Array, ...]) -> list[jax.Array]:
        """x (b, h, w, c), sentences (b, e) each -> (b, h, w, features) each."""
        c, e = x.shape[-1], sentences[0].shape[-1]
        kernel = self.param("kernel", TORCH_KERNEL, (3, 3, c + e, self.features))
        kernel = kernel.astype(self.dtype)
        seen = conv2d(x.astype(self.dtype), kernel[:, :, :c])
        rows, columns = (_taps_within(n, self.dtype) for n in x.shape[1:3])
        said = []
        for sentence in sentences:
            taps = jnp.einsum("be,ijen->bijn", sentence.astype(self.dtype), kernel[:, :, c:])
            said.append(jnp.einsum("yi,bijn,xj->byxn", rows, taps, columns))
        return [seen + one for one in said]


def _taps_within(n: int, dtype: Any) -> jax.Array:
    """(n, 3): 1 where a place's tap (before, on, after it) lies within n places, else 0."""
    place = jnp.arange(n)[:, None] + jnp.arange(-1, 2)[None, :]
    return ((place >= 0) & (place < n)).astype(dtype)


class Judge(nn.Module):
    """Features and sentence to one logit (section 3.2, one-way output); the published "netC".

    295,936 parameters for 32 features, 256-d sentences and 256 px.

    Attributes: features: half of its hidden channels. dtype: as everywhere; logits are float32.
    """

    features: int = 32
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, sentences: tuple[jax.Array, ...]) -> list[jax.Array]:
        """x (b, 4, 4, c), sentences (b, e) each -> logits (b,) float32 each."""
        hidden = Joined(2 * self.features, self.dtype, name="joined")(x, sentences)
        last = self.param("last", TORCH_KERNEL, (4, 4, 2 * self.features, 1)).reshape(1, -1)
        logits = []
        for y in hidden:
            y = nn.leaky_relu(y, 0.2).astype(jnp.float32).reshape(y.shape[0], -1)
            logits.append(jnp.sum(y * last, axis=1))
        return logits


class Discriminator(nn.Module):
    """Features, then the judge: DF-GAN's netD and netC as one network.

    Without the dead shortcuts of the published files 6,717,766 parameters with 32 features,
    256-d sentences and 256 px.

    Attributes:
      features: channels at full size.
      version: "2022", or "2020": up to 16 times as many channels instead of 8.
      dtype: of the computation; parameters and logits are float32.
    """

    features: int = 32
    version: str = "2022"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, sentences: tuple[jax.Array, ...], train: bool = False
    ) -> tuple[Judgement, ...]:
        """x (b, n, n, 3) in [-1, 1], n a power of two; sentences (b, e) each -> one each."""
        del train
        y = Features(self.features, self.version, self.dtype, name="features")(x)
        logits = Judge(self.features, self.dtype, name="judge")(y, sentences)
        return tuple(Judgement(pair=one) for one in logits)
