"""Gradients of dense convolutions of any stride and padding, float32, faster than XLA's on CPUs.

XLA computes the kernel's gradient as a convolution whose window is the picture and whose channels
are the batch, and the input's as one over the gradient with zeros in between. Here both are matrix
products:

- the kernel's: for each of the kernel's rows one product of what its taps see with the gradient;
- the input's: one product for all taps, whose results are placed and added; where they are many
  numbers, and of stride 1, a convolution of stride 1 for each place within a stride.

The functions are those of `jaxgen.nn.plain_conv`; measured in docs/performance.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxgen.nn import plain_conv
from jaxgen.nn.plain_conv import Form

# To gather what the taps see pays where the product is wide: from so many channels on, in or out,
# of strides 1 and of longer ones; and where little is gathered: up to FEW on the one side, from
# BESIDE_FEW on the other.
MANY, MANY_STRIDED = 64, 96
FEW, BESIDE_FEW = 8, 32
# Up to so many numbers (48 MB) all taps' products are made at once.
AT_ONCE = 12_000_000


def kernel_gradient(
    xs: list[jax.Array], g: jax.Array, form: Form, size: tuple[int, int]
) -> jax.Array:
    """`plain_conv.kernel_gradient`."""
    few, many = sorted((sum(x.shape[3] for x in xs), g.shape[3]))
    pays = many >= (MANY if form.strides == (1, 1) else MANY_STRIDED)
    pays = pays or (few <= FEW and many >= BESIDE_FEW)
    return _exchanged(_by_rows if pays else _plainly, xs, g, form, size)


def kernel_gradient_in_loop(
    xs: list[jax.Array], g: jax.Array, form: Form, size: tuple[int, int]
) -> jax.Array:
    """`plain_conv.kernel_gradient` by products alone, whatever the channels."""
    return _exchanged(_by_rows, xs, g, form, size)


def input_gradient(g: jax.Array, kernel: jax.Array, form: Form, size: tuple[int, int]) -> jax.Array:
    """`plain_conv.input_gradient`."""
    (b, h, w, n), (kh, kw, c, _) = g.shape, kernel.shape
    if form.strides != (1, 1) and b * h * w * kh * kw * c <= AT_ONCE:
        taps = (g.reshape(-1, n) @ kernel.reshape(-1, n).T).reshape(b, h, w, kh, kw, c)
        y = spread(lambda i, j: taps[:, :, :, i, j], (h, w), (kh, kw), form.strides)
    else:
        y = _by_phases(g, kernel, form.strides)
    return cut(y, size, form.pads)


def spread(
    tap: Callable[[int, int], jax.Array],
    size: tuple[int, int],
    window: tuple[int, int],
    strides: tuple[int, int],
) -> jax.Array:
    """Puts what goes to each place of strided windows there, and adds what meets.

    Args:
      tap: i, j -> (b, h, w, c), of row i and column j in each of the h x w windows.
      size: h, w.

    Returns: (b, H, W, c), without the padding cut off (`cut`).
    """
    (h, w), (kh, kw), (down, right) = size, window, strides
    long, wide = _lengths(size, window, strides)

    def moved(i: int, j: int) -> jax.Array:
        above, left = i // down, j // right
        sides = ((0, 0), (above, long - h - above), (left, wide - w - left), (0, 0))
        return jnp.pad(tap(i, j), sides)

    parts: list[jax.Array] = []  # the first place of a stride is always seen
    for first in itertools.product(range(down), range(right)):
        places = itertools.product(range(first[0], kh, down), range(first[1], kw, right))
        found = [moved(i, j) for i, j in places] or [jnp.zeros_like(parts[0])]
        parts.append(sum(found[1:], start=found[0]))
    return _interleaved(parts, strides)


def cut(y: jax.Array, size: tuple[int, int], before: tuple[int, int]) -> jax.Array:
    """y (b, H, W, c) from row and column `before` on, `size` of them; what is missing is 0."""
    missing = [(0, max(0, n + k - m)) for n, k, m in zip(size, before, y.shape[1:3], strict=True)]
    y = jnp.pad(y, ((0, 0), *missing, (0, 0)))
    return y[:, before[0] : before[0] + size[0], before[1] : before[1] + size[1]]


def same_size(size: tuple[int, ...], form: Form) -> bool:
    """Whether a kernel (kh, kw, ...) is odd, of stride 1, and keeps the picture's size."""
    kh, kw = size[:2]
    return form.strides == (1, 1) and kh % 2 == kw % 2 == 1 and form.pads == (kh // 2, kw // 2)


def turned(kernel: jax.Array) -> jax.Array:
    """The kernel of the transposed convolution: turned by 180 degrees, channels exchanged."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


def _exchanged(
    way: Callable, xs: list[jax.Array], g: jax.Array, form: Form, size: tuple[int, int]
) -> jax.Array:
    """The kernel's gradient by a way, which gathers the taps of the fewer channels.

    It is bilinear in input and gradient, which may change places.
    """
    x = jnp.concatenate(xs, axis=3) if len(xs) > 1 else xs[0]
    if x.shape[3] > g.shape[3] and same_size(size, form):
        return turned(way(g, x, form, size))
    found: jax.Array = way(x, g, form, size)
    return found


def _plainly(x: jax.Array, g: jax.Array, form: Form, size: tuple[int, int]) -> jax.Array:
    return plain_conv.kernel_gradient([x], g, form, size)


def _by_rows(x: jax.Array, g: jax.Array, form: Form, size: tuple[int, int]) -> jax.Array:
    """d <g, conv(x, kernel)> / dkernel, a product for each row of the kernel."""
    (h, w, n), c, (kh, kw) = g.shape[1:], x.shape[3], size
    (down, right), flat = form.strides, g.reshape(-1, n)
    x = jnp.pad(x, ((0, 0), *((pad, pad) for pad in form.pads), (0, 0)))
    rows = []
    for i in range(kh):
        row = x[:, i : i + down * (h - 1) + 1 : down]
        taps = [row[:, :, j : j + right * (w - 1) + 1 : right] for j in range(kw)]
        rows.append(jnp.concatenate(taps, axis=3).reshape(-1, kw * c).T @ flat)
    return jnp.stack(rows).reshape(kh, kw, c, n)


def _by_phases(g: jax.Array, kernel: jax.Array, strides: tuple[int, int]) -> jax.Array:
    """`spread` of the products with all taps, by a convolution for each place in a stride."""
    (b, h, w, _), (kh, kw, c, _), (down, right) = g.shape, kernel.shape, strides
    long, wide = _lengths((h, w), (kh, kw), strides)
    parts = []
    for i, j in itertools.product(range(down), range(right)):
        some = kernel[i::down, j::right]
        rows, columns = some.shape[:2]
        if not rows * columns:
            parts.append(jnp.zeros((b, long, wide, c), g.dtype))
            continue
        pads = [(rows - 1, long - h), (columns - 1, wide - w)]
        numbers = ("NHWC", "HWIO", "NHWC")
        part = lax.conv_general_dilated(g, turned(some), (1, 1), pads, dimension_numbers=numbers)
        parts.append(part)
    return _interleaved(parts, strides)


def _lengths(
    size: tuple[int, int], window: tuple[int, int], strides: tuple[int, int]
) -> tuple[int, int]:
    """Rows and columns of strides that so many windows touch."""
    (h, w), (kh, kw), (down, right) = size, window, strides
    return h + (kh - 1) // down, w + (kw - 1) // right


def _interleaved(parts: list[jax.Array], strides: tuple[int, int]) -> jax.Array:
    """(b, h, w, c) for each place in a stride -> (b, h * rows, w * columns, c)."""
    (down, right), (b, h, w, c) = strides, parts[0].shape
    # One axis after the other: of a transposition XLA makes a copy of its own.
    rows = [jnp.stack(parts[i * right : (i + 1) * right], axis=3) for i in range(down)]
    y = jnp.stack(rows, axis=2)
    return y.reshape(b, h * down, w * right, c)
