"""Layers that the first text-to-image GANs share: DCGAN's, with residual bottlenecks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgen.nn.conv import Conv, conv2d
from jaxgen.nn.cpu.conv import by_platform
from jaxgen.nn.resample import pixel_shuffle

# [3, 4, 2]: which of the four taps (middle) the outputs 2i and 2i + 1 (last) have at the inputs
# i - 1, i and i + 1 (first): 2i taps 0 and 2 at i - 1 and i, 2i + 1 taps 1 and 3 at i and i + 1.
_TAPS = np.zeros((3, 4, 2))
_TAPS[[0, 1, 1, 2], [0, 2, 1, 3], [0, 0, 1, 1]] = 1.0
SMALL = nn.initializers.normal(0.02)  # of every kernel (Radford et al. 2016)


def leaky(x: jax.Array) -> jax.Array:
    """LeakyReLU with slope 0.2."""
    return nn.leaky_relu(x, 0.2)


def norm(train: bool, dtype: Any, name: str | None = None) -> nn.BatchNorm:
    """BatchNorm whose gain starts at N(1, 0.02); PyTorch's momentum and epsilon."""
    return nn.BatchNorm(not train, momentum=0.9, dtype=dtype, scale_init=_around_one, name=name)


def tile(vector: jax.Array, like: jax.Array) -> jax.Array:
    """(b, e) at every place of `like` (b, h, w, c): (b, h, w, e), in its dtype."""
    shape = (*like.shape[:3], vector.shape[-1])
    return jnp.broadcast_to(vector.astype(like.dtype)[:, None, None], shape)


def _around_one(rng: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    return 1.0 + 0.02 * jax.random.normal(rng, shape, dtype)


def transposed_conv2d(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The transposed 4x4 convolution of stride 2: x (b, h, w, c), (4, 4, c, n) -> (b, 2h, 2w, n).

    On a CPU by a 3x3 convolution that gives each input pixel its 2 x 2 outputs, nine of whose 36
    taps are not zero: XLA's transposed convolution there is three to ten times slower.
    """
    return by_platform(_by_shuffle, _by_transposition, x, kernel)


def _by_transposition(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_transpose(x, kernel, (2, 2), "SAME")


def _by_shuffle(x: jax.Array, kernel: jax.Array) -> jax.Array:
    c, n = kernel.shape[2:]
    # A sum of products with zeros and ones: exact.
    wide = jnp.einsum("aip,bjq,ijcn->abcnpq", *[_TAPS.astype(kernel.dtype)] * 2, kernel)
    return pixel_shuffle(conv2d(x, wide.reshape(3, 3, c, 4 * n)), 2)


class UpConv(nn.Module):
    """Transposed 4x4 convolution of stride 2, (b, h, w, c) -> (b, 2h, 2w, features), with bias."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", SMALL, (4, 4, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        y = transposed_conv2d(x.astype(self.dtype), kernel.astype(self.dtype))
        return y + bias.astype(self.dtype).reshape(1, 1, 1, -1)


class Bottleneck(nn.Module):
    """x + (1x1 to c/4, 3x3, 3x3 back to c), each with BatchNorm; no activation after the sum.

    Attributes:
      activation: between the convolutions.
      use_bias: of the convolutions; a BatchNorm that follows leaves it without effect.
      dtype: of the computation; parameters are float32.
    """

    activation: Callable[[jax.Array], jax.Array]
    use_bias: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """(b, h, w, c) -> (b, h, w, c)."""
        channels = x.shape[-1]
        inner = max(channels // 4, 1)
        y = x
        for i, (features, kernel) in enumerate(((inner, 1), (inner, 3), (channels, 3))):
            y = Conv(
                features, kernel, use_bias=self.use_bias, dtype=self.dtype, kernel_init=SMALL,
                name=f"conv_{i}",
            )(self.activation(y) if i else y)  # fmt: skip
            y = norm(train, self.dtype, f"norm_{i}")(y)
        return x + y
