"""PSNR and SSIM by the super-resolution field's protocol; NumPy, float64, on the host.

The protocol (RDN's and RCAN's MATLAB scripts, which papers since 2016 follow): the picture is
rounded to uint8; luma is BT.601 in [16, 235] and is *not* rounded; `scale` border pixels are
shaved; the peak is 255; the mean is over pictures. `sr_metrics` does all of it and reproduces
published tables to their last digit.
"""

from __future__ import annotations

import numpy as np

from jaxgen.errors import UserError

# ITU-R BT.601, studio swing, RGB in 0..255: Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255.
_LUMA = np.array([65.481, 128.553, 24.966]) / 255.0
# Full-swing weights: three equal channels give exactly the gray picture's own value.
_GRAY = np.array([0.299, 0.587, 0.114])


def rgb_to_y(image: np.ndarray) -> np.ndarray:
    """Luma of an RGB picture: uint8 (..., 3) -> float64 (...) in [16, 235], not rounded."""
    return 16.0 + image.astype(np.float64) @ _LUMA


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB; values in 0..255, any equal shapes. Equal inputs: inf."""
    _check_shapes(a, b)
    error = float(np.mean(np.square(a.astype(np.float64) - b.astype(np.float64))))
    return float("inf") if error == 0 else 10.0 * float(np.log10(255.0**2 / error))


def _gaussian(size: int = 11, sigma: float = 1.5) -> np.ndarray:
    x = np.arange(size) - (size - 1) / 2
    weights = np.exp(-np.square(x) / (2 * sigma**2))
    return weights / weights.sum()


_WINDOW = _gaussian()


def _filter_valid(x: np.ndarray) -> np.ndarray:
    """Separable Gaussian window over the last two axes, 'valid': (..., h, w) -> (..., h-10, w-10).

    The symmetric window pairs its taps: 6 products per axis instead of 11.
    """
    half = len(_WINDOW) // 2
    for axis in (-2, -1):
        x = np.moveaxis(x, axis, 0)
        n = x.shape[0] - 2 * half
        out = x[half : half + n] * _WINDOW[half]
        pair = np.empty_like(out)
        for i in range(half):
            np.add(x[i : i + n], x[2 * half - i : 2 * half - i + n], out=pair)
            pair *= _WINDOW[i]
            out += pair
        x = np.moveaxis(out, 0, axis)
    return x


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Mean structural similarity (Wang et al. 2004): 11x11 Gaussian, sigma 1.5, 'valid', K .01/.03.

    Args:
      a, b: (h, w) or (h, w, c), values in 0..255, h and w at least 11. Channels are averaged.

    Raises:
      UserError: shapes differ or are smaller than the window.
    """
    _check_shapes(a, b)
    if min(a.shape[:2]) < len(_WINDOW):
        raise UserError(
            f"SSIM needs pictures of at least 11x11 pixels after shaving; this one is "
            f"{a.shape[1]}x{a.shape[0]}: use a larger picture"
        )
    if a.ndim == 3:
        return float(np.mean([ssim(a[..., i], b[..., i]) for i in range(a.shape[2])]))
    x, y = a.astype(np.float64), b.astype(np.float64)
    mean_x, mean_y, xx, yy, xy = _filter_valid(np.stack([x, y, x * x, y * y, x * y]))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    product, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    numerator = (2 * product + c1) * (2 * (xy - product) + c2)
    return float(np.mean(numerator / ((squares + c1) * (xx + yy - squares + c2))))


def shaved(
    sr: np.ndarray, hr: np.ndarray, shave: int, gray: str = "keep"
) -> tuple[np.ndarray, np.ndarray]:
    """A picture and its original without their border, as the measures below take them.

    Args:
      sr: uint8 (h, w, 3) or (h, w), the model's picture.
      hr: uint8 (h, w, 3) or (h, w), the original, cropped to a multiple of the scale.
      shave: border pixels left out on each side; papers use the scale.
      gray: how a gray original, that is one of shape (h, w), is measured. "keep": on its own
        values 0..255, as the MATLAB scripts do. "replicate": as RGB, whose luma has a range of
        219 and so reads 1.3 dB higher; name it next to the number. An RGB file whose channels
        happen to be equal counts as RGB (Set14 has one; the published mean needs this).

    Returns: (sr, hr), uint8; sr (h', w', 3), hr (h', w', 3), or (h', w') where it is gray and kept.

    Raises:
      UserError: shapes differ, not uint8, unknown `gray`, or too small for the SSIM window.
    """
    if gray not in ("keep", "replicate"):
        raise UserError(f"unknown gray rule {gray!r}: use 'keep' or 'replicate'")
    if sr.dtype != np.uint8 or hr.dtype != np.uint8:
        raise UserError(f"metrics are defined on uint8 pictures, not {sr.dtype} and {hr.dtype}")
    is_gray = gray == "keep" and (hr.ndim == 2 or hr.shape[2] == 1)
    sr, hr = _three_channels(sr), _three_channels(hr)
    _check_shapes(sr, hr)
    if shave:
        sr, hr = sr[shave:-shave, shave:-shave], hr[shave:-shave, shave:-shave]
    if min(hr.shape[:2]) < len(_WINDOW):
        raise UserError(
            f"a picture is smaller than 11x11 after shaving {shave} border pixels: leave it out"
        )
    return sr, hr[..., 0] if is_gray else hr


def psnr_y(sr: np.ndarray, hr: np.ndarray) -> float:
    """PSNR of luma in dB; the pictures as `shaved` gives them, as for the next three."""
    return psnr(*_luma(sr, hr))


def ssim_y(sr: np.ndarray, hr: np.ndarray) -> float:
    """SSIM of luma."""
    return ssim(*_luma(sr, hr))


def psnr_rgb(sr: np.ndarray, hr: np.ndarray) -> float:
    """PSNR of all three channels in dB."""
    return psnr(sr, _three_channels(hr))


def ssim_rgb(sr: np.ndarray, hr: np.ndarray) -> float:
    """SSIM, mean over the three channels."""
    return ssim(sr, _three_channels(hr))


def sr_metrics(sr: np.ndarray, hr: np.ndarray, shave: int, gray: str = "keep") -> dict[str, float]:
    """The four numbers that super-resolution papers print, for one picture; see `shaved`.

    Returns:
      {"psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb"}.

    Raises:
      UserError: see `shaved`.
    """
    sr, hr = shaved(sr, hr, shave, gray)
    return {
        "psnr_y": psnr_y(sr, hr),
        "ssim_y": ssim_y(sr, hr),
        "psnr_rgb": psnr_rgb(sr, hr),
        "ssim_rgb": ssim_rgb(sr, hr),
    }


def _luma(sr: np.ndarray, hr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Luma of both, float64; beside a gray original the picture's gray, on the full range."""
    if hr.ndim == 2:
        return sr.astype(np.float64) @ _GRAY, hr.astype(np.float64)
    return rgb_to_y(sr), rgb_to_y(hr)


def _three_channels(image: np.ndarray) -> np.ndarray:
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3):
        raise UserError(f"needs an (h, w), (h, w, 1) or (h, w, 3) picture, not {image.shape}")
    return np.broadcast_to(image, (*image.shape[:2], 3))


def _check_shapes(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        raise UserError(f"the pictures differ in shape: {a.shape} and {b.shape}")
