"""Blur kernels of Real-ESRGAN's degradation (Wang et al., ICCVW 2021, sections 3.1 and 3.4).

Gaussian, generalised Gaussian and plateau-shaped kernels, round or elongated, and the sinc kernel
that leaves ringing and overshoot behind. All are odd squares that sum to 1.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import j1

# Order of the probabilities in `data.blind.*.kernels`.
SHAPES = (
    "iso",
    "aniso",
    "generalized_iso",
    "generalized_aniso",
    "plateau_iso",
    "plateau_aniso",
)


def _distance(size: int, sigma: tuple[float, float], angle: float) -> np.ndarray:
    """x^T C^-1 x at each tap, C = R diag(sigma^2) R^T the covariance turned by `angle`."""
    axis = np.arange(size) - size // 2
    x, y = np.meshgrid(axis, axis)
    along = math.cos(angle) * x + math.sin(angle) * y
    across = -math.sin(angle) * x + math.cos(angle) * y
    return (along / sigma[0]) ** 2 + (across / sigma[1]) ** 2


def gaussian(
    size: int, sigma: tuple[float, float], angle: float = 0.0, beta: float = 1.0
) -> np.ndarray:
    """Generalised Gaussian exp(-d^beta / 2); beta 1 is the Gaussian, more is flatter on top.

    Args:
      size: odd side of the kernel.
      sigma: along and across the direction `angle`, in pixels.
      angle: in radians, from the x axis.
      beta: shape, above 0.

    Returns:
      float64 (size, size), sum 1.
    """
    kernel = np.exp(-0.5 * _distance(size, sigma, angle) ** beta)
    return kernel / kernel.sum()


def plateau(
    size: int, sigma: tuple[float, float], angle: float = 0.0, beta: float = 1.0
) -> np.ndarray:
    """Plateau-shaped kernel 1 / (1 + d^beta); arguments and result as of `gaussian`."""
    kernel = 1.0 / (1.0 + _distance(size, sigma, angle) ** beta)
    return kernel / kernel.sum()


def sinc(size: int, cutoff: float) -> np.ndarray:
    """Ideal circular low-pass, cut to a square: w J1(w r) / (2 pi r), w the cutoff.

    Args:
      size: odd side of the kernel.
      cutoff: in radians per pixel, up to pi.

    Returns:
      float64 (size, size), sum 1; some taps are negative.
    """
    axis = np.arange(size) - size // 2
    r = np.hypot(axis.reshape(-1, 1), axis.reshape(1, -1))
    r[size // 2, size // 2] = 1.0
    kernel = cutoff * j1(cutoff * r) / (2 * math.pi * r)
    kernel[size // 2, size // 2] = cutoff**2 / (4 * math.pi)  # the limit at r = 0
    return kernel / kernel.sum()


def draw_size(sizes: tuple[int, int], rng: np.random.Generator) -> int:
    """An odd side between the two (both odd), all equally likely."""
    low, high = sizes
    return low + 2 * int(rng.integers((high - low) // 2 + 1))


def draw_sinc(size: int, rng: np.random.Generator, lowest: float = math.pi / 3) -> np.ndarray:
    """A sinc kernel with its cutoff uniform in [lowest, pi]."""
    return sinc(size, float(rng.uniform(lowest, math.pi)))


def draw_kernel(
    sizes: tuple[int, int],
    sinc_probability: float,
    probabilities: tuple[float, ...],
    sigma: tuple[float, float],
    beta_gaussian: tuple[float, float],
    beta_plateau: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """One blur kernel at random, as Real-ESRGAN draws it.

    Args:
      sizes: smallest and largest side, odd.
      sinc_probability: of a sinc kernel instead of the others.
      probabilities: of `SHAPES`, among the others.
      sigma, beta_gaussian, beta_plateau: ranges; a beta lies below or above 1 with equal chance.

    Returns:
      float64 (sizes[1], sizes[1]), sum 1; a smaller kernel stands in the middle of zeros.
    """
    size = draw_size(sizes, rng)
    if rng.random() < sinc_probability:
        # Only large kernels hold the long waves of a low cutoff.
        kernel = draw_sinc(size, rng, math.pi / 3 if size < 13 else math.pi / 5)
    else:
        shape = SHAPES[int(rng.choice(len(SHAPES), p=probabilities))]
        width = float(rng.uniform(*sigma))
        widths, angle = (width, width), 0.0
        if not shape.endswith("_iso") and shape != "iso":
            widths = (width, float(rng.uniform(*sigma)))
            angle = float(rng.uniform(-math.pi, math.pi))
        if shape.startswith("generalized"):
            kernel = gaussian(size, widths, angle, _beta(beta_gaussian, rng))
        elif shape.startswith("plateau"):
            kernel = plateau(size, widths, angle, _beta(beta_plateau, rng))
        else:
            kernel = gaussian(size, widths, angle)
    return np.pad(kernel, (sizes[1] - size) // 2)


def _beta(limits: tuple[float, float], rng: np.random.Generator) -> float:
    low, high = limits
    if rng.random() < 0.5:
        return float(rng.uniform(low, max(low, min(1.0, high))))
    return float(rng.uniform(min(high, max(1.0, low)), high))
