"""From a sharp picture to its low-resolution one: the degradations that models are trained against.

"bicubic" is the benchmarks' (MATLAB); "bilinear" and "area" are antialiased too; "blur" is a
Gaussian blur followed by the bicubic resize (the recipe of the CelebA experiments).

Every kind is local: an LR pixel depends on HR pixels within `margin(...)` of it. `degrade_crop`
uses that to make the LR of a crop from the crop's surroundings only, bit for bit equal to cropping
the LR of the whole picture, at the price of a crop.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from jaxgen.data.resize import imresize, to_uint8
from jaxgen.errors import UserError

KINDS = ("bicubic", "bilinear", "area", "blur")
_SUPPORT = {"bicubic": 2.0, "blur": 2.0, "bilinear": 1.0, "area": 0.5}
Sigma = float | tuple[float, float]


def mod_crop(image: np.ndarray, scale: int) -> np.ndarray:
    """Cuts height and width to multiples of `scale`, from the right and bottom as papers do."""
    height, width = image.shape[:2]
    if min(height, width) < scale:
        raise UserError(f"a picture of {width}x{height} is too small for scale {scale}")
    return image[: height // scale * scale, : width // scale * scale]


def draw_sigma(blur_sigma: Sigma, rng: np.random.Generator | None) -> float:
    """A blur's sigma in HR pixels: fixed, or uniform in a (low, high) range."""
    if isinstance(blur_sigma, int | float):
        low = high = float(blur_sigma)
    else:
        low, high = (float(x) for x in blur_sigma)
    if not 0 < low <= high:
        raise UserError(f"data.blur_sigma must be positive and rising, not {blur_sigma}")
    if low == high:
        return low
    if rng is None:
        raise UserError("a range of blur_sigma needs a random generator; give one sigma instead")
    return float(rng.uniform(low, high))


@functools.lru_cache(maxsize=64)
def _gaussian(sigma: float) -> tuple[np.ndarray, int]:
    radius = math.ceil(3 * sigma)  # what lies beyond weighs under 0.3 %
    x = np.arange(-radius, radius + 1)
    weights = np.exp(-np.square(x) / (2 * sigma * sigma))
    return weights / weights.sum(), radius


def gaussian_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Separable Gaussian blur with mirrored borders: uint8 (h, w, c) -> uint8, rounded once."""
    weights, radius = _gaussian(sigma)
    x = image.astype(np.float64)
    for axis in (0, 1):
        n = x.shape[axis]
        # The edge pixel is repeated, as in the resize; `mod` lets the mirror go on past small n.
        index = np.mod(np.arange(-radius, n + radius), 2 * n)
        padded = np.take(x, np.where(index < n, index, 2 * n - 1 - index), axis=axis)
        padded = np.moveaxis(padded, axis, 0)
        out = np.zeros_like(padded[:n])
        for tap, weight in enumerate(weights):
            out += padded[tap : tap + n] * weight
        x = np.moveaxis(out, 0, axis)
    return to_uint8(x)


def degrade(
    hr: np.ndarray,
    scale: int,
    kind: str = "bicubic",
    rng: np.random.Generator | None = None,
    *,
    blur_sigma: Sigma = (1.0, 1.0),
) -> np.ndarray:
    """Makes the low-resolution picture.

    Args:
      hr: uint8 (h, w, c) with h and w multiples of `scale` (`mod_crop` does that).
      scale: 1 or more.
      kind: one of `KINDS`.
      rng: draws sigma when `blur_sigma` is a range; not used otherwise.
      blur_sigma: of kind "blur", in HR pixels: a number or (low, high).

    Returns:
      uint8 (h / scale, w / scale, c).

    Raises:
      UserError: unknown kind, or a size that is no multiple of the scale.
    """
    if kind not in KINDS:
        raise UserError(f"unknown data.degradation {kind!r}: use one of {', '.join(KINDS)}")
    height, width = hr.shape[:2]
    if height % scale or width % scale or not min(height, width):
        raise UserError(f"a picture of {width}x{height} is no multiple of scale {scale}")
    if kind == "blur":
        hr = gaussian_blur(hr, draw_sigma(blur_sigma, rng))
    method = "bicubic" if kind == "blur" else kind
    return imresize(hr, size=(height // scale, width // scale), method=method)


def margin(scale: int, kind: str, sigma: float) -> int:
    """HR pixels around a crop that its LR depends on, rounded up to a multiple of `scale`."""
    reach = _SUPPORT[kind] * scale + (_gaussian(sigma)[1] if kind == "blur" else 0)
    return math.ceil(reach / scale) * scale


def degrade_crop(
    hr: np.ndarray,
    top: int,
    left: int,
    size: int,
    scale: int,
    kind: str = "bicubic",
    rng: np.random.Generator | None = None,
    *,
    blur_sigma: Sigma = (1.0, 1.0),
) -> tuple[np.ndarray, np.ndarray]:
    """A square HR crop and the same place of the whole picture's LR, without making the whole LR.

    Args:
      hr: uint8 (h, w, c), already cut by `mod_crop`.
      top, left, size: in HR pixels, all multiples of `scale`, inside the picture.
      scale, kind, rng, blur_sigma: as in `degrade`.

    Returns:
      (lr (size / scale, size / scale, c), hr (size, size, c)), uint8. `lr` equals
      `degrade(hr)[top / scale:, left / scale:]` cut to its size, bit for bit.
    """
    if kind not in KINDS:
        raise UserError(f"unknown data.degradation {kind!r}: use one of {', '.join(KINDS)}")
    sigma = draw_sigma(blur_sigma, rng) if kind == "blur" else 1.0
    around = margin(scale, kind, sigma)
    # Where the window meets the picture's border it ends there, and mirrors as the picture does.
    y0, x0 = max(0, top - around), max(0, left - around)
    window = hr[y0 : top + size + around, x0 : left + size + around]
    lr = degrade(window, scale, kind, blur_sigma=sigma)
    y, x, n = (top - y0) // scale, (left - x0) // scale, size // scale
    return lr[y : y + n, x : x + n], hr[top : top + size, left : left + size]
