"""Upscaling without rounding, for tests that tell a seam of 1e-5 from none."""

import numpy as np

from jaxgen.verbs.upscale import tiling
from jaxgen.verbs.upscale.contract import Upscale


def upscale_float(verb, nets, image, tile=None, batch=1):
    """float32 (h, w, 3) in [-1, 1] by `tile`s -> float32, not clipped."""
    image = np.asarray(image, np.float32)
    return tiling._upscale(verb, nets, [image], None, tile, batch, None, None)[0]


def of_module(apply, scale, radius, multiple=1):
    """`Upscale` of one net "g" by `apply(variables, x)`."""
    return Upscale(("g",), lambda nets, x, given: apply(nets["g"], x), scale, radius, multiple)
