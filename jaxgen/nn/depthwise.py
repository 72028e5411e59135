"""Depthwise and separable convolutions with PyTorch's padding, and faster ways on CPUs.

XLA's grouped convolution is 10 to 20 times slower on a CPU than the memory allows. For float32 it
is replaced there:

- forward and the gradient with respect to the input: a sum of k*k shifted products, which XLA
  makes one loop over the channels. One partial sum for each kernel row: a single chain of 81
  additions waits for each one before the next;
- the gradient with respect to the kernel: for each of the k*k shifts, the products' sum over a
  band of rows as one loop, and what is left (columns, batch) as a product with ones;
- a separable layer with few output channels, such as a last layer 64 -> 3: its two kernels are
  multiplied and make a dense convolution (`jaxgen.nn.conv`), whose kernel gradient is a matmul.

CPU time in ms, XLA's grouped convolution / here / PyTorch 2.13 channels-last, least of some 10 on
a busy machine with 2 cores of an AMD EPYC (Zen 4, AVX-512), jaxlib 0.10.2:

    shape                         forward              kernel gradient
    16 x 24 x 24 x 64, 3x3        16 / 0.7 / 0.3       8 / 1.2 / 0.3
    1 x 128 x 128 x 64, 3x3       27 / 1.1 / 0.8      16 / 4.9 / 0.9
    16 x 96 x 96 x 64, 9x9       854 / 59 / 46      1391 / (dense, 64 -> 3: 112) / 300
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxgen.nn.conv import conv2d

# A separable layer with at most so many output channels is computed as a dense convolution.
DENSE_FEATURES = 4
# Rows of a band of the kernel gradient: the number of terms in its loop.
BAND_ROWS = 32


def depthwise_conv2d(x: jax.Array, kernel: jax.Array, strides: int = 1) -> jax.Array:
    """Cross-correlates each channel of `x` (b, h, w, c) with its own kernel (k, k, 1, c).

    Pads k//2 on every side for every stride, as PyTorch's `padding=k//2`; (b, h', w', c).

    Differentiable any number of times in reverse mode. On CPUs, float32 convolutions of odd k have
    no forward mode (`jax.jvp`).
    """
    if kernel.shape[0] % 2 and _by_shifts(x, kernel):
        # Three of four products are dropped at stride 2, which is still the faster way.
        y = _depthwise(x, kernel)
        return y if strides == 1 else y[:, ::strides, ::strides]
    pad = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        (strides, strides),
        [(pad, pad)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[3],
    )


def _by_shifts(x: jax.Array, kernel: jax.Array) -> bool:
    return jax.default_backend() == "cpu" and x.dtype == kernel.dtype == jnp.float32


def _padded(x: jax.Array, pad: int, more: int = 0) -> jax.Array:
    """Zeros around the picture, and `more` rows of them below."""
    return jnp.pad(x, ((0, 0), (pad, pad + more), (pad, pad), (0, 0)))


@jax.custom_vjp
def _depthwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Stride 1, same size, odd k: (b, h, w, c), (k, k, 1, c) -> (b, h, w, c)."""
    k, h, w = kernel.shape[0], x.shape[1], x.shape[2]
    padded = _padded(x, k // 2)
    taps = kernel.reshape(k, k, 1, 1, 1, -1)

    def row(i: int) -> jax.Array:
        return sum(
            (padded[:, i : i + h, j : j + w] * taps[i, j] for j in range(1, k)),
            padded[:, i : i + h, :w] * taps[i, 0],
        )

    return sum((row(i) for i in range(1, k)), row(0))


def _depthwise_fwd(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple]:
    return _depthwise(x, kernel), (x, kernel)


def _depthwise_bwd(saved: tuple, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    return _depthwise(g, kernel[::-1, ::-1]), _kernel_gradient(x, g, kernel.shape[0])


_depthwise.defvjp(_depthwise_fwd, _depthwise_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _kernel_gradient(x: jax.Array, g: jax.Array, k: int) -> jax.Array:
    """d <g, _depthwise(x, kernel)> / d kernel: x, g (b, h, w, c) -> (k, k, 1, c). Bilinear."""
    b, h, w, c = x.shape
    bands = -(-h // BAND_ROWS)
    rows = -(-h // bands)
    more = bands * rows - h  # rows of zeros that fill the last band
    padded, g = _padded(x, k // 2, more), jnp.pad(g, ((0, 0), (0, more), (0, 0), (0, 0)))
    ones = jnp.ones((1, b * w), jnp.float32)

    def shift(start: jax.Array, at: jax.Array) -> jax.Array:
        """The band's sum for one element of the kernel: (c,)."""
        i, j = at // k, at % k

        def product(row: int) -> jax.Array:  # (b, w, c)
            left = lax.dynamic_slice(padded, (0, start + i + row, j, 0), (b, 1, w, c))
            right = lax.dynamic_slice_in_dim(g, start + row, 1, axis=1)
            return (left * right)[:, 0]

        columns = sum((product(row) for row in range(1, rows)), product(0))
        # Kept apart: as part of the reduction, the products are no longer made in vectors.
        columns = lax.optimization_barrier(columns)
        return (ones @ columns.reshape(b * w, c))[0]

    def band(total: jax.Array, start: jax.Array) -> tuple[jax.Array, None]:
        return total + lax.map(partial(shift, start), jnp.arange(k * k)), None

    zero = jnp.zeros((k * k, c), jnp.float32)
    return lax.scan(band, zero, jnp.arange(bands) * rows)[0].reshape(k, k, 1, c)


def _kernel_gradient_fwd(x: jax.Array, g: jax.Array, k: int) -> tuple[jax.Array, tuple]:
    return _kernel_gradient(x, g, k), (x, g)


def _kernel_gradient_bwd(k: int, saved: tuple, ct: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, g = saved
    return _depthwise(g, ct[::-1, ::-1]), _depthwise(x, ct)


_kernel_gradient.defvjp(_kernel_gradient_fwd, _kernel_gradient_bwd)


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
        if self.features <= DENSE_FEATURES and k > 1 and _by_shifts(x, deep):
            y = conv2d(x, deep.reshape(k, k, c, 1) * point, self.strides, k // 2)
            if deep_bias is not None:
                y = y + conv2d(deep_bias.reshape(1, 1, 1, c), point)
        else:
            y = depthwise_conv2d(x, deep, self.strides)
            y = conv2d(y if deep_bias is None else y + deep_bias.reshape(1, 1, 1, c), point)
        return y if point_bias is None else y + point_bias.reshape(1, 1, 1, -1)
