"""Training examples of captioned pictures.

An example is {"image": uint8 (n, n, 3), "tokens": int32 (t,), "mask": bool (t,), "meaning": int32
()}, n = `data.size`; with `data.embeddings` it holds "words": float32 (t, w) and "sentence":
float32 (e,), and no tokens; with buckets its picture has the record's own shape. For its meaning
see `jaxgen.data.captioned.source.Records`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from jaxgen.data import buckets
from jaxgen.data.captioned.pictures import CaptionedPictures
from jaxgen.data.captioned.records import center, open_records
from jaxgen.data.captioned.section import check
from jaxgen.data.captioned.shape_captions import related
from jaxgen.data.captioned.source import Records, find_source
from jaxgen.data.captioned.tokenizers import make_tokenizer, report
from jaxgen.data.noise import salt_and_pepper
from jaxgen.data.text.tokens import Tokenizer, fill
from jaxgen.errors import UserError


class ReadTokens:
    """Draws one of a record's captions: {"tokens": int32 (t,), "mask": bool (t,)}."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer

    def __call__(
        self, captions: tuple[str, ...], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        caption = captions[int(rng.integers(len(captions)))]
        tokens, mask = fill(self.tokenizer.ids(caption), self.tokenizer.length)
        return {"tokens": tokens, "mask": mask}


# (a record's captions, generator) -> what an example has of them.
ReadCaptions = Callable[[tuple[str, ...], np.random.Generator], dict[str, np.ndarray]]


def caption_reader(data: ConfigDict) -> ReadCaptions:
    """What draws one of a record's captions: its tokens, or with `data.embeddings` its features."""
    if not data.embeddings:
        return ReadTokens(make_tokenizer(data))
    from jaxgen.data.text.features import ReadFeatures

    return ReadFeatures(data.embeddings, data.length, data.captions_per_example)


def training_reader(data: ConfigDict) -> ReadCaptions:
    """`caption_reader` as training has it: with `data.relations`."""
    read, often = caption_reader(data), data.get("relations", 1)
    return ReadOften(read, often) if data.source == "shapes" and often > 1 else read


class ReadOften:
    """`read` of captions of shapes among which those with a relation stand `often` times."""

    def __init__(self, read: ReadCaptions, often: int):
        self.read, self.often = read, often

    def __call__(
        self, captions: tuple[str, ...], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        return self.read(captions + related(captions) * (self.often - 1), rng)


class MakePicture:
    """One record -> {"image": (n, n, c)}, its picture alone.

    A class because Grain pickles it into its workers. Draws, in this order, the crop's place, the
    flip and the noise.
    """

    def __init__(self, data: ConfigDict):
        check(data, captioned=False)
        self.size, self.crop, self.flip = data.size, data.crop, data.flip
        self.salt_pepper = data.get("salt_pepper", 0.0)

    def __call__(self, record: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        image = record["image"]
        rows, columns = shape = record.get("_shape", (self.size, self.size))
        height, width = image.shape[:2]
        if height < rows or width < columns:  # of another bucket, in an unusable one's place
            image = buckets.cover(image, *shape)
            height, width = image.shape[:2]
        if self.crop == "center":
            image = center(image, *shape)
        elif (height, width) != shape:
            top = int(rng.integers(height - rows + 1))
            left = int(rng.integers(width - columns + 1))
            image = image[top : top + rows, left : left + columns]
        if self.flip and rng.random() < 0.5:
            image = image[:, ::-1]
        if self.salt_pepper and rng.random() < 0.5:
            image = salt_and_pepper(image, self.salt_pepper, rng)
        return {"image": np.ascontiguousarray(image)}


class MakeExample(MakePicture):
    """One record -> one training example.

    Draws one of the record's captions, then what `MakePicture` draws.

    Args: read: what reads the captions; None: as `data` says.

    Raises:
      UserError: a caption that `data.embeddings` does not hold.
    """

    def __init__(self, data: ConfigDict, read: ReadCaptions | None = None):
        check(data)
        super().__init__(data)
        self.read = read or caption_reader(data)

    def __call__(self, record: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        text = self.read(record["_captions"], rng)
        picture = super().__call__(record, rng)
        return {**picture, **text, "meaning": np.int32(record["meaning"])}


def train_data(
    data: ConfigDict, read: ReadCaptions | None = None
) -> tuple[Records, Callable[[Any], Any]]:
    """(records, transform) for `jaxgen.task.Task.train_data`.

    What the tokenizer leaves out of the training captions is logged once, here; and so is it where
    hardly any two pictures can be mismatched.

    Args: read: as of `MakeExample`.

    Raises:
      UserError: impossible settings, or nothing to train on.
    """
    check(data)
    make = MakeExample(data, read or training_reader(data))
    records = open_records(data, "train")
    alike = data.get("texts", ())  # what all pictures are called
    if isinstance(records, CaptionedPictures) and not alike and (said := records.mismatches()):
        logging.warning("%s", said)
    if isinstance(make.read, ReadTokens) and find_source(data.source).vocabulary is None:
        texts = (text for captions in records.captions() for text in captions)
        if said := report(texts, make.read.tokenizer):
            logging.warning("%s", said)
    return records, lambda dataset: dataset.random_map(make)


def train_pictures(data: ConfigDict) -> tuple[Records, Callable[[Any], Any]]:
    """As `train_data`, of the pictures alone: examples {"image": (n, n, c)}.

    Raises:
      UserError: impossible settings, or nothing to train on.
    """
    make = MakePicture(data)
    return open_records(data, "train"), lambda dataset: dataset.random_map(make)


class CheckClass:
    """Refuses examples of classes that a model has no number for."""

    def __init__(self, classes: int):
        self.classes = classes

    def __call__(self, example: dict[str, Any]) -> dict[str, Any]:
        if not 0 <= example["meaning"] < self.classes:
            raise UserError(
                f"model.classes={self.classes}: the data have a class {int(example['meaning'])}; "
                "set it above the largest"
            )
        return example
