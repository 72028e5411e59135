"""Depthwise and separable convolutions with PyTorch's padding."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.conv import conv2d
from jaxgen.nn.cpu.conv import by_platform, convolve
from jaxgen.nn.plain_conv import Form

# On CPUs, a separable layer with at most so many output channels (such as a last layer 64 -> 3) is
# faster as one dense convolution, whose kernel is the product of its two.
DENSE_FEATURES = 4


def depthwise_conv2d(x: jax.Array, kernel: jax.Array, strides: int = 1) -> jax.Array:
    """Cross-correlates each channel of `x` (b, h, w, c) with its own kernel (k, k, 1, c).

    Pads k//2 on every side for every stride, as PyTorch's `padding=k//2`; (b, h', w', c).

    Differentiable any number of times in reverse mode; it has no forward mode (`jax.jvp`).
    """
    pad = kernel.shape[0] // 2
    return convolve([x], kernel, Form((strides, strides), (pad, pad), x.shape[3]))


class _Weights(nn.Module):
    """Kernel and bias of a convolution."""

    shape: tuple[int, int, int, int]
    use_bias: bool
    param_dtype: jnp.dtype
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array | None]:
        kernel = self.param("kernel", self.kernel_init, self.shape, self.param_dtype)
        if not self.use_bias:
            return kernel, None
        return kernel, self.param("bias", nn.initializers.zeros, self.shape[-1:], self.param_dtype)


class SeparableConv(nn.Module):
    """Depthwise k x k, then pointwise 1 x 1 convolution: (b, h, w, c) -> (b, h', w', features).

    Nothing between the two (Chollet 2017, "Xception"). Parameters: depthwise/kernel (k, k, 1, c),
    which is PyTorch's (c, 1, k, k) under `weights.CONV`, pointwise/kernel (1, 1, c, features), and
    a bias for each if `use_bias`. `kernel_init` is the pointwise kernel's: where it gives zeros,
    the layer starts at zero and still learns.
    """

    features: int
    kernel_size: int
    strides: int = 1
    use_bias: bool = True
    dtype: jnp.dtype | None = None
    param_dtype: jnp.dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        k, c = self.kernel_size, x.shape[-1]
        shapes = (k, k, 1, c), (1, 1, c, self.features)
        inits = nn.initializers.lecun_normal(), self.kernel_init
        (deep, deep_bias), (point, point_bias) = (
            _Weights(shape, self.use_bias, self.param_dtype, init, name=name)()
            for shape, init, name in zip(shapes, inits, ("depthwise", "pointwise"), strict=True)
        )
        x, deep, deep_bias, point, point_bias = nn.dtypes.promote_dtype(
            x, deep, deep_bias, point, point_bias, dtype=self.dtype
        )
        arrays = x, deep, deep_bias, point
        if self.features <= DENSE_FEATURES and k > 1 and x.dtype == jnp.float32:
            y = by_platform(self._as_one, self._as_two, *arrays)
        else:
            y = self._as_two(*arrays)
        return y if point_bias is None else y + point_bias.reshape(1, 1, 1, -1)

    def _as_two(
        self, x: jax.Array, deep: jax.Array, deep_bias: jax.Array | None, point: jax.Array
    ) -> jax.Array:
        y = depthwise_conv2d(x, deep, self.strides)
        return conv2d(y if deep_bias is None else y + deep_bias.reshape(1, 1, 1, -1), point)

    def _as_one(
        self, x: jax.Array, deep: jax.Array, deep_bias: jax.Array | None, point: jax.Array
    ) -> jax.Array:
        k, _, _, c = deep.shape
        y = conv2d(x, deep.reshape(k, k, c, 1) * point, self.strides, k // 2)
        return y if deep_bias is None else y + conv2d(deep_bias.reshape(1, 1, 1, c), point)
