"""Pictures as CLIP takes them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxgen.data.middle import middle_square

# Of its training pictures in [0, 1], by channel.
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)


def normalise(x: jax.Array) -> jax.Array:
    """(..., 3) float32 in [-1, 1] -> zero mean and unit deviation over CLIP's training pictures."""
    shape = (1,) * (x.ndim - 1) + (3,)
    mean, deviation = (jnp.asarray(v, x.dtype).reshape(shape) for v in (MEAN, DEVIATION))
    return ((x + 1.0) / 2.0 - mean) / deviation


def fit(image: np.ndarray, size: int) -> np.ndarray:
    """A picture's middle square at `size` pixels, bicubic, as published; see `middle_square`."""
    return middle_square(image, size, Image.Resampling.BICUBIC)


def padded(image: np.ndarray, ratio: float) -> np.ndarray:
    """A long picture with black borders, so that its middle square holds more of it (CLIP4Cir).

    Args:
      image: uint8 (h, w, 3).
      ratio: of the long side to the short one, from which the short one is filled up to
        long / ratio; 1: a square. Odd differences lose a pixel, as published.

    Returns: uint8 (h', w', 3), the picture itself where it is not so long.
    """
    height, width = image.shape[:2]
    long = max(height, width)
    if long / min(height, width) < ratio:
        return image
    wanted = long / ratio
    rows, columns = (max(int((wanted - side) / 2), 0) for side in (height, width))
    return np.pad(image, ((rows, rows), (columns, columns), (0, 0)))
