"""CUB-200-2011 with captions, in text-to-image's split: 150 classes to train on, 50 others to test.

Pictures, classes and boxes are TFDS's `caltech_birds2011`, whose own split is another one: both of
its halves are read and divided by class (8,855 and 2,933 pictures). Captions are those of Reed et
al. (2016), a text file of ten lines per picture, in any tree below `data.captions`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from jaxgen.data.captioned.pictures import CaptionedPictures, named, refuse_empty
from jaxgen.data.captioned.rows import read_lines
from jaxgen.data.picture_files import read_image
from jaxgen.data.text.unicode import nfc
from jaxgen.data.tfds import open_tfds, tfds_builder
from jaxgen.errors import UserError

EXAMPLE = "this bird is red with white and has a very short beak"
BOXES = True
NAME = "caltech_birds2011"
# Numbers of the test classes as CUB counts them, from 1 (Reed et al. 2016).
TEST_CLASSES = frozenset(
    (
        *(1, 4, 6, 8, 9, 14, 23, 29, 31, 33, 34, 35, 36, 37, 38, 43, 49, 51, 53, 66, 72, 79, 83),
        *(84, 86, 91, 95, 96, 98, 101, 102, 103, 112, 114, 119, 121, 130, 135, 138, 147, 156),
        *(163, 165, 166, 180, 183, 185, 186, 187, 197),
    )
)


@dataclasses.dataclass(frozen=True)
class BirdReader:
    """Some of a TFDS source's pictures; `boxed`: cut around the bird."""

    records: Any
    indices: tuple[int, ...]
    names: tuple[str, ...]
    boxed: bool

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> tuple[str, np.ndarray]:
        record = self.records[self.indices[index]]
        image = read_image(record["image"])
        return self.names[index], around(image, record["bbox"]) if self.boxed else image


def around(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The square around a box, clipped to the picture (h, w, 3).

    Half its side is 0.75 times the box's longer one, as in StackGAN (Zhang et al. 2017) and after.

    Args:
      box: (ymin, xmin, ymax, xmax) in shares of the picture.
    """
    height, width = image.shape[:2]
    # TFDS divided whole pixels by the picture's size.
    ymin, xmin, ymax, xmax = np.rint(np.asarray(box) * (height, width, height, width)).astype(int)
    half = int(0.75 * max(ymax - ymin, xmax - xmin))
    y, x = (ymin + ymax) // 2, (xmin + xmax) // 2
    cut = image[max(0, y - half) : y + half, max(0, x - half) : x + half]
    return cut if cut.size else image


def open_records(data: ConfigDict, split: str) -> CaptionedPictures:
    """The birds of the training or the test classes ("validation"); meaning is the class, from 1.

    Raises:
      UserError: not prepared, no captions, or, with `data.on_bad="error"`, pictures without one.
    """
    if not data.captions:
        raise UserError(
            "data.source='cub' needs data.captions: the folder of the text files, CLASS/PICTURE.txt"
        )
    folder = Path(data.captions).expanduser()
    if not folder.is_dir():
        raise UserError(f"data.captions={folder}: no such folder")
    texts = {nfc(path.stem): path for path in sorted(folder.rglob("*.txt"))}
    builder = tfds_builder(NAME, data.data_dir)
    records = _records(builder, data.data_dir)
    indices, names, captions, meanings, without = [], [], {}, {}, []
    for index, (name, number) in enumerate(_classes(records, str(builder.data_dir))):
        if (number in TEST_CLASSES) != (split == "validation"):
            continue
        text = texts.get(nfc(name))
        lines = read_lines(text) if text else ()
        if not lines:
            without.append(name)
            continue
        indices.append(index)
        names.append(name)
        captions[name], meanings[name] = lines, number
    if without:
        said = f"{len(without)} birds have no captions in {folder}: {named(without)}"
        if data.on_bad == "error":
            raise UserError(f"{said}; data.on_bad='skip' leaves them out")
        logging.warning("%s", said)
    refuse_empty(len(names), f"{folder} has no text file for any of {NAME}'s {split} pictures")
    reader = BirdReader(records, tuple(indices), tuple(names), data.crop == "bbox")
    return CaptionedPictures(reader, captions, meanings, data)


def _records(builder: Any, data_dir: str) -> Any:
    import tensorflow_datasets as tfds

    # As bytes: `read_image` decodes the picture, and nobody the mask.
    skip = tfds.decode.SkipDecoding()
    decoders = {"image": skip, "segmentation_mask": skip}
    return open_tfds(builder, "train+test", NAME, data_dir, decoders=decoders)


# By folder and number of records, since the whole dataset is read for it.
_known: dict[tuple[str, int], list[tuple[str, int]]] = {}


def _classes(records: Any, folder: str) -> list[tuple[str, int]]:
    """(name, class from 1) of each record."""
    key = (folder, len(records))
    if key not in _known:
        found = []
        for index in range(len(records)):
            record = records[index]
            path = record["image/filename"]
            path = path.decode() if isinstance(path, bytes) else str(path)
            found.append((PurePosixPath(path).stem, int(record["label"]) + 1))
        _known[key] = found
    return _known[key]
