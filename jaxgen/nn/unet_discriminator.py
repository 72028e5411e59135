"""A U-Net discriminator for text-to-image GANs: one logit per picture and one per pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.errors import UserError
from jaxgen.nn.conv import Conv
from jaxgen.nn.resample import upsample_nearest
from jaxgen.nn.spectral_norm import SpectralConv, SpectralDense
from jaxgen.nn.text import Judgement

# Side of the pictures -> widths of the encoder's blocks, in `features`; 4x4 after the last. 128 and
# 256 are published, the smaller ones stop earlier.
WIDTHS = {
    16: (1, 2),
    32: (1, 2, 4),
    64: (1, 2, 4, 8),
    128: (1, 2, 4, 8, 16),
    256: (1, 2, 4, 8, 8, 16),
}
_INIT = nn.initializers.orthogonal()


class UNetDiscriminator(nn.Module):
    """Schonfeld et al., CVPR 2020: BigGAN's discriminator, and a decoder back to the pixels.

    The encoder halves the picture to 4x4; there a sum over the places gives the global logit. The
    decoder doubles it again, each block but the first on the block before and the encoder's map of
    the same side, and a 1x1 convolution gives each pixel's logit. Both logits get the inner product
    of their features with a projection of the sentence (Miyato and Koyama 2018). All layers but
    the last 1x1 are spectrally normalised; state: the collection "spectral".

    With 64 features and without the projections 31,481,602 parameters for 128 px and 44,067,586
    for 256 px; the published counts have `features` + 1 more, a dense layer that nothing uses.

    Attributes:
      size: side of the pictures: 16, 32, 64, 128 or 256.
      features: width of the first block.
      dtype: of the computation; parameters, pooled features and logits are float32.
    """

    size: int
    features: int = 64
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, sentences: Sequence[jax.Array], train: bool = False
    ) -> tuple[Judgement, ...]:
        """x (b, size, size, 3), sentences each (b, e) -> a Judgement for each, with pixels.

        Raises:
          UserError: there are no widths for this `size`.
        """
        if self.size not in WIDTHS:
            known = ", ".join(str(size) for size in WIDTHS)
            raise UserError(f"the U-Net discriminator takes data.size {known}, not {self.size}")
        widths = [self.features * width for width in WIDTHS[self.size]]
        x = x.astype(self.dtype)
        skips: list[jax.Array] = []
        for i, width in enumerate(widths):
            block = DownBlock(width, activate=i > 0, dtype=self.dtype, name=f"down_{i}")
            x = block(x, train)  # (b, size / 2^(i + 1), ..., width)
            skips.append(x)
        deep = nn.relu(skips.pop().astype(jnp.float32)).sum(axis=(1, 2))  # (b, widths[-1])
        for i, width in enumerate([*widths[-2::-1], self.features]):
            if i:
                x = jnp.concatenate([x, skips.pop()], axis=-1)
            x = UpBlock(width, dtype=self.dtype, name=f"up_{i}")(x, train)
        pixels = x.astype(jnp.float32)  # (b, size, size, features)

        pair = SpectralDense(1, kernel_init=_INIT, name="pair")(deep, train)
        pixel = Conv(1, 1, kernel_init=_INIT, name="pixel")(pixels)
        # All sentences at once: one step of power iteration, whatever their number.
        together = jnp.concatenate([s.astype(jnp.float32) for s in sentences])  # (k * b, e)
        by_picture = self._project(together, deep.shape[-1], len(sentences), "by_picture", train)
        by_pixel = self._project(together, self.features, len(sentences), "by_pixel", train)
        return tuple(
            Judgement(
                pair=pair[:, 0] + jnp.sum(p * deep, axis=1),
                pixels=pixel[..., 0] + jnp.einsum("bhwc,bc->bhw", pixels, q),
            )
            for p, q in zip(by_picture, by_pixel, strict=True)
        )

    def _project(self, sentences, width, count, name, train):
        layer = SpectralDense(width, use_bias=False, kernel_init=_INIT, name=name)
        return jnp.split(layer(sentences, train), count)


class DownBlock(nn.Module):
    """BigGAN's residual block of the discriminator (Brock et al. 2019, appendix B, figure 15c).

    (b, h, w, c) -> (b, h / 2, w / 2, features): two 3x3 convolutions and average pooling, plus a
    1x1 convolution of the pooled input.

    Attributes: features: channels out. activate: ReLU before the first convolution; not for
      pictures. dtype: of the computation.
    """

    features: int
    activate: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        y = nn.relu(x) if self.activate else x
        y = _conv(self, 3, "conv_0")(y, train)
        y = _conv(self, 3, "conv_1")(nn.relu(y), train)
        # Pooling first gives the same and costs a quarter.
        return _halve(y) + _conv(self, 1, "shortcut")(_halve(x), train)


class UpBlock(nn.Module):
    """The generator's block without normalisation (the same paper's figure 15b).

    (b, h, w, c) -> (b, 2h, 2w, features): nearest neighbour, two 3x3 convolutions, plus a 1x1
    convolution of the input.

    Attributes: features: channels out. dtype: of the computation.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        y = _conv(self, 3, "conv_0")(upsample_nearest(nn.relu(x), 2), train)
        y = _conv(self, 3, "conv_1")(nn.relu(y), train)
        return y + upsample_nearest(_conv(self, 1, "shortcut")(x, train), 2)


def _conv(block: Any, size: int, name: str) -> SpectralConv:
    return SpectralConv(block.features, size, dtype=block.dtype, kernel_init=_INIT, name=name)


def _halve(x: jax.Array) -> jax.Array:
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))
