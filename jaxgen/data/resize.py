"""Antialiased image resize that equals MATLAB's `imresize`, bit for bit on uint8 pictures.

Super-resolution benchmarks are defined by MATLAB's bicubic: published LR pictures come from it, and
a model that is trained on another resize (Pillow, OpenCV, TensorFlow) measures 1-9 dB lower.

How it works: each axis is a sparse linear map. Output pixel x (0-based) looks at input coordinate
u = (x + 1/2) * in/out - 1/2; when it shrinks, the kernel is stretched by in/out (antialiasing);
borders are mirrored, the edge pixel included. Weights are computed once per (in, out) and cached.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction

import numpy as np

from jaxgen.errors import UserError


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = -1/2 (Keys 1981, eq. 15); support [-2, 2]."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _triangle(x: np.ndarray) -> np.ndarray:
    """Linear kernel; support [-1, 1]."""
    return np.maximum(1.0 - np.abs(x), 0.0)


def _box(x: np.ndarray) -> np.ndarray:
    """Nearest / area kernel; support [-1/2, 1/2), half open so that no pixel counts twice."""
    return ((x >= -0.5) & (x < 0.5)).astype(np.float64)


_KERNELS = {
    "bicubic": (_cubic, 4),
    "bilinear": (_triangle, 2),
    "box": (_box, 1),
    "area": (_box, 1),
}


@functools.lru_cache(maxsize=512)
def axis_weights(size_in: int, size_out: int, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Sparse rows of the resize map of one axis.

    Returns:
      (indices, weights), both (taps, size_out): output x is the sum over t of
      weights[t, x] * input[indices[t, x]]. Weights are float64 and sum to 1 over the taps. Rows
      with the same phase have bitwise equal weights, wherever they lie, so that a crop's resize
      equals the crop of the resize.
    """
    kernel, support = _KERNELS[method]
    # Exact arithmetic up to the distances: u - index must not depend on where the pixel lies.
    ratio = Fraction(size_in, size_out)
    stretch = max(ratio, Fraction(1))  # antialias only when shrinking
    half_width = support * stretch / 2
    taps = math.ceil(support * stretch) + 2
    # In units of 1 / (2 * size_out): u = ((2x + 1) * size_in - size_out) / (2 * size_out).
    unit = 2 * size_out
    centre = (2 * np.arange(size_out, dtype=np.int64) + 1) * size_in - size_out
    first = (centre * half_width.denominator - half_width.numerator * unit) // (
        unit * half_width.denominator
    )
    index = first[None, :] + np.arange(taps, dtype=np.int64)[:, None]  # (taps, out)
    distance = (centre[None, :] - index * unit) / unit
    weights = kernel(distance / float(stretch))
    weights = weights / weights.sum(axis=0, keepdims=True)
    used = np.any(weights != 0, axis=1)
    index, weights = index[used], weights[used]
    # Mirror: ... 1 0 | 0 1 ... n-1 | n-1 n-2 ...
    index = np.mod(index, 2 * size_in)
    index = np.where(index < size_in, index, 2 * size_in - 1 - index)
    index.setflags(write=False)
    weights.setflags(write=False)
    return index, weights


def _resize_rows(x: np.ndarray, size_out: int, method: str) -> np.ndarray:
    """Resizes axis 0 of x (n, k) to (size_out, k), float64."""
    index, weights = axis_weights(x.shape[0], size_out, method)
    out = np.zeros((size_out, x.shape[1]), np.float64)
    product = np.empty_like(out)
    # A loop over the 4 to 20-odd taps; each turn is one vectorised multiply-add of whole rows.
    for rows, weight in zip(index, weights, strict=True):
        np.multiply(x[rows], weight[:, None], out=product)
        out += product
    return out


def to_uint8(x: np.ndarray) -> np.ndarray:
    """Rounds half up, as MATLAB does for positive numbers, and clips to uint8."""
    return np.clip(np.floor(x + 0.5), 0, 255).astype(np.uint8)


def output_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """MATLAB's size rule for a scale: rounded up, with float dust ignored."""
    return (
        max(1, math.ceil(round(height * scale, 6))),
        max(1, math.ceil(round(width * scale, 6))),
    )


def imresize(
    image: np.ndarray,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    *,
    mode: str = "uint8",
    method: str = "bicubic",
) -> np.ndarray:
    """Resizes a picture as MATLAB's `imresize` does.

    Args:
      image: (h, w) or (h, w, c); uint8 in mode "uint8", uint8 or float of any range in "float".
      scale: factor for both axes (1/4 makes a quarter); or give `size`.
      size: (height, width) of the result.
      mode: "uint8" rounds half up and clips after each axis, as MATLAB does with uint8 input: the
        published x2, x3 and x4 benchmark pictures. "float" keeps float64 throughout and neither
        rounds nor clips (`to_uint8` does that once, at the end).
      method: "bicubic", "bilinear" or "box" (also called "area"), antialiased when shrinking.

    Returns:
      (H, W[, c]), uint8 in mode "uint8", float64 in mode "float".

    Raises:
      UserError: unknown mode or method, or a size that is not positive.
    """
    if (scale is None) == (size is None):
        raise UserError("imresize: give either scale or size")
    if method not in _KERNELS:
        raise UserError(f"imresize: unknown method {method!r}; use one of {sorted(_KERNELS)}")
    if mode not in ("uint8", "float"):
        raise UserError(f"imresize: unknown mode {mode!r}; use 'uint8' or 'float'")
    image = np.asarray(image)
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise UserError(f"imresize: needs an (h, w) or (h, w, c) picture, not {image.shape}")
    if mode == "uint8" and image.dtype != np.uint8:
        raise UserError(f"imresize: mode 'uint8' needs a uint8 picture, not {image.dtype}")
    height, width = image.shape[:2]
    if scale is not None:
        if not scale > 0:
            raise UserError(f"imresize: scale must be positive, not {scale}")
        size = output_size(height, width, scale)
    assert size is not None
    if min(size) < 1:
        raise UserError(f"imresize: size must be positive, not {tuple(size)}")
    channels = image.shape[2:]
    finish = to_uint8 if mode == "uint8" else (lambda x: x)
    x = image.astype(np.float64) if mode == "float" else image
    # The axis that shrinks most comes first, height when they shrink alike (MATLAB's order; it
    # matters because of the rounding in between).
    width_first = size[1] * height < size[0] * width
    for axis in (1, 0) if width_first else (0, 1):
        if x.shape[axis] == size[axis]:
            continue
        if axis == 0:
            rows = _resize_rows(x.reshape(x.shape[0], -1), size[0], method)
            x = finish(rows).reshape(size[0], x.shape[1], *channels)
        else:
            columns = np.ascontiguousarray(np.swapaxes(x, 0, 1))  # (w, h, c)
            rows = _resize_rows(columns.reshape(x.shape[1], -1), size[1], method)
            rows = finish(rows).reshape(size[1], x.shape[0], *channels)
            x = np.ascontiguousarray(np.swapaxes(rows, 0, 1))
    return x.copy() if x is image else x
