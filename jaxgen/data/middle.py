"""The middle square of a picture, as published networks take it."""

from __future__ import annotations

import numpy as np
from PIL import Image


def middle_square(image: np.ndarray, size: int, how: Image.Resampling) -> np.ndarray:
    """A picture's middle square at `size` pixels: torchvision's Resize and CenterCrop on PIL's.

    The short side becomes `size`, with antialiasing and in 8 bits, the long one what keeps the
    shape, rounded down; of an odd rest the border is the even half.

    Args: image: uint8 (h, w, 3). how: Pillow's kernel.

    Returns: uint8 (size, size, 3).
    """
    height, width = image.shape[:2]
    short = min(height, width)
    if short != size:
        sides = (int(size * width / short), int(size * height / short))
        image = np.asarray(Image.fromarray(image).resize(sides, how))
    height, width = image.shape[:2]
    top, left = round((height - size) / 2), round((width - size) / 2)
    return image[top : top + size, left : left + size]
