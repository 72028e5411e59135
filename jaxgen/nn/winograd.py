"""3x3 convolution in float32 by Winograd's F(4x4, 3x3), for CPUs.

Each 4x4 block of the output takes 36 multiplications per channel pair instead of 144 (Lavin and
Gray 2016, "Fast algorithms for convolutional neural networks", section 4): the 6x6 block of input
and the kernel are transformed, multiplied as 36 matmuls, and the result is transformed back.

The usual interpolation points 0, +-1, +-2 lose a digit in float32. The points used here,
0, +-2/3, +-3/2, are reciprocal and lose almost nothing: against float64, 64 channels of normal
noise, the largest error over the largest output is 1.3e-6 (0, +-1, +-2: 4.6e-6; plain summation:
0.8e-6), and the rms error 7.5e-7 (1.6e-6; 4.3e-7).

Large pictures are processed in bands of block rows, which bounds the memory and keeps the
transformed blocks near the cache: for 64 -> 256 channels at 16 x 48 x 48, 75 ms of CPU time in
bands, 146 ms at once, 111 ms by XLA's convolution (the machine of `jaxgen.nn.conv`).
"""

from __future__ import annotations

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

_KERNEL_TRANSFORM = np.array(
    [[1 / (A2 * B2), 0, 0]]
    + [[f, f * p, f * p * p] for p in (A, -A) for f in (1 / (2 * A2 * (A2 - B2)),)]
    + [[f, f * p, f * p * p] for p in (B, -B) for f in (1 / (2 * B2 * (B2 - A2)),)]
    + [[0, 0, 1]],
    np.float32,
)


def conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Stride 1, zero padding 1: x (b, h, w, c), kernel (3, 3, c, n) -> (b, h, w, n), float32."""
    (b, h, w, c), n = x.shape, kernel.shape[3]
    tiles_h, tiles_w = -(-h // TILE), -(-w // TILE)
    bands = min(tiles_h, -(-b * tiles_h * tiles_w * c // BAND_SIZE))
    rows = -(-tiles_h // bands)  # block rows of a band
    tiles_h = bands * rows
    # One block more than the output has, for the two rows and columns a block reads of the next.
    pad_h, pad_w = (tiles_h + 1) * TILE - h - 1, (tiles_w + 1) * TILE - w - 1
    x = jnp.pad(x, ((0, 0), (1, pad_h), (1, pad_w), (0, 0)))
    x = x.reshape(b, tiles_h + 1, TILE, tiles_w + 1, TILE, c)
    g = jnp.asarray(_KERNEL_TRANSFORM)
    kernel = jnp.einsum("ui,vj,ijcn->vucn", g, g, kernel).reshape(36, c, n)
    if bands == 1:
        y = _band(x, kernel)
    else:

        def body(k: jax.Array, y: jax.Array) -> jax.Array:
            band = lax.dynamic_slice_in_dim(x, k * rows, rows + 1, axis=1)
            return lax.dynamic_update_slice_in_dim(y, _band(band, kernel), k * rows, axis=1)

        y = jnp.zeros((b, tiles_h, TILE, tiles_w, TILE, n), jnp.float32)
        y = lax.fori_loop(0, bands, body, y)
    return y.reshape(b, tiles_h * TILE, tiles_w * TILE, n)[:, :h, :w]


def _band(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x (b, r+1, 4, t+1, 4, c), kernel (36, c, n) -> (b, r, 4, t, 4, n)."""
    b, r, _, t, _, c = x.shape
    r, t, n = r - 1, t - 1, kernel.shape[2]
    # Stacked after the first axis' transform: XLA would compute it six times over otherwise.
    x = jnp.stack(_input_transform(*(x[:, i // TILE : r + i // TILE, i % TILE] for i in range(6))))
    x = jnp.stack(
        _input_transform(*(x[:, :, :, j // TILE : t + j // TILE, j % TILE] for j in range(6)))
    )  # (6 of columns, 6 of rows, b, r, t, c)
    y = jnp.einsum("ptc,pcn->ptn", x.reshape(36, b * r * t, c), kernel)
    y = y.reshape(6, 6, b, r, t, n)
    y = jnp.stack(_output_transform(*y))  # (4, 6, b, r, t, n)
    columns = [jnp.stack(_output_transform(*y[j]), axis=2) for j in range(TILE)]
    return jnp.stack(columns, axis=4)


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


def _output_transform(m0, m1, m2, m3, m4, m5) -> list[jax.Array]:
    """Six products to four outputs in a row."""
    even_a, odd_a, even_b, odd_b = m1 + m2, A * (m1 - m2), m3 + m4, B * (m3 - m4)
    return [
        m0 + even_a + even_b,
        odd_a + odd_b,
        A2 * even_a + B2 * even_b,
        A2 * odd_a + B2 * odd_b + m5,
    ]
