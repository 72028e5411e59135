"""Super-resolution measured on whole pictures: the field's PSNR and SSIM, bicubic beside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.data.resize import imresize, to_uint8
from jaxgen.encoders import vgg
from jaxgen.metrics.over_hosts import mean_over_hosts
from jaxgen.metrics.psnr_ssim import sr_metrics
from jaxgen.task import Evaluation, Nets
from jaxgen.verbs.upscale.contract import Upscale
from jaxgen.verbs.upscale.tiling import upscale_image

# (name, low-resolution uint8 (h, w, 3), original uint8 (s*h, s*w, 3))
Pair = tuple[str, np.ndarray, np.ndarray]
# (1, h, w, 3) float32 in [-1, 1], twice -> scalars by name
Distances = Callable[[Any, Any], Mapping[str, jax.Array]]
# The random network that evaluation measures with: not the one that training sees.
EVALUATION_SEED = 1234
EVALUATION_LAYERS = ("conv2_2", "conv3_2", "conv4_2")


def evaluate_sr(
    verb: Upscale,
    nets: Nets,
    pairs: Iterable[Pair],
    *,
    distances: Distances | None = None,
    limit: int = 0,
    crop: int = 160,
) -> Evaluation:
    """Means over pictures, of the model and of bicubic upscaling.

    Metrics: psnr_y, ssim_y, psnr_rgb, ssim_rgb, gain_y (dB over bicubic), what `distances` gives,
    and bicubic_* of the same. On several hosts each measures every n-th picture and the sums are
    added.

    Args:
      verb, nets: the model.
      pairs: see `jaxgen.data.sr.examples.validation_pairs`.
      distances: perceptual ones of (picture, original); None leaves them out.
      limit: at most this many pictures; 0: all.
      crop: side of the square that the sample grid shows, around each picture's centre.
    """
    totals: dict[str, float] = {}
    count = 0
    rows: list[list[tuple[str, np.ndarray]]] = []
    for index, (name, low, high) in enumerate(pairs):
        if limit and index >= limit:
            break
        if index % jax.process_count() != jax.process_index():
            continue
        pictures, scores = compare(lambda x: upscale_image(verb, nets, x), low, high, verb.scale)
        if distances is not None:
            for kind, picture in pictures.items():
                scores[kind] |= _measure(distances, picture, high)
        ours, base = scores["model"], scores["bicubic"]
        values = {**ours, **{f"bicubic_{k}": v for k, v in base.items()}}
        values["gain_y"] = ours["psnr_y"] - base["psnr_y"]
        for key, value in values.items():
            totals[key] = totals.get(key, 0.0) + value
        count += 1
        if len(rows) < 4:
            rows.append(
                [
                    (
                        f"{name}: bicubic {base['psnr_y']:.2f} dB",
                        _centre(pictures["bicubic"], crop),
                    ),
                    (f"model {ours['psnr_y']:.2f} dB", _centre(pictures["model"], crop)),
                    ("original", _centre(high, crop)),
                ]
            )
    return Evaluation(mean_over_hosts(totals, count), rows)


def compare(
    upscale: Callable[[np.ndarray], np.ndarray] | None,
    low: np.ndarray,
    high: np.ndarray,
    scale: int,
    shave: int | None = None,
    gray: str = "keep",
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, float]]]:
    """One picture upscaled by a model and by bicubic interpolation, and how near each comes.

    Args:
      upscale: uint8 (h, w, 3) -> uint8 (scale*h, scale*w, 3); None: bicubic alone.
      low, high: uint8 (h, w, 3) and (scale*h, scale*w, 3), or gray (scale*h, scale*w).
      shave: border left out; None: the scale, as papers do.
      gray: see `jaxgen.metrics.psnr_ssim.sr_metrics`.

    Returns: pictures and scores, both {"model": ..., "bicubic": ...}.
    """
    pictures = {"model": upscale(low)} if upscale is not None else {}
    pictures["bicubic"] = to_uint8(imresize(low, scale=scale, mode="float"))
    shave = scale if shave is None else shave
    return pictures, {k: sr_metrics(sr, high, shave, gray) for k, sr in pictures.items()}


def _measure(distances: Distances, image: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    a, b = (x[None].astype(np.float32) / 127.5 - 1.0 for x in (image, reference))
    return {name: float(value) for name, value in distances(a, b).items()}


def _centre(image: np.ndarray, side: int) -> np.ndarray:
    top, left = (max((n - side) // 2, 0) for n in image.shape[:2])
    return np.ascontiguousarray(image[top : top + side, left : left + side])


def feature_distances(weights, x: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
    """Two distances in the features of a frozen random VGG, relative to y's features.

    distance: mean absolute difference, averaged over `EVALUATION_LAYERS`; what the perceptual
      loss measures, in another network than the one trained with.
    texture: the same of the features' standard deviations in 8x8 windows: whether there is as
      much structure in a place, wherever exactly it lies (a blurred picture has too little).

    Args:
      weights: of `vgg.load_perceptual`.
      x, y: (1, h, w, 3) float32 in [-1, 1], y the reference, sides of 64 pixels or more.

    Returns: {"distance", "texture"}, float32 scalars; 0 for equal pictures.
    """
    totals = {"distance": jnp.zeros(()), "texture": jnp.zeros(())}
    ours, theirs = (vgg.features(weights, vgg.prepare(z), EVALUATION_LAYERS) for z in (x, y))
    for name in EVALUATION_LAYERS:
        a, b = ours[name], theirs[name]
        spread_a, spread_b = _local_spread(a), _local_spread(b)
        totals["distance"] += jnp.abs(a - b).mean() / jnp.abs(b).mean()
        totals["texture"] += jnp.abs(spread_a - spread_b).mean() / spread_b.mean()
    return {key: total / len(EVALUATION_LAYERS) for key, total in totals.items()}


def _local_spread(features: jax.Array, window: int = 8) -> jax.Array:
    """Standard deviation in windows: (b, h, w, c) -> (b, h // 8, w // 8, c)."""
    b, h, w, c = features.shape
    rows, columns = h // window, w // window
    cut = features[:, : rows * window, : columns * window]
    return cut.reshape(b, rows, window, columns, window, c).std((2, 4))
