"""SSA-GAN's generator: masks, found by itself, say where the text acts (Liao et al., CVPR 2022)."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.models.dfgan.generator import first_map, widths
from jaxgen.nn.init import torch_conv, torch_dense
from jaxgen.nn.resample import upsample_nearest
from jaxgen.nn.text import Drawn, Text


def enlarge_mask(x: jax.Array) -> jax.Array:
    """(b, h, w) -> (b, 2h, 2w), bilinear with corners on corners: PyTorch's align_corners=True."""
    rows, columns = (jnp.asarray(_corner_weights(n), x.dtype) for n in x.shape[1:])
    return jnp.einsum("ih,bhw,jw->bij", rows, x, columns, precision=jax.lax.Precision.HIGHEST)


@functools.lru_cache
def _corner_weights(n: int) -> np.ndarray:
    """(2n, n): output i looks at input i * (n - 1) / (2n - 1)."""
    at = np.arange(2 * n) * ((n - 1) / (2 * n - 1))
    return np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(n)[None]))


class MaskHead(nn.Module):
    """Where the text is to act, from a map: two convolutions with BatchNorm between them.

    Attributes: features: channels between. dtype: of the computation; parameters are float32.
    """

    features: int = 100
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x (b, h, w, c) -> logits (b, h, w), float32 at least."""
        x = torch_conv(x, self.features, 3, "conv_in", self.dtype)
        x = nn.relu(_batch_norm(x, train, "norm", self.dtype))
        x = torch_conv(x, 1, 1, "conv_out", self.dtype)
        return x[..., 0].astype(jnp.promote_types(self.dtype, jnp.float32))


class MaskedAffine(nn.Module):
    """norm(x) * (1 + gamma * mask) + beta * mask (eq. 4 and 5): BatchNorm without parameters, then
    gamma and beta, channel by channel, from the sentence by MLPs whose last layers start at zero.

    Attributes: hidden: width of the MLPs. dtype: of the computation; parameters are float32.
    """

    hidden: int = 256
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, sentence: jax.Array, mask: jax.Array, train: bool
    ) -> jax.Array:
        """x (b, h, w, c), sentence (b, e), mask (b, h, w) in [0, 1] -> (b, h, w, c)."""
        zeros = nn.initializers.zeros

        def mlp(name):
            y = nn.relu(torch_dense(sentence, self.hidden, f"{name}_hidden", self.dtype))
            last = nn.Dense(x.shape[-1], dtype=self.dtype, kernel_init=zeros, name=f"{name}_out")
            return last(y)[:, None, None, :]

        mask = mask[..., None].astype(self.dtype)
        x = _batch_norm(x, train, "norm", self.dtype, affine=False)
        return x * (1 + mlp("gamma") * mask) + mlp("beta") * mask


class Block(nn.Module):
    """Twice masked affine, ReLU and convolution, times a learned scalar that is 0 at first, plus x.

    Attributes:
      features: channels out.
      hidden: of the affine maps' MLPs.
      dtype: of the computation; parameters are float32.
    """

    features: int
    hidden: int = 256
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, sentence: jax.Array, mask: jax.Array, train: bool
    ) -> jax.Array:
        """x (b, h, w, c), sentence (b, e), mask (b, h, w) -> (b, h, w, features)."""
        y = x
        for i in range(2):
            affine = MaskedAffine(self.hidden, self.dtype, name=f"affine_{i}")
            y = nn.relu(affine(y, sentence, mask, train))
            y = torch_conv(y, self.features, 3, f"conv_{i}", self.dtype)
        if x.shape[-1] != self.features:
            x = torch_conv(x, self.features, 1, "shortcut", self.dtype)
        gain = self.param("gain", nn.initializers.zeros, (1,))
        return x + y * gain.astype(y.dtype).reshape(1, 1, 1, 1)


class Generator(nn.Module):
    """SSA-GAN's generator (section 3.2), for 8, 16, ... 256 pixels.

    The form of DF-GAN's first version. Each block's output also gives the next block's mask; no
    mask is ever supervised. At 256 px 29,494,273 parameters with 64 features, 10,327,425 with 32.
    At first the text does nothing. BatchNorm's statistics are over the global batch.

    Attributes:
      size: of the pictures, a power of two from 8 on.
      features: channels at full size; 2, 4, then 8 times as many below.
      z_size: numbers in one picture's noise, which enters at the first layer alone.
      hidden: of the affine maps' MLPs.
      mask_features: of the mask heads.
      sentence_first: whether the first layer sees the sentence beside the noise; not in the
        published network.
      dtype: of the computation; parameters, statistics, masks and pictures are float32.
    """

    size: int = 256
    features: int = 64
    z_size: int = 100
    hidden: int = 256
    mask_features: int = 100
    sentence_first: bool = False
    dtype: Any = jnp.float32

    @property
    def noise(self) -> tuple[int, ...]:
        """Shape of one picture's z."""
        return (self.z_size,)

    @nn.compact
    def __call__(self, z: jax.Array, text: Text, train: bool = False) -> Drawn:
        """z (b, z_size), N(0, I) -> pictures (b, size, size, 3) in [-1, 1], and the masks by which
        the text came in: (b, 4, 4), (b, 8, 8), ... (b, size, size).

        Of the text it sees the sentence. train: by the batch's statistics, which are kept.
        """
        z, sentence = z.astype(self.dtype), text.sentence.astype(self.dtype)
        channels = widths(self.size, self.features)[::-1]  # at 4, 8, ... pixels
        seen = jnp.concatenate([z, sentence], axis=-1) if self.sentence_first else z
        x = first_map(seen, channels[0], self.dtype)
        logits = MaskHead(self.mask_features, self.dtype, name="mask_in")(x, train)
        masks = []
        for i, features in enumerate(channels):
            if i:
                head = MaskHead(self.mask_features, self.dtype, name=f"mask_{i - 1}")
                x, logits = upsample_nearest(x, 2), enlarge_mask(head(x, train))
            masks.append(jax.nn.sigmoid(logits))
            block = Block(features, self.hidden, self.dtype, name=f"block_{i}")
            x = block(x, sentence, masks[i], train)  # (b, 4 * 2**i, 4 * 2**i, features)
        x = nn.leaky_relu(_batch_norm(x, train, "norm_out", self.dtype), 0.2)
        x = torch_conv(x, 3, 3, "conv_out", self.dtype)
        image = jnp.tanh(x.astype(jnp.promote_types(self.dtype, jnp.float32)))
        return Drawn(image=image, masks=tuple(masks))


def _batch_norm(x: jax.Array, train: bool, name: str, dtype: Any, affine: bool = True) -> jax.Array:
    return nn.BatchNorm(
        not train, momentum=0.9, epsilon=1e-5, use_bias=affine, use_scale=affine, dtype=dtype,
        name=name,
    )(x)  # fmt: skip
