"""Where records come from: the embedded photos, a folder, a TFDS dataset, DIV2K + Flickr2K.

`open_source(data, split)` gives a random-access `Pictures`: `len`, and `[i]` -> {"image": uint8
(h, w, 3), "_name": str}. It can be pickled into Grain's workers, keeps decoded pictures in memory
up to `data.cache_mb`, and skips (or refuses) what it cannot use. The images are read-only: they are
the cache's own.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.picture_files import list_images, read_image
from jaxgen.data.picture_source import Files, Pictures, Reader, usable
from jaxgen.data.sr.section import check
from jaxgen.data.tfds import open_tfds, tfds_builder
from jaxgen.errors import UserError


@dataclasses.dataclass(frozen=True)
class TfdsReader:
    """A TFDS data source; `key` is the image feature, `label` says what to call unnamed records."""

    records: Any
    key: str
    label: str

    def __len__(self) -> int:
        return len(self.records)

    def read(self, index: int) -> tuple[str, np.ndarray]:
        record = self.records[index]
        image = record[self.key]
        image = read_image(image) if isinstance(image, bytes) else np.asarray(image)
        if image.ndim == 2:
            image = image[..., None]
        if image.dtype != np.uint8 or image.shape[2] not in (1, 3):
            raise UserError(
                f"{self.label}: feature {self.key!r} gives {image.dtype} {image.shape}, "
                "not pictures; set data.image_key"
            )
        name = record.get("name", f"{self.label}#{index}")
        name = name.decode() if isinstance(name, bytes) else str(name)
        return name, np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def open_source(data: ConfigDict, split: str) -> Pictures:
    """Opens `data.source` for "train" or "validation".

    Training pictures must hold a crop of `data.hr_size` (unless `data.crop` is "resize"), and
    validation ones an SSIM window inside the shaved border. With `data.crop="resize"` the records
    are already resized to `hr_size`, so that the cache holds the small form.

    Raises:
      UserError: nothing usable there, with what to do.
    """
    check(data)
    if split not in ("train", "validation"):
        raise ValueError(f"split must be train or validation, not {split!r}")
    if data.crop == "resize":
        min_side = 1
    elif split == "train":
        min_side = data.hr_size
    else:
        # Cut to a multiple of scale and shaved by scale on each side, 11 pixels must be left.
        min_side = 11 + 3 * data.scale
    reader: Reader
    if data.source == "photos":
        reader = _photos(split)
    elif data.source == "tfds":
        reader = _tfds(data, split)
    else:
        files = _folder(data, split) if data.source == "folder" else _df2k(data, split)
        reader = usable(files, min_side, data.on_bad)
    return Pictures(
        reader,
        min_side=min_side,
        resize_to=data.hr_size if data.crop == "resize" else None,
        on_bad=data.on_bad,
        cache_mb=data.cache_mb,
    )


# ---- the embedded photos and TFDS ---------------------------------------------------------------


def _photos(split: str) -> TfdsReader:
    import tensorflow_datasets as tfds

    # Decoded by `read_image`: TFDS's own decoder warns that OpenCV is missing.
    decoders = {"image": tfds.decode.SkipDecoding()}
    records = open_tfds(tfds_builder("photos"), split, "photos", "", decoders=decoders)
    return TfdsReader(records, "image", "photos")


def _tfds(data: ConfigDict, split: str) -> TfdsReader:
    if not data.name:
        raise UserError("data.source='tfds' needs data.name, such as 'div2k/bicubic_x4'")
    builder = tfds_builder(data.name, data.data_dir)
    key = _image_key(builder.info.features, data)
    spec = _tfds_split(builder.info.splits, split, data.holdout)
    records = open_tfds(builder, spec, data.name, data.data_dir)
    return TfdsReader(records, key, f"{data.name}:{spec}")


def _tfds_split(splits: Any, split: str, holdout: int) -> str:
    """The TFDS split to read: by name, validation falling back to test, then to held-out train."""
    if not splits:  # not prepared: TFDS will say so when it is opened
        return split
    for held in ("validation", "test"):
        if held in splits:
            return held if split == "validation" else "train"
    if not holdout:
        raise UserError("this dataset has one split only; set data.holdout above 0")
    return f"train[-{holdout}:]" if split == "validation" else f"train[:-{holdout}]"


def _image_key(features: Any, data: ConfigDict) -> str:
    import tensorflow_datasets as tfds

    found = [key for key, kind in features.items() if isinstance(kind, tfds.features.Image)]
    if data.image_key:
        if data.image_key not in found:
            raise UserError(
                f"{data.name} has no image feature {data.image_key!r}; it has {', '.join(found)}"
            )
        return data.image_key
    for usual in ("image", "hr"):
        if usual in found:
            return usual
    if len(found) != 1:
        raise UserError(
            f"{data.name} has {len(found)} image features ({', '.join(found) or 'none'}); "
            "name one by data.image_key"
        )
    return found[0]


# ---- folders ------------------------------------------------------------------------------------


def _named(folder: str | Path) -> Files:
    """(path below the folder, path) of each picture in it."""
    root = Path(folder).expanduser()
    return [(p.relative_to(root).as_posix() if p != root else p.name, p) for p in list_images(root)]


def _pictures_in(folder: str | Path) -> Files:
    files = _named(folder)
    if not files:
        raise UserError(f"{folder} holds no pictures (PNG, JPEG, WebP, TIFF or BMP)")
    return files


def _held_out(files: Files, split: str, count: int) -> Files:
    """The `count` files of the lowest hash are for validation, the others for training.

    By hash of the name, so that the choice is spread over the folder, is the same on every machine
    and hardly moves when pictures are added.
    """
    if count >= len(files):
        raise UserError(
            f"data.holdout={count} leaves none of the {len(files)} pictures to train on; lower it, "
            "or set data.path_validation"
        )
    if count == 0 and split == "validation":
        raise UserError("no validation pictures: set data.path_validation or data.holdout")
    ranked = sorted(files, key=lambda file: hashlib.sha256(file[0].encode()).digest())
    held = {name for name, _ in ranked[:count]}
    return [file for file in files if (file[0] in held) == (split == "validation")]


def _folder(data: ConfigDict, split: str) -> Files:
    if not data.path:
        raise UserError("data.source='folder' needs data.path, the folder of your pictures")
    if split == "validation" and data.path_validation:
        return _pictures_in(data.path_validation)
    files = _pictures_in(data.path)
    if not data.path_validation:
        return _held_out(files, split, data.holdout)
    # The validation folder may lie inside the other one: its pictures are not trained on.
    inside = Path(data.path_validation).expanduser().resolve()
    kept = [file for file in files if not file[1].resolve().is_relative_to(inside)]
    if not kept:
        raise UserError(f"{data.path} holds only the validation pictures of {inside}")
    return kept


def _df2k(data: ConfigDict, split: str) -> Files:
    """DIV2K and Flickr2K, one after the other; validation is DIV2K's own where it is there."""
    if not (data.div2k and data.flickr2k):
        raise UserError("data.source='df2k' needs data.div2k and data.flickr2k, two folders")
    if split == "validation":
        official = Path(data.div2k).expanduser() / "DIV2K_valid_HR"
        if data.path_validation or official.is_dir():
            return _pictures_in(data.path_validation or official)
    files: Files = []
    for label, folder, usual in (
        ("div2k", Path(data.div2k).expanduser(), "DIV2K_train_HR"),
        ("flickr2k", Path(data.flickr2k).expanduser(), "Flickr2K_HR"),
    ):
        # The archives unpack to HR and LR folders side by side; only HR pictures are wanted.
        folder = folder / usual if (folder / usual).is_dir() else folder
        files += [(f"{label}/{name}", path) for name, path in _pictures_in(folder)]
    if data.path_validation or (Path(data.div2k).expanduser() / "DIV2K_valid_HR").is_dir():
        return files
    return _held_out(files, split, data.holdout)
