"""Super-resolution measured on whole pictures: the field's PSNR and SSIM, bicubic beside."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from jaxgen.data.resize import imresize, to_uint8
from jaxgen.metrics.psnr_ssim import sr_metrics
from jaxgen.task import Evaluation, Upscale
from jaxgen.upscale import upscale_image

# (name, low-resolution uint8 (h, w, 3), original uint8 (s*h, s*w, 3))
Pair = tuple[str, np.ndarray, np.ndarray]
# (b, h, w, 3) float32 in [-1, 1], twice -> (b,)
Distance = Callable[[jax.Array, jax.Array], jax.Array]


def evaluate_sr(
    verb: Upscale,
    variables: Mapping[str, Any],
    pairs: Iterable[Pair],
    *,
    distance: Distance | None = None,
    limit: int = 0,
    crop: int = 160,
) -> Evaluation:
    """Means over pictures, of the model and of bicubic upscaling.

    Metrics: psnr_y, ssim_y, psnr_rgb, ssim_rgb, gain_y (dB over bicubic), distance, and bicubic_*
    of the same. On several hosts each measures every n-th picture and the sums are added.

    Args:
      verb, variables: the model.
      pairs: see `jaxgen.data.sr.validation_pairs`.
      distance: a perceptual one; None leaves it out.
      limit: at most this many pictures; 0: all.
      crop: side of the square that the sample grid shows, around each picture's centre.
    """
    totals: dict[str, float] = {}
    count, rows = 0, []
    for index, (name, low, high) in enumerate(pairs):
        if limit and index >= limit:
            break
        if index % jax.process_count() != jax.process_index():
            continue
        ours = upscale_image(verb, variables, low)
        bicubic = to_uint8(imresize(low, scale=verb.scale, mode="float"))
        values = _measure(ours, high, verb.scale, distance)
        base = _measure(bicubic, high, verb.scale, distance)
        values |= {f"bicubic_{k}": v for k, v in base.items()}
        values["gain_y"] = values["psnr_y"] - base["psnr_y"]
        for key, value in values.items():
            totals[key] = totals.get(key, 0.0) + value
        count += 1
        if len(rows) < 4:
            rows.append(
                [
                    (f"{name}: bicubic {base['psnr_y']:.2f} dB", _centre(bicubic, crop)),
                    (f"model {values['psnr_y']:.2f} dB", _centre(ours, crop)),
                    ("original", _centre(high, crop)),
                ]
            )
    return Evaluation(_means(totals, count), rows)


def _measure(image, high, shave, distance) -> dict[str, float]:
    values = sr_metrics(image, high, shave)
    if distance is not None:
        a, b = (x[None].astype(np.float32) / 127.5 - 1.0 for x in (image, high))
        values["distance"] = float(distance(a, b)[0])
    return values


def _means(totals: dict[str, float], count: int) -> dict[str, float]:
    if jax.process_count() > 1:
        # A host without pictures has no keys yet: hosts agree on the names through the first one,
        # which always has a picture where there is any.
        from jax.experimental import multihost_utils

        names = (*METRICS, *(f"bicubic_{m}" for m in METRICS), "gain_y")
        mine = np.array([*(totals.get(n, 0.0) for n in names), count], np.float64)
        # Sent as pairs of float32: gathering float64 needs x64 mode.
        high = mine.astype(np.float32)
        parts = np.stack([high, (mine - high).astype(np.float32)])
        summed = np.asarray(multihost_utils.process_allgather(parts), np.float64).sum((0, 1))
        totals = dict(zip(names, summed[:-1], strict=True))
        count = round(summed[-1])
    if not count:
        return {}
    return {k: v / count if math.isfinite(v) else v for k, v in totals.items()}


METRICS = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb", "distance")


def _centre(image: np.ndarray, side: int) -> np.ndarray:
    top, left = (max((n - side) // 2, 0) for n in image.shape[:2])
    return np.ascontiguousarray(image[top : top + side, left : left + side])
