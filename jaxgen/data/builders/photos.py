"""The dataset `photos`: the real photos that scikit-image carries, as a TFDS builder.

Fifteen training pictures, two for validation (astronaut and chelsea, never trained on). Nothing is
downloaded: scikit-image installs these files, and its synthetic ones (logos, charts, phantoms) and
those that it would fetch are left out. Prepared once, in about a second, in the user's cache.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds
from absl import logging
from PIL import Image

from jaxgen import cache
from jaxgen.data.picture_files import read_image
from jaxgen.errors import UserError

TRAIN = (
    # Colour.
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
    "rocket.jpg",
    # Gray, as three equal channels.
    "brick.png",
    "camera.png",
    "cell.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "moon.png",
    "page.png",
)
VALIDATION = ("astronaut.png", "chelsea.png")


def _folder() -> Path:
    """scikit-image's data folder, found without importing the package (that takes a while)."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the source 'photos' needs scikit-image: pip install scikit-image")
    return Path(spec.submodule_search_locations[0]) / "data"


class Photos(tfds.core.GeneratorBasedBuilder):
    """Records {"image": uint8 (h, w, 3), "name": text}; splits train and validation."""

    name = "photos"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: dict[str, str] = {"1.0.0": "15 training and 2 validation photos."}  # noqa: RUF012

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                    "name": tfds.features.Text(),
                }
            ),
            homepage="https://scikit-image.org/docs/stable/api/skimage.data.html",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        del dl_manager  # nothing to download
        return {
            "train": self._generate_examples(TRAIN),
            "validation": self._generate_examples(VALIDATION),
        }

    def _generate_examples(self, files: tuple[str, ...]) -> Iterator[tuple[str, dict]]:
        for file in files:
            path = _folder() / file
            if not path.is_file():
                raise UserError(
                    f"this scikit-image has no {file}: pip install --force-reinstall scikit-image"
                )
            # Encoded bytes: TFDS would use TensorFlow to encode an array.
            png = io.BytesIO()
            Image.fromarray(read_image(path)).save(png, format="PNG")
            png.seek(0)
            name = Path(file).stem
            yield name, {"image": png, "name": name}


def builder(data_dir: str | os.PathLike = "") -> Photos:
    """The builder, prepared; `data_dir` "" is `tfds` in the user's cache.

    Two processes that start at once each prepare in a folder of their own; the first to finish
    renames its folder to the final place, the other one takes what it finds there.

    Raises:
      UserError: the folder cannot be written.
    """
    root = Path(data_dir).expanduser() if data_dir else cache.root() / "tfds"
    ready = Photos(data_dir=str(root), file_format="array_record")
    target = Path(ready.data_dir)
    if target.exists() and ready.is_prepared():
        return ready
    try:
        root.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".photos-", dir=root))
    except OSError as error:
        raise UserError(
            f"cannot write {root}: {error.strerror}; set JAXGEN_CACHE to a folder of yours"
        ) from None
    try:
        logging.info("preparing the embedded photos in %s", root)
        _write(scratch)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(scratch / target.relative_to(root), target)
        except OSError:
            # Another process was first, or the target is what a killed one left half-way.
            if not Photos(data_dir=str(root), file_format="array_record").is_prepared():
                shutil.rmtree(target, ignore_errors=True)
                os.rename(scratch / target.relative_to(root), target)
    except OSError as error:
        raise UserError(f"cannot prepare the photos in {root}: {error}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Photos(data_dir=str(root), file_format="array_record")


def named(config: str, data_dir: str | os.PathLike) -> Photos:
    """The builder, prepared, of the one config, which is "". Raises UserError as `builder`."""
    if config:
        raise UserError(f"photos/{config}: the photos have no configs; give photos")
    return builder(data_dir)


def _write(folder: Path) -> None:
    """Writes the dataset into `folder`; TFDS's progress bars and prints are kept quiet."""
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            Photos(data_dir=str(folder), file_format="array_record").download_and_prepare(
                file_format="array_record"
            )
    finally:
        tfds.enable_progress_bar()
