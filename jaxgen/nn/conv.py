"""2-D convolution with PyTorch's padding, and a kernel gradient that is fast on CPUs.

The layer computes what `lax.conv_general_dilated` computes. On a CPU the gradient with respect to
the kernel takes its own path where XLA's is slow: XLA turns it into a convolution whose window is
the whole image and whose channels are the batch, which runs at 10 to 30 % of the matmul rate once
the image is larger than some 32 x 32. Here it is a sum over bands of image rows of
(patches)^T (gradients): one matmul per band, and the patches of a band stay in the cache.
CPU time on 2 cores of an AMD EPYC (Zen 4, AVX-512), jaxlib 0.10.2, float32, batch 16:

    shape                      XLA      here    matmul bound
    3x3, 24x24,  64 -> 64      9 ms    (16)      7 ms
    3x3, 24x24,  64 -> 256    44 ms    (37)     27 ms
    3x3, 48x48,  64 -> 256   384 ms    155 ms  109 ms
    9x9, 96x96,  64 -> 3     470 ms    112 ms   46 ms
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

# Rows of the patch matrix of one band: some 2,000 keep it within a core's share of the cache.
BAND_PIXELS = 2048
# Images of fewer pixels are left to XLA (see the table above).
MIN_PIXELS = 32 * 32


def conv2d(
    x: jax.Array,
    kernel: jax.Array,
    strides: int | tuple[int, int] = 1,
    padding: str | int | tuple[int, int] = "SAME",
) -> jax.Array:
    """Cross-correlates `x` (b, h, w, c) with `kernel` (kh, kw, c, n); returns (b, h', w', n).

    padding: "SAME" pads k//2 on each side for every stride, as PyTorch's `padding=k//2` does
      (XLA's own SAME pads less at the top than at the bottom for stride 2); "VALID" pads nothing;
      a number or a pair (rows, columns) pads that much on each side.

    Differentiable any number of times in reverse mode. Forward mode (`jax.jvp`) is not available
    on CPUs for the shapes that take the path of this module.
    """
    strides = _pair(strides)
    kh, kw = kernel.shape[:2]
    if padding == "SAME":
        pads = (kh // 2, kw // 2)
    elif padding == "VALID":
        pads = (0, 0)
    elif isinstance(padding, str):
        raise ValueError(f"padding must be SAME, VALID or numbers, not {padding!r}")
    else:
        pads = _pair(padding)
    if _banded(x, kernel, strides, pads):
        return _conv(x, kernel)
    return _lax_conv(x, kernel, strides, pads)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _banded(x: jax.Array, kernel: jax.Array, strides: tuple, pads: tuple) -> bool:
    """True where the banded kernel gradient wins: large images, same size out as in, float32."""
    kh, kw = kernel.shape[:2]
    return (
        jax.default_backend() == "cpu"
        and strides == (1, 1)
        and kh % 2 == kw % 2 == 1
        and pads == (kh // 2, kw // 2)
        and kh * kw > 1
        and x.dtype == kernel.dtype == jnp.float32
        and x.shape[1] * x.shape[2] >= MIN_PIXELS
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
    return _lax_conv(x, kernel, (1, 1), (kernel.shape[0] // 2, kernel.shape[1] // 2))


def _conv_fwd(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple]:
    return _conv(x, kernel), (x, kernel)


def _conv_bwd(saved: tuple, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    return _conv(g, _turned(kernel)), _kernel_gradient(x, g, kernel.shape[:2])


_conv.defvjp(_conv_fwd, _conv_bwd)


def _turned(kernel: jax.Array) -> jax.Array:
    """The kernel of the transposed convolution: turned by 180 degrees, channels exchanged."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _kernel_gradient(x: jax.Array, g: jax.Array, size: tuple[int, int]) -> jax.Array:
    """d <g, _conv(x, k)> / dk: x (b, h, w, c), g (b, h, w, n) -> (kh, kw, c, n).

    Bilinear in x and g. The side with fewer channels is the one whose patches are made.
    """
    kh, kw = size
    c, n = x.shape[3], g.shape[3]
    if c <= n:
        return _patches_dot(x, g, size).reshape(kh, kw, c, n)
    turned = _patches_dot(g, x, size).reshape(kh, kw, n, c)
    return _turned(turned)


def _kernel_gradient_fwd(x: jax.Array, g: jax.Array, size: tuple) -> tuple[jax.Array, tuple]:
    return _kernel_gradient(x, g, size), (x, g)


def _kernel_gradient_bwd(size: tuple, saved: tuple, ct: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, g = saved
    return _conv(g, _turned(ct)), _conv(x, ct)


_kernel_gradient.defvjp(_kernel_gradient_fwd, _kernel_gradient_bwd)


def _patches_dot(x: jax.Array, g: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Sum over pixels of patch(x)^T g: x (b, h, w, c), g (b, h, w, n) -> (kh*kw*c, n).

    The loop goes over bands of rows, not over images: the batch may be sharded, rows are not.
    """
    kh, kw = size
    (b, h, w, c), n = x.shape, g.shape[3]
    rows = max(r for r in range(1, h + 1) if h % r == 0 and (r == 1 or b * r * w <= BAND_PIXELS))
    padded = jnp.pad(x, ((0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2), (0, 0)))

    def band(total: jax.Array, start: jax.Array) -> tuple[jax.Array, None]:
        tall = lax.dynamic_slice_in_dim(padded, start, rows + kh - 1, axis=1)
        patches = jnp.concatenate(
            [tall[:, i : i + rows, j : j + w] for i in range(kh) for j in range(kw)], axis=-1
        )
        patches = patches.reshape(b * rows * w, kh * kw * c)
        grads = lax.dynamic_slice_in_dim(g, start, rows, axis=1).reshape(b * rows * w, n)
        return total + patches.T @ grads, None

    zero = jnp.zeros((kh * kw * c, n), jnp.float32)
    return lax.scan(band, zero, jnp.arange(0, h, rows))[0]


class Conv(nn.Module):
    """Convolution layer, (b, h, w, c) -> (b, h', w', features). Parameters: kernel (HWIO), bias.

    padding: as in `conv2d`: "SAME" is PyTorch's symmetric k//2.
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
    def __call__(self, x: jax.Array) -> jax.Array:
        k = self.kernel_size
        shape = (k, k, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = None
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = conv2d(x, kernel, self.strides, self.padding)
        return y if bias is None else y + bias.reshape(1, 1, 1, -1)
