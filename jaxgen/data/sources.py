"""Where records come from: the embedded photos, a folder, a TFDS dataset, DIV2K + Flickr2K.

`open_source(data, split)` gives a random-access `Pictures`: `len`, and `[i]` -> {"image": uint8
(h, w, 3), "_name": str}. It can be pickled into Grain's workers, keeps decoded pictures in memory
up to `data.cache_mb`, and skips (or refuses) what it cannot use. The images are read-only: they are
the cache's own.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from jaxgen.data import check
from jaxgen.data.images import image_size, list_images, read_image
from jaxgen.data.prepare import command, prepare, tfds_builder
from jaxgen.data.resize import imresize
from jaxgen.errors import UserError

__all__ = ["Pictures", "open_source", "prepare"]

# Folders up to this size have every file's header read when they are opened, so that bad files are
# named before training starts; in larger ones (ImageNet) they are met on the way.
SCAN_LIMIT = 20_000
_NAMED = 20  # at most so many bad files are listed one by one


class Reader(Protocol):
    """Raw access to a source: `read(i)` -> (name, uint8 (h, w, 3)); raises UserError."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[str, np.ndarray]: ...


@dataclasses.dataclass(frozen=True)
class FileReader:
    """Picture files; `names` are their paths below the source's folder."""

    names: tuple[str, ...]
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> tuple[str, np.ndarray]:
        return self.names[index], read_image(self.paths[index])


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


class Pictures:
    """Random-access records with a memory-bounded cache and a rule for unusable pictures.

    Args:
      reader: where the pictures come from.
      min_side: pictures with a shorter side are unusable.
      resize_to: if given, pictures are resized whole to this square (MATLAB bicubic) and cached so.
      on_bad: "skip": record i is then the next usable one (a fixed rule, so that every process and
        every resumed run sees the same) and the picture is named in a warning; "error": UserError.
      cache_mb: mebibytes of pictures kept, least recently used ones dropped first.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        min_side: int = 1,
        resize_to: int | None = None,
        on_bad: str = "skip",
        cache_mb: int = 512,
    ):
        self._reader = reader
        self._min_side = min_side
        self._resize_to = resize_to
        self._on_bad = on_bad
        self._cache_bytes = cache_mb * 2**20
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._cache: collections.OrderedDict[int, tuple[str, np.ndarray]] = (
            collections.OrderedDict()
        )
        self._held = 0
        self._bad: dict[int, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What travels to a worker: the recipe, not the cache."""
        private = ("_lock", "_cache", "_held", "_bad")
        return {key: value for key, value in self.__dict__.items() if key not in private}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def __len__(self) -> int:
        return len(self._reader)

    @property
    def cached_bytes(self) -> int:
        """Bytes of pictures held now."""
        return self._held

    def __getitem__(self, index: int) -> dict[str, Any]:
        count = len(self)
        index = range(count)[index]  # negative indices and IndexError as of a list
        why = ""
        for step in range(count):
            at = (index + step) % count
            why = self._bad.get(at, "")
            if why:
                continue
            try:
                name, image = self._get(at)
                return {"image": image, "_name": name}
            except UserError as error:
                if self._on_bad == "error":
                    raise
                why = str(error)
                logging.warning("skipping a picture: %s", why)
                with self._lock:
                    self._bad[at] = why
        raise UserError(f"none of the {count} pictures can be used; the last one: {why}")

    def _get(self, index: int) -> tuple[str, np.ndarray]:
        with self._lock:
            if index in self._cache:
                self._cache.move_to_end(index)
                return self._cache[index]
        # Decoded outside the lock: two threads may do the same picture, which is harmless.
        name, image = self._reader.read(index)
        if message := _too_small(image.shape[:2], self._min_side):
            raise UserError(f"{name} {message}")
        if self._resize_to:
            image = imresize(image, size=(self._resize_to, self._resize_to))
        image = np.ascontiguousarray(image)
        image.setflags(write=False)
        with self._lock:
            if index not in self._cache and image.nbytes <= self._cache_bytes:
                self._cache[index] = (name, image)
                self._held += image.nbytes
                while self._held > self._cache_bytes:
                    _, (_, dropped) = self._cache.popitem(last=False)
                    self._held -= dropped.nbytes
        return name, image


def _too_small(size: Sequence[int], min_side: int) -> str:
    height, width = size
    if min(height, width) >= min_side:
        return ""
    return (
        f"is {width}x{height}, smaller than the {min_side} pixels needed on each side: "
        "lower data.hr_size, use data.crop='resize', or remove it"
    )


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

    from jaxgen.data import photos

    # Decoded by `read_image`: TFDS's own decoder warns that OpenCV is missing.
    decoders = {"image": tfds.decode.SkipDecoding()}
    records = photos.builder().as_data_source(split, decoders=decoders)
    return TfdsReader(records, "image", "photos")


def _tfds(data: ConfigDict, split: str) -> TfdsReader:
    if not data.name:
        raise UserError("data.source='tfds' needs data.name, such as 'div2k/bicubic_x4'")
    builder = tfds_builder(data.name, data.data_dir)
    key = _image_key(builder.info.features, data)
    spec = _tfds_split(builder.info.splits, split, data.holdout)
    records = open_tfds(builder, spec, data.name, data.data_dir)
    return TfdsReader(records, key, f"{data.name}:{spec}")


def open_tfds(builder: Any, spec: str, name: str, data_dir: str, **options: Any) -> Any:
    """The data source of a TFDS split such as "train+test".

    Args:
      name: what `jaxgen prepare` calls the dataset. data_dir: its root, "" for TFDS's default.
      options: of `as_data_source`.

    Raises:
      UserError: not prepared, or prepared as TFRecord; with the command that prepares it.
    """
    try:
        return builder.as_data_source(spec, **options)
    except Exception as error:
        if builder.is_prepared() and "file format" in str(error):
            raise UserError(
                f"{builder.data_dir} holds TFRecords, which need TensorFlow; prepare it again "
                f"elsewhere: {command(name, 'OTHER_FOLDER')}"
            ) from None
        if not builder.is_prepared():
            folder = data_dir or builder.data_dir_root
            raise UserError(f"{name} is not prepared; run: {command(name, folder)}") from None
        raise


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

Files = list[tuple[str, Path]]


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


def usable(files: Files, min_side: int, on_bad: str) -> FileReader:
    """Drops (or refuses) files whose header is unreadable or too small; names them in a warning."""
    if len(files) <= SCAN_LIMIT:
        with ThreadPoolExecutor(8) as pool:
            problems = list(pool.map(lambda file: _problem(file[1], min_side), files))
        bad = [problem for problem in problems if problem]
        if bad and on_bad == "error":
            raise UserError(f"{bad[0]} ({len(bad)} such; data.on_bad='skip' leaves them out)")
        for problem in bad[:_NAMED]:
            logging.warning("skipping a picture: %s", problem)
        if len(bad) > _NAMED:
            logging.warning("skipping %d more pictures like these", len(bad) - _NAMED)
        if len(bad) == len(files):
            raise UserError(f"none of the {len(files)} pictures can be used; the first: {bad[0]}")
        files = [file for file, problem in zip(files, problems, strict=True) if not problem]
    return FileReader(tuple(name for name, _ in files), tuple(str(path) for _, path in files))


def _problem(path: Path, min_side: int) -> str:
    try:
        message = _too_small(image_size(path), min_side)
    except UserError as error:
        return str(error)
    return f"{path} {message}" if message else ""
