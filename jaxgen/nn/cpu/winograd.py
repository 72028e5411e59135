"""3x3 convolution in float32 by Winograd's F(4x4, 3x3), for CPUs.

Each 4x4 block of the output takes 36 multiplications per channel pair instead of 144 (Lavin and
Gray 2016, "Fast algorithms for convolutional neural networks", section 4): the 6x6 block of input
and the kernel are transformed, multiplied as 36 matmuls, and the result is transformed back.

The usual interpolation points 0, +-1, +-2 lose a digit in float32. The points used here,
0, +-2/3, +-3/2, are reciprocal and lose almost nothing: against float64, 64 channels of normal
noise, the largest error over the largest output is 1.3e-6 (0, +-1, +-2: 4.6e-6; plain summation:
0.8e-6), and the rms error 7.5e-7 (1.6e-6; 4.3e-7).

Large pictures are processed in bands of block rows, which bounds the memory and keeps the
transformed blocks near the cache: twice as fast as at once (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

TILE = 4
A, B = 2 / 3, 3 / 2  # interpolation points: 0, +-A, +-B and infinity
A2, B2 = A * A, B * B
# Largest transformed input plane of a band, in numbers: 36 of them are 23 MB. Smaller bands leave
# a core idle between their short loops, larger ones leave the cache.
BAND_SIZE = 160_000
# The 36 matmuls go as so many batched ones: XLA gives each to one core where they are small, and
# runs independent ones at the same time. No copies: the transforms make and take them apart.
GROUPS = 3

# Lagrange's denominators at the points 0, +-A and +-B.
F0, FA, FB = 1 / (A2 * B2), 1 / (2 * A2 * (A2 - B2)), 1 / (2 * B2 * (B2 - A2))


def conv3x3(xs: Sequence[jax.Array], kernel: jax.Array) -> jax.Array:
    """Stride 1, zero padding 1, float32: xs each (b, h, w, c_i), kernel (3, 3, c, n) for them
    concatenated -> (b, h, w, n).

    The inputs are transformed one by one, without concatenation: where another convolution has
    some of the same inputs (dense blocks), XLA finds their transforms equal and makes them once.
    """
    (b, h, w, _), n = xs[0].shape, kernel.shape[3]
    channels = [x.shape[3] for x in xs]
    tiles_h, tiles_w, bands, rows = _bands(xs[0].shape, max(channels), BAND_SIZE)
    blocks = [_blocks_of_input(x, tiles_h, tiles_w) for x in xs]
    ends = np.cumsum(channels)[:-1]
    kernels = [_transformed_kernel(part) for part in jnp.split(kernel, ends, axis=2)]
    if bands == 1:
        y = _band(blocks, kernels)
    else:

        def body(k: jax.Array, y: jax.Array) -> jax.Array:
            band = [lax.dynamic_slice_in_dim(x, k * rows, rows + 1, axis=1) for x in blocks]
            return lax.dynamic_update_slice_in_dim(y, _band(band, kernels), k * rows, axis=1)

        y = jnp.zeros((b, tiles_h, TILE, tiles_w, TILE, n), jnp.float32)
        y = lax.fori_loop(0, bands, body, y)
    return y.reshape(b, tiles_h * TILE, tiles_w * TILE, n)[:, :h, :w]


def kernel_gradient(x: jax.Array, g: jax.Array) -> jax.Array:
    """d <g, conv3x3(x, k)> / dk: x (b, h, w, c), g (b, h, w, n) -> (3, 3, c, n), float32.

    The transpose of `conv3x3` in its kernel: the gradients are transformed by the transpose of
    the output's transform, multiplied with the transformed input, summed over all blocks, and the
    sums transformed to 3x3. Largest error against float64 2e-6 of the largest value.
    """
    (b, h, w, c), n = x.shape, g.shape[3]
    tiles_h, tiles_w, bands, rows = _bands(x.shape, c + n, 2 * BAND_SIZE)
    x = _blocks_of_input(x, tiles_h, tiles_w)
    g = jnp.pad(g, ((0, 0), (0, tiles_h * TILE - h), (0, tiles_w * TILE - w), (0, 0)))
    g = g.reshape(b, tiles_h, TILE, tiles_w, TILE, n)

    def band(total: jax.Array, k: jax.Array) -> tuple[jax.Array, None]:
        x_band = lax.dynamic_slice_in_dim(x, k * rows, rows + 1, axis=1)
        g_band = lax.dynamic_slice_in_dim(g, k * rows, rows, axis=1)
        return total + _band_gradient(x_band, g_band), None

    if bands == 1:
        total = _band_gradient(x, g)
    else:
        total = lax.scan(band, jnp.zeros((36, c, n), jnp.float32), jnp.arange(bands))[0]
    total = jnp.stack(_kernel_transpose(*total.reshape(6, 6, c, n)))  # (3 columns, 6 of rows, c, n)
    return jnp.stack(_kernel_transpose(*(total[:, u] for u in range(6))))


def _bands(shape: tuple[int, ...], channels: int, size: int) -> tuple[int, int, int, int]:
    """Block rows (a multiple of the bands) and columns of a picture, bands, block rows of one."""
    b, h, w, _ = shape
    tiles_h, tiles_w = -(-h // TILE), -(-w // TILE)
    bands = min(tiles_h, -(-b * tiles_h * tiles_w * channels // size))
    rows = -(-tiles_h // bands)
    return bands * rows, tiles_w, bands, rows


def _blocks_of_input(x: jax.Array, tiles_h: int, tiles_w: int) -> jax.Array:
    """(b, h, w, c) -> (b, tiles_h + 1, 4, tiles_w + 1, 4, c), zeros around."""
    b, h, w, c = x.shape
    # One block more than the output has, for the two rows and columns a block reads of the next.
    pad_h, pad_w = (tiles_h + 1) * TILE - h - 1, (tiles_w + 1) * TILE - w - 1
    x = jnp.pad(x, ((0, 0), (1, pad_h), (1, pad_w), (0, 0)))
    return x.reshape(b, tiles_h + 1, TILE, tiles_w + 1, TILE, c)


def _transformed_input(x: jax.Array) -> list[jax.Array]:
    """x (b, r+1, 4, t+1, 4, c) -> for each of the 6 column points (6 of rows, b, r, t, c)."""
    r, t = x.shape[1] - 1, x.shape[3] - 1
    # Stacked after the first axis' transform: XLA would compute it six times over otherwise.
    x = jnp.stack(_input_transform(*(x[:, i // TILE : r + i // TILE, i % TILE] for i in range(6))))
    return _input_transform(*(x[:, :, :, j // TILE : t + j // TILE, j % TILE] for j in range(6)))


def _transformed_kernel(kernel: jax.Array) -> list[jax.Array]:
    """kernel (3, 3, c, n) -> GROUPS of (36 / GROUPS, c, n), points of columns first.

    By additions: as products with the 6x3 matrix of the transform it takes XLA as long as a whole
    convolution of 16 x 8 x 8 pixels.
    """
    rows = jnp.stack(_kernel_transform(*kernel))  # (6 of rows, 3 columns, c, n)
    columns = _kernel_transform(*(rows[:, j] for j in range(3)))  # for each (6 of rows, c, n)
    size = 6 // GROUPS
    groups = [jnp.stack(columns[i * size : (i + 1) * size]) for i in range(GROUPS)]
    return [group.reshape(-1, *kernel.shape[2:]) for group in groups]


def _band(xs: Sequence[jax.Array], kernels: Sequence[list[jax.Array]]) -> jax.Array:
    """xs (b, r+1, 4, t+1, 4, c_i), kernels GROUPS of (36/GROUPS, c_i, n) -> (b, r, 4, t, 4, n)."""
    b, r, _, t, _, _ = xs[0].shape
    r, t, n = r - 1, t - 1, kernels[0][0].shape[2]
    transformed = [_transformed_input(x) for x in xs]
    size = 6 // GROUPS  # column points of a group
    products: list[jax.Array] = []  # for each column point (6 of rows, b, r, t, n)
    for i in range(GROUPS):
        y = jnp.zeros((), jnp.float32)
        for columns, kernel in zip(transformed, kernels, strict=True):
            group = jnp.stack(columns[i * size : (i + 1) * size]).reshape(6 * size, b * r * t, -1)
            product = jnp.einsum("ptc,pcn->ptn", group, kernel[i])
            y = y + product if y.ndim else product
        products += list(y.reshape(size, 6, b, r, t, n))
    y = jnp.stack(_output_transform(*products))  # (4, 6, b, r, t, n)
    columns = [jnp.stack(_output_transform(*y[j]), axis=2) for j in range(TILE)]
    return jnp.stack(columns, axis=4)


def _band_gradient(x: jax.Array, g: jax.Array) -> jax.Array:
    """x (b, r+1, 4, t+1, 4, c), g (b, r, 4, t, 4, n) -> sums over the blocks (36, c, n)."""
    b, r, _, t, _, n = g.shape
    inputs = jnp.stack(_transformed_input(x)).reshape(36, b * r * t, -1)
    g = jnp.stack(_output_transpose(*(g[:, :, i] for i in range(TILE))))  # (6, b, r, t, 4, n)
    g = jnp.stack(_output_transpose(*(g[:, :, :, :, j] for j in range(TILE))))
    return jnp.einsum("ptc,ptn->pcn", inputs, g.reshape(36, b * r * t, n))


def _input_transform(d0, d1, d2, d3, d4, d5) -> list[jax.Array]:
    """Six inputs in a row to the six factors, one for each interpolation point."""
    even_a, odd_a = d4 - B2 * d2, A * (d3 - B2 * d1)
    even_b, odd_b = d4 - A2 * d2, B * (d3 - A2 * d1)
    return [
        A2 * B2 * d0 - (A2 + B2) * d2 + d4,
        even_a + odd_a,
        even_a - odd_a,
        even_b + odd_b,
        even_b - odd_b,
        A2 * B2 * d1 - (A2 + B2) * d3 + d5,
    ]


def _kernel_transform(k0, k1, k2) -> list[jax.Array]:
    """Three taps in a row to the six factors."""
    even_a, odd_a = FA * (k0 + A2 * k2), (FA * A) * k1
    even_b, odd_b = FB * (k0 + B2 * k2), (FB * B) * k1
    return [F0 * k0, even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, k2]


def _kernel_transpose(m0, m1, m2, m3, m4, m5) -> list[jax.Array]:
    """Gradients of the six factors to those of the three taps."""
    even_a, odd_a = FA * (m1 + m2), (FA * A) * (m1 - m2)
    even_b, odd_b = FB * (m3 + m4), (FB * B) * (m3 - m4)
    return [F0 * m0 + even_a + even_b, odd_a + odd_b, A2 * even_a + B2 * even_b + m5]


def _output_transform(m0, m1, m2, m3, m4, m5) -> list[jax.Array]:
    """Six products to four outputs in a row."""
    even_a, odd_a, even_b, odd_b = m1 + m2, A * (m1 - m2), m3 + m4, B * (m3 - m4)
    return [
        m0 + even_a + even_b,
        odd_a + odd_b,
        A2 * even_a + B2 * even_b,
        A2 * odd_a + B2 * odd_b + m5,
    ]


def _output_transpose(y0, y1, y2, y3) -> list[jax.Array]:
    """Four gradients in a row to those of the six products."""
    even_a, odd_a = y0 + A2 * y2, A * (y1 + A2 * y3)
    even_b, odd_b = y0 + B2 * y2, B * (y1 + B2 * y3)
    return [y0, even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, y3]
