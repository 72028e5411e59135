"""Resampling by whole factors on the device: pixel shuffle, nearest, bilinear, bicubic."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np


def pixel_shuffle(x: jax.Array, r: int) -> jax.Array:
    """(b, h, w, c*r*r) -> (b, h*r, w*r, c), with PyTorch's channel order.

    Input channel k*r*r + i*r + j becomes output channel k at row offset i and column offset j
    (Shi et al. 2016, eq. 4). TensorFlow's depth_to_space orders (i, j, k) instead.
    """
    b, h, w, c = x.shape
    if c % (r * r):
        raise ValueError(f"pixel_shuffle by {r} needs a multiple of {r * r} channels, not {c}")
    x = x.reshape(b, h, w, c // (r * r), r, r).transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(b, h * r, w * r, c // (r * r))


def pixel_unshuffle(x: jax.Array, r: int) -> jax.Array:
    """(b, h, w, c) -> (b, h/r, w/r, c*r*r): the inverse of `pixel_shuffle`."""
    b, h, w, c = x.shape
    if h % r or w % r:
        raise ValueError(f"pixel_unshuffle by {r} needs multiples of {r}, not {h} x {w}")
    x = x.reshape(b, h // r, r, w // r, r, c).transpose(0, 1, 3, 5, 2, 4)
    return x.reshape(b, h // r, w // r, c * r * r)


def upsample_nearest(x: jax.Array, r: int) -> jax.Array:
    """(b, h, w, c) -> (b, h*r, w*r, c), each pixel repeated r x r times."""
    b, h, w, c = x.shape
    x = jnp.broadcast_to(x.reshape(b, h, 1, w, 1, c), (b, h, r, w, r, c))
    return x.reshape(b, h * r, w * r, c)


def upsample_bilinear(x: jax.Array, r: int) -> jax.Array:
    """(b, h, w, c) -> (b, h*r, w*r, c) as PyTorch's interpolate does (align_corners=False)."""
    return _upsample(x, *_taps(r, "linear"))


def upsample_bicubic(x: jax.Array, r: int) -> jax.Array:
    """(b, h, w, c) -> (b, h*r, w*r, c) as MATLAB's imresize does by a whole factor.

    Keys' cubic (a = -1/2), borders mirrored with the edge pixel included. Equals the host's
    `imresize(mode="float")` to float32 rounding: no clipping, so values may leave the input's
    range by some per cent.
    """
    return _upsample(x, *_taps(r, "cubic"))


@functools.lru_cache
def _taps(r: int, kind: str) -> tuple[int, int, np.ndarray]:
    """Weights (r, taps) of the r output phases on input offsets first ... last, and these two.

    "cubic" is Keys' kernel with a = -1/2 (Keys 1981, eq. 15), "linear" the triangle; output
    y*r + p looks at y + (p + 1/2)/r - 1/2.
    """
    offsets = np.arange(-3, 4)
    centres = (np.arange(r) + 0.5) / r - 0.5
    d = np.abs(offsets[None] - centres[:, None])
    if kind == "linear":
        weights = np.maximum(1 - d, 0.0)
    else:
        near = (1.5 * d - 2.5) * d * d + 1
        far = ((-0.5 * d + 2.5) * d - 4) * d + 2
        weights = np.where(d <= 1, near, np.where(d < 2, far, 0.0))
    used = np.flatnonzero(np.any(weights != 0, axis=0))
    first, last = used[0], used[-1]
    return int(offsets[first]), int(offsets[last]), weights[:, first : last + 1]


def _upsample(x: jax.Array, first: int, last: int, weights: np.ndarray) -> jax.Array:
    """A few shifted multiply-adds per axis, rows first; borders mirrored with the edge pixel."""
    r = len(weights)
    for axis in (1, 2):
        n = x.shape[axis]
        pads = [(0, 0)] * 4
        pads[axis] = (-first, last)
        padded = jnp.pad(x, pads, mode="symmetric")
        shifted = [
            jax.lax.slice_in_dim(padded, t, t + n, axis=axis) for t in range(last - first + 1)
        ]
        phases = [
            sum(float(w) * s for w, s in zip(row, shifted, strict=True) if w) for row in weights
        ]
        shape = (*x.shape[:axis], n * r, *x.shape[axis + 1 :])
        x = jnp.stack(phases, axis=axis + 1).reshape(shape)
    return x
