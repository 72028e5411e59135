"""Depthwise convolutions in float32 faster than XLA's on CPUs.

XLA's grouped convolution is 10 to 20 times slower on a CPU than the memory allows. Instead:

- forward and the gradient with respect to the input: a sum of k*k shifted products, which XLA
  makes one loop over the channels. One partial sum for each kernel row: a single chain of 81
  additions waits for each one before the next;
- the gradient with respect to the kernel: for each of the k*k shifts, the products' sum over a
  band of rows as one loop, and what is left (columns, batch) as a product with ones.

With strides, the result of stride 1 is computed and thinned out, which is still the faster way.
The functions are those of `jaxgen.nn.plain_conv`; measured in docs/performance.md.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxgen.nn.plain_conv import Form

# Rows of a band of the kernel gradient: the number of terms in its loop.
BAND_ROWS = 32


def takes(size: tuple[int, ...], form: Form) -> bool:
    """Whether these ways know a kernel (k, k, ...) of all groups: odd and padded by k//2."""
    return size[0] == size[1] and size[0] % 2 == 1 and form.pads == (size[0] // 2,) * 2


def conv(xs: list[jax.Array], kernel: jax.Array, form: Form) -> jax.Array:
    """`plain_conv.conv`: one (b, h, w, c), kernel (k, k, 1, c) -> (b, h', w', c)."""
    (x,), (down, across) = xs, form.strides
    return _by_shifts(x, kernel)[:, ::down, ::across]


def input_gradient(g: jax.Array, kernel: jax.Array, form: Form, size: tuple[int, int]) -> jax.Array:
    """`plain_conv.input_gradient`: (b, h', w', c), (k, k, 1, c) -> (b, *size, c)."""
    return _by_shifts(_spread(g, form, size), kernel[::-1, ::-1])


def kernel_gradient(
    xs: list[jax.Array], g: jax.Array, form: Form, size: tuple[int, int]
) -> jax.Array:
    """`plain_conv.kernel_gradient`: one (b, h, w, c), (b, h', w', c) -> (k, k, 1, c)."""
    (x,), k = xs, size[0]
    b, h, w, c = x.shape
    g = _spread(g, form, (h, w))
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


def _by_shifts(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Stride 1, same size: (b, h, w, c), (k, k, 1, c) -> (b, h, w, c)."""
    k, h, w = kernel.shape[0], x.shape[1], x.shape[2]
    padded = _padded(x, k // 2)
    taps = kernel.reshape(k, k, 1, 1, 1, -1)

    def row(i: int) -> jax.Array:
        return sum(
            (padded[:, i : i + h, j : j + w] * taps[i, j] for j in range(1, k)),
            padded[:, i : i + h, :w] * taps[i, 0],
        )

    return sum((row(i) for i in range(1, k)), row(0))


def _padded(x: jax.Array, pad: int, more: int = 0) -> jax.Array:
    """Zeros around the picture, and `more` rows of them below."""
    return jnp.pad(x, ((0, 0), (pad, pad + more), (pad, pad), (0, 0)))


def _spread(g: jax.Array, form: Form, size: tuple[int, int]) -> jax.Array:
    """The gradient at every pixel of a picture of `size`: zeros where the stride drops it."""
    if form.strides == (1, 1):
        return g
    zero = jnp.zeros((), g.dtype)
    around = [
        (0, full - (thin - 1) * stride - 1, stride - 1)
        for full, thin, stride in zip(size, g.shape[1:3], form.strides, strict=True)
    ]
    return lax.pad(g, zero, [(0, 0, 0), *around, (0, 0, 0)])
