"""Real-ESRGAN's second-order degradation: what happens to a photo between camera and upload.

Wang et al., "Real-ESRGAN", ICCVW 2021, section 3: blur, resize, noise and JPEG, twice over, with
sinc filters for ringing; the second round ends at the LR size. A net trained on such pairs can
enlarge real photos, where one trained on clean bicubic pairs enlarges their noise too.

Done on the host in NumPy, float32 planes (c, h, w) in [0, 1], every draw from the example's own
generator. Where this differs from the published code:

- Resizing has the arithmetic of `torch.nn.functional.interpolate` (no antialiasing, bicubic with
  a = -3/4), as published: its aliasing belongs to the degradation. But source coordinates follow
  from the two sizes, not from the drawn factor: with the factor, as published, every resize whose
  size is no whole number shifts LR against HR by up to a pixel.
- JPEG is Pillow's, with 4:2:0 chroma and whole qualities, not a differentiable likeness of it.
- A share of the examples (`plain`, none by default) is what most pictures are: made smaller by an
  antialiased filter, saved once or not at all. A net that sees none of them loses on clean input.
- Each example has its own draws of everything; there one batch shares sizes and the final order.
"""

from __future__ import annotations

import functools
import io
import math

import numpy as np
import scipy.fft
from ml_collections import ConfigDict
from PIL import Image

from jaxgen.data.resize import imresize
from jaxgen.data.sr import blur_kernels

MODES = ("area", "bilinear", "bicubic")
# Unsharp mask of the published code: a 51-tap Gaussian (sigma 8), half of the residual added where
# it exceeds 10 levels.
USM_SIZE, USM_SIGMA, USM_WEIGHT, USM_THRESHOLD = 51, 8.0, 0.5, 10.0
LUMA = np.array([0.299, 0.587, 0.114], np.float32).reshape(3, 1, 1)


def degrade_blind(
    hr: np.ndarray, scale: int, settings: ConfigDict, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None]:
    """Degrades one picture.

    Args:
      hr: uint8 (h, w, 3), h and w multiples of `scale`.
      scale: 1 or more.
      settings: the section `data.blind`.
      rng: all draws come from it.

    Returns:
      lr: uint8 (h / scale, w / scale, 3).
      sharp: uint8 (h, w, 3), the unsharp-masked `hr` that LR was made from; None without
        `settings.usm`.
    """
    x = _planes(hr)
    sharp = None
    if settings.usm:
        x = sharpen(x)
        sharp = _picture(x)
    size = hr.shape[0] // scale, hr.shape[1] // scale
    # Without plain examples no number is drawn for them: other runs' draws stay theirs.
    plain = settings.get("plain", 0.0)
    if plain and rng.random() < plain:
        clean = imresize(hr if sharp is None else sharp, size=size)
        return _picture(_plain(_planes(clean), settings, rng)), sharp
    x = _round_one(x, settings, rng)
    return _picture(_round_two(x, size, settings, rng)), sharp


def blind_crop(
    image: np.ndarray, size: int, scale: int, settings: ConfigDict, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """A random square HR crop with its LR.

    A window `settings.margin` pixels wider on each side (as far as the picture reaches) is
    degraded, and the crop lies anywhere in it: so the crop has surroundings, and JPEG's 8x8 blocks
    begin anywhere.

    Args:
      image: uint8 (h, w, 3), at least `size` in both.
      size: side of the HR crop, a multiple of `scale`.
      scale, settings, rng: as in `degrade_blind`.

    Returns:
      {"lr": uint8 (size / scale, size / scale, 3), "hr": uint8 (size, size, 3)}, and with
      `settings.usm` also "hr_usm", like "hr".
    """
    tall, wide = (
        min(size + 2 * settings.margin, length) // scale * scale for length in image.shape[:2]
    )
    top = int(rng.integers(image.shape[0] - tall + 1))
    left = int(rng.integers(image.shape[1] - wide + 1))
    window = image[top : top + tall, left : left + wide]
    lr, sharp = degrade_blind(window, scale, settings, rng)
    y = int(rng.integers((tall - size) // scale + 1))
    x = int(rng.integers((wide - size) // scale + 1))
    n = size // scale
    high = slice(y * scale, y * scale + size), slice(x * scale, x * scale + size)
    example = {"lr": lr[y : y + n, x : x + n], "hr": window[high]}
    return example if sharp is None else example | {"hr_usm": sharp[high]}


def _round_one(x: np.ndarray, settings: ConfigDict, rng: np.random.Generator) -> np.ndarray:
    first = settings.first
    height, width = x.shape[1:]
    x = _blur(x, first, settings.kernel_sizes, rng)
    factor = draw_factor(first.resize, first.factor, rng)
    x = resize(x, _scaled((height, width), factor), draw_mode(rng))
    x = _noise(x, first, rng)
    return jpeg(x, draw_quality(first.jpeg, rng))


def _round_two(
    x: np.ndarray, size: tuple[int, int], settings: ConfigDict, rng: np.random.Generator
) -> np.ndarray:
    second = settings.second
    x = _blur(x, second, settings.kernel_sizes, rng)
    factor = draw_factor(second.resize, second.factor, rng)
    x = resize(x, _scaled(size, factor), draw_mode(rng))
    x = _noise(x, second, rng)
    mode, quality = draw_mode(rng), draw_quality(second.jpeg, rng)
    ringing = None
    if rng.random() < settings.final_sinc:
        ringing = blur_kernels.draw_sinc(blur_kernels.draw_size(settings.kernel_sizes, rng), rng)
    jpeg_last = rng.random() < 0.5
    if not jpeg_last:
        x = jpeg(x, quality)
    x = resize(x, size, mode)
    if ringing is not None:
        x = filter2d(x, ringing)
    return jpeg(x, quality) if jpeg_last else x


def _plain(x: np.ndarray, settings: ConfigDict, rng: np.random.Generator) -> np.ndarray:
    """What a picture goes through that was made smaller well and perhaps saved once."""
    if rng.random() < settings.plain_noise:
        x = _noise(x, settings.second, rng)
    if rng.random() < settings.plain_jpeg:
        x = jpeg(x, draw_quality(settings.second.jpeg, rng))
    return x


# --------------------------------------------------------------------------------- blur and USM


def _blur(
    x: np.ndarray, order: ConfigDict, sizes: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    if rng.random() >= order.blur:
        return x
    kernel = blur_kernels.draw_kernel(
        sizes, order.sinc, order.kernels, order.sigma, order.beta_gaussian, order.beta_plateau, rng
    )
    return filter2d(x, kernel)


def filter2d(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlates each plane with an odd square kernel; borders are mirrored about the edge pixel.

    Args:
      x: float32 (c, h, w), h and w of any size above 0.
      kernel: (k, k), k odd.

    Returns:
      float32 (c, h, w).
    """
    # By FFT: 21x21 taps one by one take some twenty times as long.
    reach = kernel.shape[0] // 2
    height, width = x.shape[1:]
    rows, columns = _mirror(height, reach), _mirror(width, reach)
    padded = x.take(rows, axis=1).take(columns, axis=2)
    shape = tuple(scipy.fft.next_fast_len(n, real=True) for n in padded.shape[1:])
    spectrum = scipy.fft.rfft2(padded, s=shape)
    # A correlation is a convolution with the turned kernel.
    spectrum *= scipy.fft.rfft2(kernel[::-1, ::-1].astype(np.float32), s=shape)[None]
    y = scipy.fft.irfft2(spectrum, s=shape, overwrite_x=True)
    return y[:, 2 * reach : 2 * reach + height, 2 * reach : 2 * reach + width]


@functools.lru_cache(maxsize=512)
def _mirror(length: int, reach: int) -> np.ndarray:
    """Indices of an axis with `reach` mirrored pixels at either end, the edge not repeated."""
    period = max(1, 2 * length - 2)
    index = np.mod(np.arange(-reach, length + reach), period)
    return np.where(index < length, index, period - index)


def sharpen(x: np.ndarray) -> np.ndarray:
    """Unsharp mask that leaves flat ground alone; (c, h, w) in [0, 1] -> the same."""
    kernel = blur_kernels.gaussian(USM_SIZE, (USM_SIGMA, USM_SIGMA))
    residual = x - filter2d(x, kernel)
    mask = (np.abs(residual) * 255.0 > USM_THRESHOLD).astype(np.float32)
    soft = filter2d(mask, kernel)
    return x + soft * (np.clip(x + USM_WEIGHT * residual, 0.0, 1.0) - x)


# --------------------------------------------------------------------------------------- resize


def draw_factor(
    probabilities: tuple[float, float, float],
    limits: tuple[float, float],
    rng: np.random.Generator,
) -> float:
    """A resize factor: enlarging (1 to limits[1]), shrinking (limits[0] to 1) or 1."""
    kind = int(rng.choice(3, p=probabilities))
    return (float(rng.uniform(1.0, limits[1])), float(rng.uniform(limits[0], 1.0)), 1.0)[kind]


def draw_mode(rng: np.random.Generator) -> str:
    """One of `MODES`."""
    return MODES[int(rng.integers(len(MODES)))]


def _scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    return max(1, int(size[0] * factor)), max(1, int(size[1] * factor))


def resize(x: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
    """`torch.nn.functional.interpolate(x, size, mode=mode)`, corners not aligned.

    Args:
      x: float32 (c, h, w).
      size: (h, w) of the result.
      mode: one of `MODES`; "area" averages whole input pixels, the others take the two or four
        nearest, even when they shrink.

    Returns:
      float32 (c, *size); bicubic may leave [0, 1].
    """
    for axis, length in ((1, size[0]), (2, size[1])):
        if x.shape[axis] == length:
            continue  # all three modes leave an axis of the same length as it is
        index, weights = taps(x.shape[axis], length, mode)
        shape = (1, -1, 1) if axis == 1 else (1, 1, -1)
        out = np.take(x, index[0], axis=axis) * weights[0].reshape(shape)
        for one, weight in zip(index[1:], weights[1:], strict=True):
            out += np.take(x, one, axis=axis) * weight.reshape(shape)
        x = out
    return x


@functools.lru_cache(maxsize=2048)
def taps(size_in: int, size_out: int, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Input indices and float32 weights, both (taps, size_out), of one axis of `resize`."""
    ratio = size_in / size_out
    x = np.arange(size_out)
    if mode == "area":
        first = x * size_in // size_out
        end = -(-(x + 1) * size_in // size_out)
        index = first + np.arange(int((end - first).max())).reshape(-1, 1)
        weights = (index < end) / (end - first)
    elif mode == "bilinear":
        place = np.maximum((x + 0.5) * ratio - 0.5, 0.0)
        first = place.astype(np.int64)
        index = np.stack([first, first + 1])
        weights = np.stack([1.0 - (place - first), place - first])
    else:
        place = (x + 0.5) * ratio - 0.5
        first = np.floor(place).astype(np.int64)
        index = first + np.arange(-1, 3).reshape(-1, 1)
        weights = _cubic(np.abs(place - index))
    return np.clip(index, 0, size_in - 1), weights.astype(np.float32)


def _cubic(x: np.ndarray, a: float = -0.75) -> np.ndarray:
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = ((x - 5.0) * x + 8.0) * x * a - 4.0 * a
    return np.where(x <= 1.0, near, far)


# ------------------------------------------------------------------------------- noise and JPEG


def _noise(x: np.ndarray, order: ConfigDict, rng: np.random.Generator) -> np.ndarray:
    gaussian = rng.random() < order.gaussian
    gray = rng.random() < order.gray_noise
    if gaussian:
        x = gaussian_noise(x, float(rng.uniform(*order.noise)), gray, rng)
    else:
        x = poisson_noise(x, float(rng.uniform(*order.poisson)), gray, rng)
    return np.clip(x, 0.0, 1.0)


def gaussian_noise(x: np.ndarray, sigma: float, gray: bool, rng: np.random.Generator) -> np.ndarray:
    """Adds white noise of `sigma` levels of 255; `gray`: the same to all planes. Not clipped."""
    shape = (1, *x.shape[1:]) if gray else x.shape
    return x + rng.standard_normal(shape, np.float32) * np.float32(sigma / 255.0)


def poisson_noise(
    x: np.ndarray, strength: float, gray: bool, rng: np.random.Generator
) -> np.ndarray:
    """Adds shot noise: at strength 1 that of a photon per level, for a picture of 256 levels.

    The count of levels is the number of different 8-bit values in the picture, raised to a power of
    two, as published: pictures of few values are noisier. `gray`: the noise of the luma, the same
    in all planes. Not clipped.
    """
    x8 = np.clip(x, 0.0, 1.0)
    if gray:
        x8 = (x8 * LUMA).sum(axis=0, keepdims=True)
    x8 = np.rint(x8 * 255.0).astype(np.uint8)
    different = int(np.count_nonzero(np.bincount(x8.ravel(), minlength=256)))
    levels = 2.0 ** math.ceil(math.log2(different))
    clean = x8.astype(np.float32) / 255.0
    noise = rng.poisson(clean * levels).astype(np.float32) / np.float32(levels) - clean
    return x + noise * np.float32(strength)


def draw_quality(limits: tuple[float, float], rng: np.random.Generator) -> int:
    """A JPEG quality, both limits included."""
    return int(rng.integers(int(limits[0]), int(limits[1]) + 1))


def jpeg(x: np.ndarray, quality: int) -> np.ndarray:
    """Compresses and decodes again, with 4:2:0 chroma: (3, h, w) -> float32 on the 8-bit grid."""
    file = io.BytesIO()
    Image.fromarray(_picture(x)).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    file.seek(0)
    with Image.open(file) as image:
        return _planes(np.asarray(image.convert("RGB")))


def _planes(image: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3) -> float32 (3, h, w) in [0, 1]."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32) / np.float32(255.0)


def _picture(x: np.ndarray) -> np.ndarray:
    """float (3, h, w) -> uint8 (h, w, 3), clipped and rounded."""
    levels = np.rint(np.clip(x, 0.0, 1.0) * np.float32(255.0)).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(1, 2, 0))
