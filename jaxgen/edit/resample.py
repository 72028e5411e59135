"""Resampling of boxes whose place and size are traced: Lanczos low-pass, then bicubic.

As the VQGAN-CLIP notebooks do it (Crowson 2021): an axis that shrinks first passes a Lanczos filter
(a = 2) with mirrored borders, then both are read by PyTorch's bicubic interpolation with aligned
corners. Both steps are linear and separable, so a box is a matrix per axis, and the box may be
traced: only the picture's and the target's sides are shapes.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

LOBES = 2  # a of the Lanczos kernel
_BEND = -0.75  # a of PyTorch's cubic


def resample(x: jax.Array, height: int, width: int) -> jax.Array:
    """Whole pictures (b, h, w, c) -> (b, height, width, c); values may leave the range a little."""
    rows, columns = axis_matrix(x.shape[1], height), axis_matrix(x.shape[2], width)
    return jnp.einsum("yh,bhwc,xw->byxc", rows, x, columns)


def resample_boxes(
    x: jax.Array, tops: jax.Array, lefts: jax.Array, sides: jax.Array, target: int
) -> jax.Array:
    """Square boxes of one picture, each as if it had been cut out and resampled alone.

    Args:
      x: (h, w, c) float.
      tops, lefts, sides: (n,) int32, boxes inside of the picture; may be traced.
      target: side of the results, at least 2.

    Returns: (n, target, target, c).
    """

    def one(top: jax.Array, left: jax.Array, side: jax.Array) -> jax.Array:
        rows = axis_matrix(x.shape[0], target, top, side)
        columns = axis_matrix(x.shape[1], target, left, side)
        return jnp.einsum("yh,hwc,xw->yxc", rows, x, columns)

    return jax.vmap(one)(tops, lefts, sides)


def axis_matrix(
    length: int, target: int, start: jax.Array | int = 0, size: jax.Array | int | None = None
) -> jax.Array:
    """(target, length) float32: what resampling [start, start + size) of an axis multiplies by.

    Args:
      length: of the axis.
      target: of the result, at least 2.
      start, size: of the box, may be traced; the whole axis where no size is given.
    """
    if target < 2:
        raise ValueError(f"aligned corners need a target of at least 2, not {target}")
    start = jnp.asarray(start, jnp.int32)
    size = jnp.asarray(length if size is None else size, jnp.int32)
    read = _bicubic(length, target, size)
    # `where` rather than `cond`: a vmapped `cond` computes both anyway.
    filtered = read @ _lowpass(length, target, size)
    local = jnp.where(target < size, filtered, read)
    # Columns of the box at the box's place. Beyond its size they are 0, so nothing wraps around.
    return jnp.roll(local, start, axis=1)


def _bicubic(length: int, target: int, size: jax.Array) -> jax.Array:
    """(target, length): reads `target` values of the first `size`, corners on corners."""
    scale = (size - 1).astype(jnp.float32) / (target - 1)
    at = jnp.arange(target, dtype=jnp.float32) * scale
    first = jnp.floor(at)
    part = at - first
    columns = jnp.arange(length)[None]
    total = jnp.zeros((target, length), jnp.float32)
    for tap in (-1, 0, 1, 2):
        index = jnp.clip(first.astype(jnp.int32) + tap, 0, size - 1)
        weight = _cubic(jnp.abs(part - tap))
        total += jnp.where(index[:, None] == columns, weight[:, None], 0.0)
    return total


def _cubic(d: jax.Array) -> jax.Array:
    """Keys' kernel at distances in [0, 2]."""
    near = ((_BEND + 2) * d - (_BEND + 3)) * d * d + 1
    far = ((_BEND * d - 5 * _BEND) * d + 8 * _BEND) * d - 4 * _BEND
    return jnp.where(d <= 1, near, far)


def _lowpass(length: int, target: int, size: jax.Array) -> jax.Array:
    """(length, length): the filter for shrinking the first `size` values to `target`, mirrored.

    Mirrored once on each side, which is enough: the kernel's half is shorter than the box where the
    target is at least 2.
    """
    reach = math.ceil(LOBES * length / target) + 1
    ratio = target / size.astype(jnp.float32)
    kernel = _lanczos(jnp.arange(reach + 1) * ratio)
    kernel /= kernel[0] + 2 * kernel[1:].sum()
    rows, columns = jnp.arange(length)[:, None], jnp.arange(length)[None]

    def taps(distance: jax.Array) -> jax.Array:
        distance = jnp.abs(distance)
        return jnp.where(distance <= reach, kernel[jnp.minimum(distance, reach)], 0.0)

    far = size - 1
    inner = taps(columns - rows)
    # The border's own value is not repeated.
    left = jnp.where(columns > 0, taps(-columns - rows), 0.0)
    right = jnp.where(columns < far, taps(2 * far - columns - rows), 0.0)
    return jnp.where((rows < size) & (columns < size), inner + left + right, 0.0)


def _lanczos(x: jax.Array) -> jax.Array:
    return jnp.where(jnp.abs(x) < LOBES, jnp.sinc(x) * jnp.sinc(x / LOBES), 0.0)
