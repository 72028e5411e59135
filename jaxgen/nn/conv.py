"""2-D convolution with PyTorch's padding, and faster ways to compute it on CPUs.

The layer computes what `lax.conv_general_dilated` computes, on GPU and TPU by that very call. On
a CPU, float32 convolutions go other ways where these are faster:

- 3x3, stride 1, same size, 32 channels or more on both sides: Winograd's F(4x4, 3x3),
  `jaxgen.nn.cpu.winograd`, forward and for both gradients;
- several inputs to be concatenated, in such a layer: each is transformed on its own, so that the
  layers of a dense block share the transforms and no concatenation is made;
- 1x1: a matrix product;
- 3x3 to a few channels (pictures, dense blocks' growth): one matrix product for all taps, whose
  results are shifted and added;
- other gradients with respect to the kernel, where the output has fewer channels than the input:
  with the parts of input and gradients exchanged, and the result turned. XLA computes them as a
  convolution whose window is the whole image and whose channels are the batch, which is slow for
  few output channels;
- second derivatives of all convolutions: see `_other_conv`.

CPU time in ms, XLA / here, least of a few readings on one core of a busy AMD EPYC (Zen 4,
AVX-512), jaxlib 0.10.2 ("-": XLA's way is taken):

    shape                            forward       kernel gradient
    32 x  8 x  8, 3x3, 128 -> 128     6.4 / 2.5     7.6 / 3.2
    16 x  8 x  8, 3x3, 256 -> 256    12.2 / 6.4    12.6 / 5.4
    32 x 16 x 16, 3x3,  32 ->  32     1.7 / 1.0     2.4 / 1.4
    16 x 32 x 32, 3x3,  64 ->  64    13.5 / 6.5    14.2 / 10
    16 x 64 x 64, 3x3,  32 ->  32    12.6 / -      17 / -      (Winograd: 19, 24)
    16 x 64 x 64, 3x3,  32 ->   3     3.3 / 1.5    17 / 2.3
    16 x 48 x 48, 3x3,  64 -> 256     108 / 61    540 / 74
    16 x 96 x 96, 9x9,  64 ->   3      80 / -     520 / 123
     1 x 256 x 256, 3x3, 64 -> 256    191 / 117

A dense block of ESRGAN at 16 x 32 x 32, forward / with all gradients: 75 / 228 concatenated,
57 / 203 here, 85 / 263 in PyTorch 2.13.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgen.nn.cpu import winograd

# Winograd pays for its transforms and for its longer compilation from here on: channels, and
# pixels of the batch times channels in times channels out.
MIN_CHANNELS = 32
MIN_PRODUCTS = 6e6
# With fewer channels than this it pays only while the transformed numbers stay near the cache.
MANY_CHANNELS = 64
FEW_PIXELS = 16 * 32 * 32
# Up to so many channels out, and with so many in, taps are computed by one product and then added.
FEW_OUT, ENOUGH_IN = 4, 8


def conv2d(
    x: jax.Array | Sequence[jax.Array],
    kernel: jax.Array,
    strides: int | tuple[int, int] = 1,
    padding: str | int | tuple[int, int] = "SAME",
) -> jax.Array:
    """Cross-correlates `x` (b, h, w, c) with `kernel` (kh, kw, c, n); returns (b, h', w', n).

    x: or several arrays, taken as concatenated along channels. On CPUs that is faster than the
      concatenation for layers that share inputs, as in dense blocks.
    padding: "SAME" pads k//2 on each side for every stride, as PyTorch's `padding=k//2` does
      (XLA's own SAME pads less at the top than at the bottom for stride 2); "VALID" pads nothing;
      a number or a pair (rows, columns) pads that much on each side.

    Differentiable any number of times in reverse mode. On CPUs only 1x1 convolutions have forward
    mode (`jax.jvp`).
    """
    strides = _pair(strides)
    kh, kw = kernel.shape[:2]
    xs = _listed(x)
    if padding == "SAME":
        pads = (kh // 2, kw // 2)
    elif padding == "VALID":
        pads = (0, 0)
    elif isinstance(padding, str):
        raise ValueError(f"padding must be SAME, VALID or numbers, not {padding!r}")
    else:
        pads = _pair(padding)
    if len(xs) > 1 and _same_size_on_cpu(xs[0], kernel, strides, pads) and _large(xs, kernel):
        return _conv_of_several(xs, kernel)
    whole = xs[0] if len(xs) == 1 else jnp.concatenate(xs, axis=-1)
    if _same_size_on_cpu(whole, kernel, strides, pads):
        # A matrix product, so that its gradients are: XLA's 1x1 kernel gradient is a convolution.
        return whole @ kernel[0, 0] if kernel.shape[:2] == (1, 1) else _conv(whole, kernel)
    if jax.default_backend() == "cpu":
        return _other_conv(whole, kernel, strides, pads)
    return _lax_conv(whole, kernel, strides, pads)


def _listed(x: jax.Array | Sequence[jax.Array]) -> list[jax.Array]:
    """One array or several (a list or tuple) as a list."""
    return cast(list[jax.Array], list(x) if isinstance(x, list | tuple) else [x])


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _same_size_on_cpu(x: jax.Array, kernel: jax.Array, strides: tuple, pads: tuple) -> bool:
    kh, kw = kernel.shape[:2]
    return (
        jax.default_backend() == "cpu"
        and x.dtype == kernel.dtype == jnp.float32
        and strides == (1, 1)
        and kh % 2 == kw % 2 == 1
        and pads == (kh // 2, kw // 2)
    )


def _lax_conv(x: jax.Array, kernel: jax.Array, strides: tuple, pads: tuple) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        [(p, p) for p in pads],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@jax.custom_vjp
def _conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Stride 1, odd kernel, same size: (b, h, w, c), (kh, kw, c, n) -> (b, h, w, n)."""
    kh, kw, _, n = kernel.shape
    if _by_winograd(x, n, (kh, kw)):
        return winograd.conv3x3([x], kernel)
    if (kh, kw) == (3, 3) and n <= FEW_OUT and x.shape[3] >= ENOUGH_IN:
        return _conv_by_taps(x, kernel)
    return _lax_conv(x, kernel, (1, 1), (kh // 2, kw // 2))


def _conv_by_taps(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`_conv` as sum over the kernel's taps of shifted products: (b, h, w, c) -> (b, h, w, n)."""
    (b, h, w, c), (kh, kw, _, n) = x.shape, kernel.shape
    products = x.reshape(-1, c) @ kernel.transpose(2, 0, 1, 3).reshape(c, kh * kw * n)
    pads = ((0, 0), (kh // 2,) * 2, (kw // 2,) * 2, (0, 0), (0, 0))
    taps = jnp.pad(products.reshape(b, h, w, kh * kw, n), pads)
    places = itertools.product(range(kh), range(kw))
    shifted = [taps[:, i : i + h, j : j + w, kw * i + j] for i, j in places]
    return sum(shifted[1:], start=shifted[0])


def _by_winograd(x: jax.Array | jax.ShapeDtypeStruct, n: int, size: tuple[int, int]) -> bool:
    b, h, w, c = x.shape
    least, pixels = min(c, n), b * h * w
    near = least >= MANY_CHANNELS or pixels <= FEW_PIXELS
    return size == (3, 3) and least >= MIN_CHANNELS and near and pixels * c * n >= MIN_PRODUCTS


def _conv_fwd(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple]:
    return _conv(x, kernel), (x, kernel)


def _conv_bwd(saved: tuple, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    return _conv(g, _turned(kernel)), _kernel_gradient(x, g, kernel.shape[:2])


_conv.defvjp(_conv_fwd, _conv_bwd)


@jax.custom_vjp
def _conv_of_several(xs: list[jax.Array], kernel: jax.Array) -> jax.Array:
    """`_conv` of the concatenation, by Winograd: xs (b, h, w, c_i), kernel (3, 3, c, n)."""
    return winograd.conv3x3(xs, kernel)


def _large(xs: list[jax.Array], kernel: jax.Array) -> bool:
    """Whether Winograd pays for several inputs; each must have channels enough."""
    together = jax.ShapeDtypeStruct((*xs[0].shape[:3], kernel.shape[2]), xs[0].dtype)
    least = min(x.shape[3] for x in xs)
    return least >= MIN_CHANNELS and _by_winograd(
        together, kernel.shape[3], (kernel.shape[0], kernel.shape[1])
    )


def _conv_of_several_fwd(xs: list[jax.Array], kernel: jax.Array) -> tuple[jax.Array, tuple]:
    return _conv_of_several(xs, kernel), (xs, kernel)


def _conv_of_several_bwd(saved: tuple, g: jax.Array) -> tuple[list[jax.Array], jax.Array]:
    xs, kernel = saved
    ends = np.cumsum([x.shape[3] for x in xs])
    dxs = jnp.split(_conv(g, _turned(kernel)), ends[:-1], axis=3)
    return dxs, jnp.concatenate([winograd.kernel_gradient(x, g) for x in xs], axis=2)


_conv_of_several.defvjp(_conv_of_several_fwd, _conv_of_several_bwd)


def _turned(kernel: jax.Array) -> jax.Array:
    """The kernel of the transposed convolution: turned by 180 degrees, channels exchanged."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _kernel_gradient(x: jax.Array, g: jax.Array, size: tuple[int, int]) -> jax.Array:
    """d <g, _conv(x, k)> / dk: x (b, h, w, c), g (b, h, w, n) -> (kh, kw, c, n).

    Bilinear in x and g, which may change places: the kernel of the exchanged ones is turned.
    """
    kh, kw = size
    c, n = x.shape[3], g.shape[3]
    if _by_winograd(x, n, (kh, kw)):
        return winograd.kernel_gradient(x, g)
    pads = (kh // 2, kw // 2)
    if c > n:
        return _turned(_other_kernel_gradient(g, x, (1, 1), pads, size))
    return _other_kernel_gradient(x, g, (1, 1), pads, size)


def _kernel_gradient_fwd(x: jax.Array, g: jax.Array, size: tuple) -> tuple[jax.Array, tuple]:
    return _kernel_gradient(x, g, size), (x, g)


def _kernel_gradient_bwd(size: tuple, saved: tuple, ct: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, g = saved
    return _conv(g, _turned(ct)), _conv(x, ct)


_kernel_gradient.defvjp(_kernel_gradient_fwd, _kernel_gradient_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _other_conv(x: jax.Array, kernel: jax.Array, strides: tuple, pads: tuple) -> jax.Array:
    """`_lax_conv`, with derivatives that XLA's CPU backend computes well, of every order.

    A convolution, its gradient to the input and that to the kernel are bilinear, and the
    derivatives of each are the other two. Written so, gradients of gradients stay the three forms
    that XLA has fast code for; JAX's own rules arrive at a convolution with a dilated input whose
    window is the whole picture. Kernel gradients through an input gradient (DF-GAN's penalty), 4x4
    stride 2, ms of CPU time, JAX's rules / here: 16 x 64 x 64, 32 -> 64, 756 / 14;
    16 x 32 x 32, 64 -> 128, 710 / 15. As matrix products of patches all three are slower.
    """
    return _lax_conv(x, kernel, strides, pads)


def _other_conv_fwd(x: jax.Array, kernel: jax.Array, strides: tuple, pads: tuple) -> tuple:
    return _other_conv(x, kernel, strides, pads), (x, kernel)


def _other_conv_bwd(strides: tuple, pads: tuple, saved: tuple, g: jax.Array) -> tuple:
    x, kernel = saved
    dx = _other_input_gradient(g, kernel, strides, pads, x.shape[1:3])
    return dx, _other_kernel_gradient(x, g, strides, pads, kernel.shape[:2])


_other_conv.defvjp(_other_conv_fwd, _other_conv_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _other_input_gradient(
    g: jax.Array, kernel: jax.Array, strides: tuple, pads: tuple, size: tuple
) -> jax.Array:
    """g (b, h', w', n), kernel (kh, kw, c, n) -> (b, *size, c)."""
    zero = jnp.zeros((g.shape[0], *size, kernel.shape[2]), g.dtype)
    return jax.linear_transpose(lambda x: _lax_conv(x, kernel, strides, pads), zero)(g)[0]


def _other_input_gradient_fwd(
    g: jax.Array, kernel: jax.Array, strides: tuple, pads: tuple, size: tuple
) -> tuple:
    return _other_input_gradient(g, kernel, strides, pads, size), (g, kernel)


def _other_input_gradient_bwd(
    strides: tuple, pads: tuple, size: tuple, saved: tuple, ct: jax.Array
) -> tuple:
    g, kernel = saved
    dg = _other_conv(ct, kernel, strides, pads)
    return dg, _other_kernel_gradient(ct, g, strides, pads, kernel.shape[:2])


_other_input_gradient.defvjp(_other_input_gradient_fwd, _other_input_gradient_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _other_kernel_gradient(
    x: jax.Array, g: jax.Array, strides: tuple, pads: tuple, size: tuple
) -> jax.Array:
    """x (b, h, w, c), g (b, h', w', n) -> (*size, c, n)."""
    zero = jnp.zeros((*size, x.shape[3], g.shape[3]), x.dtype)
    return jax.linear_transpose(lambda k: _lax_conv(x, k, strides, pads), zero)(g)[0]


def _other_kernel_gradient_fwd(
    x: jax.Array, g: jax.Array, strides: tuple, pads: tuple, size: tuple
) -> tuple:
    return _other_kernel_gradient(x, g, strides, pads, size), (x, g)


def _other_kernel_gradient_bwd(
    strides: tuple, pads: tuple, size: tuple, saved: tuple, ct: jax.Array
) -> tuple:
    x, g = saved
    dx = _other_input_gradient(g, ct, strides, pads, x.shape[1:3])
    return dx, _other_conv(x, ct, strides, pads)


_other_kernel_gradient.defvjp(_other_kernel_gradient_fwd, _other_kernel_gradient_bwd)


class Conv(nn.Module):
    """Convolution layer, (b, h, w, c) -> (b, h', w', features). Parameters: kernel (HWIO), bias.

    padding: as in `conv2d`: "SAME" is PyTorch's symmetric k//2. Called with several arrays it takes
    them as concatenated along channels.
    """

    features: int
    kernel_size: int
    strides: int = 1
    padding: str | int = "SAME"
    use_bias: bool = True
    dtype: jnp.dtype | None = None
    param_dtype: jnp.dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: jax.Array | Sequence[jax.Array]) -> jax.Array:
        k = self.kernel_size
        xs = _listed(x)
        shape = (k, k, sum(x.shape[-1] for x in xs), self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = None
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype)
        kernel, bias, *xs = nn.dtypes.promote_dtype(kernel, bias, *xs, dtype=self.dtype)
        y = conv2d(xs, kernel, self.strides, self.padding)
        return y if bias is None else y + bias.reshape(1, 1, 1, -1)
