"""Super-resolution examples: pairs of an LR and an HR picture, for training and for measuring.

Training examples are crops (or whole resized photos) with flips and quarter turns, each drawn from
the record's own random generator. The LR of a crop is the crop of the whole picture's LR, border
effects included, as the benchmarks define it, and not the downscaled crop. (A blind degradation is
made from a window a little larger than the crop.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.picture_files import read_image, read_image_with_alpha
from jaxgen.data.resize import imresize
from jaxgen.data.shard import Shard
from jaxgen.data.sr.blind import blind_crop, degrade_blind
from jaxgen.data.sr.degrade import degrade, degrade_crop, mod_crop
from jaxgen.data.sr.pairing import find_pairs
from jaxgen.data.sr.section import check
from jaxgen.data.sr.sources import open_source
from jaxgen.errors import UserError

Pair = tuple[str, np.ndarray, np.ndarray]


class MakeExample:
    """One record -> one training example; a class because Grain pickles it into its workers.

    Called with ({"image": uint8 (h, w, 3), ...}, generator); gives {"lr": uint8 (n/s, n/s, 3),
    "hr": uint8 (n, n, 3)} with n = hr_size and s = scale, and the record's "_" fields. A blind
    degradation with `data.blind.usm` adds "hr_usm", the sharpened "hr" of the same shape.
    """

    def __init__(self, data: ConfigDict):
        check(data)
        self.size, self.scale, self.crop = data.hr_size, data.scale, data.crop
        self.degradation, self.blur_sigma = data.degradation, tuple(data.blur_sigma)
        self.flip, self.rotate = data.flip, data.rotate
        self.rescale = tuple(data.rescale)
        self.recolour = data.get("recolour", 0.0)  # runs that began before the key have none
        self.blind = data.blind
        blind = data.degradation == "blind"
        self.around = 2 * data.blind.margin if blind else 8 * data.scale

    def __call__(self, record: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        image = record["image"]
        height, width = image.shape[:2]
        # Without it no number is drawn: other runs' draws stay theirs.
        if self.recolour and rng.random() < self.recolour:
            image = image[..., rng.permutation(3)]
        if self.crop == "resize":
            if (height, width) != (self.size, self.size):
                raise ValueError("with crop='resize' records come resized from open_source")
            pictures = self._whole(image, rng)
        else:
            if min(height, width) < self.size:
                raise UserError(
                    f"{record.get('_name', 'a picture')} is {width}x{height}, smaller than the "
                    f"crop of data.hr_size={self.size}: lower it, or use data.crop='resize'"
                )
            pictures = self._crop(self._rescaled(image, rng), rng)
        if self.flip and rng.random() < 0.5:
            pictures = {key: x[:, ::-1] for key, x in pictures.items()}
        if self.rotate:
            turns = int(rng.integers(4))
            pictures = {key: np.rot90(x, turns) for key, x in pictures.items()}
        kept = {key: value for key, value in record.items() if key.startswith("_")}
        return kept | {key: np.ascontiguousarray(x) for key, x in pictures.items()}

    def _whole(self, image: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        if self.degradation == "blind":
            lr, sharp = degrade_blind(image, self.scale, self.blind, rng)
            return {"lr": lr, "hr": image} | ({} if sharp is None else {"hr_usm": sharp})
        lr = degrade(image, self.scale, self.degradation, rng, blur_sigma=self.blur_sigma)
        return {"lr": lr, "hr": image}

    def _crop(self, image: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        if self.degradation == "blind":
            return blind_crop(image, self.size, self.scale, self.blind, rng)
        height, width = image.shape[:2]
        # Corners on the LR grid, so that LR and HR cover the same ground.
        top = self.scale * int(rng.integers((height - self.size) // self.scale + 1))
        left = self.scale * int(rng.integers((width - self.size) // self.scale + 1))
        lr, hr = degrade_crop(
            mod_crop(image, self.scale),
            top,
            left,
            self.size,
            self.scale,
            self.degradation,
            rng,
            blur_sigma=self.blur_sigma,
        )
        return {"lr": lr, "hr": hr}

    def _rescaled(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A random window of the picture, shrunk by a factor drawn from `rescale`.

        Shrinking makes new, sharper detail from the same photos (VDSR, Kim et al. 2016, trained on
        such copies). The window is a little larger than the crop, so that the crop has its LR's
        surroundings.
        """
        if self.rescale == (1.0, 1.0):
            return image
        height, width = image.shape[:2]
        least = self.size / min(height, width)
        factor = max(rng.uniform(*self.rescale), least)
        side = int(np.ceil((self.size + self.around) / factor))
        tall, wide = min(side, height), min(side, width)
        top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
        target = tuple(max(self.size, int(n * factor)) for n in (tall, wide))
        return imresize(image[top : top + tall, left : left + wide], size=target)


def train_transform(data: ConfigDict) -> Callable[[Any], Any]:
    """The Grain transform of a `data` section: MapDataset of records -> MapDataset of examples.

    The dataset must carry a seed (`.seed(n)`); each example's randomness depends on that and on its
    global index only. See `MakeExample` for the examples. Raises UserError for impossible settings.
    """
    make = MakeExample(data)
    return lambda dataset: dataset.random_map(make)


def validation_pairs(data: ConfigDict) -> Iterator[Pair]:
    """(name, lr, hr) of each validation picture, uint8, whole.

    Pictures are cut to a multiple of the scale (or resized to hr_size where `data.crop` says so). A
    range of blur, or a blind degradation, is drawn from the picture's index: the same in every
    evaluation. HR is never sharpened here.
    """
    for index, record in enumerate(_each(open_source(data, "validation"))):
        hr = mod_crop(record["image"], data.scale)
        rng = np.random.default_rng(index)
        if data.degradation == "blind":
            lr, _ = degrade_blind(hr, data.scale, data.blind, rng)
        else:
            lr = degrade(hr, data.scale, data.degradation, rng, blur_sigma=tuple(data.blur_sigma))
        yield record["_name"], lr, hr


def _each(source: Any) -> Iterator[dict[str, Any]]:
    """All records once; a skipped picture's stand-in is not given a second time."""
    seen = set()
    for index in range(len(source)):
        record = source[index]
        if record["_name"] not in seen:
            seen.add(record["_name"])
            yield record


def folder_pairs(
    path: str | Path, scale: int, gray: str = "keep", shard: Shard | None = None
) -> Iterator[Pair]:
    """Pairs for measuring on a benchmark folder.

    Args:
      path: a folder of HR pictures, whose LR is made by MATLAB's bicubic; or one that also holds
        the LR pictures, in a layout of `jaxgen.data.sr.pairing`.
      scale: HR pictures are cut to a multiple of it.
      gray: "keep": a gray HR picture is given as (h, w), which `sr_metrics` measures as such;
        "replicate": as three equal channels.
      shard: only this share of the pictures; empty where there are more shares than pictures.

    Yields:
      (name, lr uint8 (h, w, 3), hr uint8 (scale*h, scale*w, 3) or gray (scale*h, scale*w)).

    Raises:
      UserError: no pictures, an LR is missing or of another size, pairs that nothing tells apart,
        an unreadable file.
    """
    if gray not in ("keep", "replicate"):
        raise UserError(f"unknown gray rule {gray!r}: use 'keep' or 'replicate'")
    files, low, folder = find_pairs(Path(path).expanduser(), scale)
    for file in files if shard is None else shard.of(files):
        name = _name(file, folder)
        if gray == "keep":
            hr, _, was_gray = read_image_with_alpha(file)
        else:
            hr, was_gray = read_image(file), False
        if min(hr.shape[:2]) < scale:
            raise UserError(f"{file} is smaller than scale {scale}; remove it")
        hr = mod_crop(hr, scale)
        lr = read_image(low[file]) if file in low else degrade(hr, scale)
        if (lr.shape[0] * scale, lr.shape[1] * scale) != hr.shape[:2]:
            raise UserError(
                f"{low[file]} is {lr.shape[1]}x{lr.shape[0]}, but {file.name} at "
                f"scale {scale} needs {hr.shape[1] // scale}x{hr.shape[0] // scale}"
            )
        yield name, lr, hr[..., 0] if was_gray else hr


def pair_names(path: str | Path, scale: int) -> list[str]:
    """The names that `folder_pairs` gives, of all pictures; UserError as there."""
    files, _, folder = find_pairs(Path(path).expanduser(), scale)
    return [_name(file, folder) for file in files]


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix() if file != folder else file.name
