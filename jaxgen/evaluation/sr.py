"""Super-resolution measured on whole pictures: the field's PSNR and SSIM, bicubic beside.

    pairs = folder_pairs("Set5", model.scale)     # of jaxgen.data.sr.examples
    measure(model.upscale, pairs, {"blur": ()}).mean["model"]["psnr_y"]

A run's evaluation, `jaxgen eval upscale` and a notebook measure by the same table, `MEASURES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.data.resize import imresize, to_uint8
from jaxgen.encoders import vgg
from jaxgen.errors import UserError
from jaxgen.metrics.over_hosts import mean_over_hosts
from jaxgen.metrics.psnr_ssim import psnr_rgb, psnr_y, shaved, ssim_rgb, ssim_y
from jaxgen.task import Evaluation

# (name, low-resolution uint8 (h, w, 3), original uint8 (s*h, s*w, 3) or gray (s*h, s*w))
Pair = tuple[str, np.ndarray, np.ndarray]
# uint8 (h, w, 3) -> uint8 (s*h, s*w, 3)
Upscaling = Callable[[np.ndarray], np.ndarray]
# (1, h, w, 3) float32 in [-1, 1], twice -> scalars by name
Distances = Callable[[Any, Any], Mapping[str, jax.Array]]
# The random network that evaluation measures with: not the one that training sees.
EVALUATION_SEED = 1234
EVALUATION_LAYERS = ("conv2_2", "conv3_2", "conv4_2")


# ------------------------------------------------------------------------------------- the table


class Measure(NamedTuple):
    """A metric of upscaled pictures; one entry of `MEASURES` is all that a new one needs.

    head: of its column in the printed table; "" leaves it to the report.
    of: (picture, original) -> number, both uint8 without the border: picture (h, w, 3), original
      (h, w, 3), or (h, w) where it is gray and measured so. UserError: they can't be measured.
    larger_is_better: said below the table.
    digits: after the point, in the table.
    always: measured without being asked for.
    alone: `of` takes one picture, without a reference; the originals are measured by it too.
    load: of a metric with weights, which has no `of`: their files -> (variant, its `of`). Its
      numbers are named NAME_variant. UserError: they aren't such weights.
    """

    head: str
    of: Callable[..., float] | None = None
    larger_is_better: bool = False
    digits: int = 4
    always: bool = False
    alone: bool = False
    load: Callable[[Sequence[Path]], tuple[str, Callable[..., float]]] | None = None

    def __call__(self, picture: np.ndarray, original: np.ndarray) -> float:
        """The number of a picture; its weights must be loaded (`chosen`)."""
        assert self.of is not None
        return float(self.of(picture) if self.alone else self.of(picture, original))


def _lpips(files: Sequence[Path]) -> tuple[str, Callable[..., float]]:
    from jaxgen.encoders import lpips

    return lpips.load_distance(*files)


def _blur(picture: np.ndarray) -> float:
    from jaxgen.metrics.no_reference import blur  # loads scikit-image

    return blur(picture)


# In the order of the report and of the table's columns.
MEASURES = {
    "psnr_y": Measure("PSNR-Y", psnr_y, larger_is_better=True, digits=3, always=True),
    "ssim_y": Measure("SSIM-Y", ssim_y, larger_is_better=True, always=True),
    "psnr_rgb": Measure("PSNR-RGB", psnr_rgb, larger_is_better=True, digits=3, always=True),
    "ssim_rgb": Measure("", ssim_rgb, larger_is_better=True, always=True),
    "lpips": Measure("LPIPS", load=_lpips),
    "blur": Measure("blur", _blur, alone=True),
}


def chosen(asked: Mapping[str, Sequence[Path]] | None = None) -> dict[str, Measure]:
    """The measures that are always taken and those asked for, by the names of their numbers.

    Args:
      asked: {name in `MEASURES`: files of its weights, () where it has none}.

    Raises:
      UserError: no such measure, or its weights are missing, needless or damaged.
    """
    asked = asked or {}
    for name, files in asked.items():
        if name not in MEASURES:
            raise UserError(f"no measure {name!r}; there are {', '.join(MEASURES)}")
        if files and MEASURES[name].load is None:
            raise UserError(f"{name} is measured without weights: leave out {files[0]}")
    found = {}
    for name, measure in MEASURES.items():
        if not (measure.always or name in asked):
            continue
        if measure.load is not None:
            variant, of = measure.load(asked.get(name, ()))
            name = f"{name}_{variant}"
            measure = measure._replace(head=f"{measure.head}-{variant}", of=of, load=None)
        found[name] = measure
    return found


def named(number: str) -> Measure:
    """The measure that a number such as "lpips_alex" is of, without its function, to show it.

    Raises:
      UserError: there is no such measure.
    """
    for name, measure in MEASURES.items():
        if number == name:
            return measure
        if measure.load is not None and number.startswith(f"{name}_"):
            return measure._replace(head=f"{measure.head}-{number.removeprefix(f'{name}_')}")
    raise UserError(f"no measure {number!r}; there are {', '.join(MEASURES)}")


# ------------------------------------------------------------------------------------- measuring


class Scores(NamedTuple):
    """What was measured of some pictures.

    images: of each {"name": ..., "model": {"psnr_y": ..., ...}, "bicubic": the same, "original":
      what is measured without a reference}; "model" and "original" only where there is such.
    mean: over the pictures, the same without "name".
    measures: by the names of the numbers.
    """

    images: list[dict[str, Any]]
    mean: dict[str, dict[str, float]]
    measures: dict[str, Measure]


def measure(
    upscale: Upscaling | None,
    pairs: Iterable[Pair],
    asked: Mapping[str, Sequence[Path]] | None = None,
    *,
    shave: int | None = None,
    gray: str = "keep",
) -> Scores:
    """Pictures upscaled by anything and by bicubic interpolation, and how near each comes.

    Args:
      upscale: `model.upscale`, or any other function of uint8 (h, w, 3); None: bicubic alone.
      pairs: see `jaxgen.data.sr.examples.folder_pairs`.
      asked: what to measure besides PSNR and SSIM, see `chosen`: {"blur": (), "lpips": files}.
      shave, gray: see `compare`.

    Raises:
      UserError: a measure that there is not, no pictures, or one that can't be measured, by name.
    """
    measures = chosen(asked)
    return averaged(list(measured(upscale, pairs, measures, shave, gray)), measures)


def measured(
    upscale: Upscaling | None,
    pairs: Iterable[Pair],
    measures: Mapping[str, Measure],
    shave: int | None = None,
    gray: str = "keep",
) -> Iterator[dict[str, Any]]:
    """One of `Scores.images` after the other; see `measure` for the arguments and errors."""
    for name, low, high in pairs:
        try:
            _, scores = compare(upscale, low, high, measures, shave, gray)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        yield {"name": name, **scores}


def averaged(images: list[dict[str, Any]], measures: Mapping[str, Measure]) -> Scores:
    """With the mean over the pictures, exact to the last bit in any order; UserError for none."""
    if not images:
        raise UserError("there are no pictures to measure")
    mean = {
        kind: {key: math.fsum(i[kind][key] for i in images) / len(images) for key in values}
        for kind, values in images[0].items()
        if kind != "name"
    }
    return Scores(images, mean, dict(measures))


def compare(
    upscale: Upscaling | None,
    low: np.ndarray,
    high: np.ndarray,
    measures: Mapping[str, Measure],
    shave: int | None = None,
    gray: str = "keep",
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, float]]]:
    """One picture upscaled by a model and by bicubic interpolation, and how near each comes.

    Args:
      upscale: uint8 (h, w, 3) -> uint8 (s*h, s*w, 3); None: bicubic alone.
      low, high: uint8 (h, w, 3) and (s*h, s*w, 3), or gray (s*h, s*w).
      measures: of `chosen`.
      shave: border left out; None: the scale, as papers do.
      gray: see `jaxgen.metrics.psnr_ssim.shaved`.

    Returns: pictures {"model", "bicubic"}, and scores {"model", "bicubic", "original"} as in
      `Scores.images`.

    Raises:
      UserError: sizes that don't fit, or a picture that can't be measured.
    """
    (height, width), size = low.shape[:2], high.shape[:2]
    scale = max(size[0] // height, 1)
    if size != (scale * height, scale * width):
        raise UserError(
            f"an original of {size[1]}x{size[0]} is no multiple of its small picture, "
            f"{width}x{height}"
        )
    pictures = {"model": upscale(low)} if upscale is not None else {}
    pictures["bicubic"] = to_uint8(imresize(low, scale=scale, mode="float"))
    scores: dict[str, dict[str, float]] = {}
    for kind, picture in pictures.items():
        sr, hr = shaved(picture, high, scale if shave is None else shave, gray)
        scores[kind] = {key: measure(sr, hr) for key, measure in measures.items()}
    if alone := {key: measure(hr, hr) for key, measure in measures.items() if measure.alone}:
        scores["original"] = alone
    return pictures, scores


# ------------------------------------------------------------------------------ a run's evaluation


def evaluate_sr(
    upscale: Upscaling,
    pairs: Iterable[Pair],
    *,
    distances: Distances | None = None,
    limit: int = 0,
    crop: int = 160,
) -> Evaluation:
    """A run's evaluation: means over pictures, of the model and of bicubic upscaling.

    Metrics: psnr_y, ssim_y, psnr_rgb, ssim_rgb, gain_y (dB over bicubic), what `distances` gives,
    and bicubic_* of the same. On several hosts each measures every n-th picture and the sums are
    added.

    Args:
      upscale: the model.
      pairs: see `jaxgen.data.sr.examples.validation_pairs`.
      distances: perceptual ones of (picture, original); None leaves them out.
      limit: at most this many pictures; 0: all.
      crop: side of the square that the sample grid shows, around each picture's centre.
    """
    measures = chosen()
    totals: dict[str, float] = {}
    count = 0
    rows: list[list[tuple[str, np.ndarray]]] = []
    for index, (name, low, high) in enumerate(pairs):
        if limit and index >= limit:
            break
        if index % jax.process_count() != jax.process_index():
            continue
        pictures, scores = compare(upscale, low, high, measures)
        if distances is not None:
            for kind, picture in pictures.items():
                scores[kind] |= _distances(distances, picture, high)
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


def _distances(distances: Distances, image: np.ndarray, reference: np.ndarray) -> dict[str, float]:
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
