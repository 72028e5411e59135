"""Noise as an augmentation of pictures. A diffusion's noise is Gaussian: docs/noise.md says why."""

from __future__ import annotations

import numpy as np


def salt_and_pepper(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """A copy with a share of its pixels set to white or black, half of them each.

    Args:
      image: uint8 (h, w, c); a pixel's channels are set together.
      amount: share of pixels, 0 to 1, in the mean.
    """
    draw = rng.random(image.shape[:2])
    noisy = image.copy()
    noisy[draw < amount / 2] = 255
    noisy[draw > 1 - amount / 2] = 0
    return noisy
