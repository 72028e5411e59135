"""How blurred a picture is, judged from the picture alone.

Among no-reference measures the field uses NIQE, but the kept implementations are parts of PyTorch
packages and bring a fitted model file with them. scikit-image, which is needed here anyway, has
Crete's blur measure. It sees one fault, lost sharpness, which is the one that super-resolution by
interpolation or by a mean squared error has; noise and false texture count as sharp. Read it
beside the blur of the original.
"""

from __future__ import annotations

import numpy as np
from skimage.measure import blur_effect

from jaxgen.errors import UserError

# Taps of the blur that the picture is compared with (Crete's 9, scikit-image's 11).
WINDOW = 11


def blur(image: np.ndarray) -> float:
    """Perceived blur in [0, 1]: 0 sharp, 1 so blurred that more blur changes nothing.

    Crete et al., "The blur effect: perception and estimation with a new no-reference perceptual
    blur metric", SPIE 6492 (2007): how much of the differences between neighbouring pixels is left
    after the picture is blurred once more; the worse of rows and columns.

    Args:
      image: uint8 (h, w, 3) RGB, measured on its luminance, or gray (h, w); sides of 11 pixels or
        more. A picture of one colour has nothing to lose: 1.

    Raises:
      UserError: another type, shape or a smaller size.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise UserError(
            f"blur is measured on uint8 pictures (h, w, 3) or (h, w), not {image.dtype} "
            f"{image.shape}"
        )
    if min(image.shape[:2]) < WINDOW:
        raise UserError(
            f"blur needs pictures of at least {WINDOW}x{WINDOW} pixels; this one is "
            f"{image.shape[1]}x{image.shape[0]}: leave it out"
        )
    return float(blur_effect(image, h_size=WINDOW, channel_axis=None if image.ndim == 2 else -1))
