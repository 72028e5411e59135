"""Captioned pictures: the `data` section of text-to-image configs, examples and tokenizers.

A source's record is {"image": uint8 (h, w, 3), "_captions": tuple of texts, "meaning": int}: where
two records' meanings differ, no caption of one is true of the other's picture. A training example
is {"image": uint8 (n, n, 3), "tokens": int32 (t,), "mask": bool (t,), "meaning": int32 ()}; with
`data.embeddings` it holds "words": float32 (t, w) and "sentence": float32 (e,), and no tokens.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from jaxgen.data.checks import check_choices, check_keys, check_least
from jaxgen.data.text.tokens import SPECIAL, UNKNOWN, Tokenizer, WordTokenizer, fill, split_words
from jaxgen.errors import UserError

_CHOICES = {
    "source": ("shapes", "emoji", "folder", "cub", "coco"),
    "crop": ("center", "random", "bbox"),
    "tokenizer": ("words", "bpe"),
    "on_bad": ("skip", "error"),
}
SPLITS = ("train", "validation", "held_out")
# What each tokenizer is made of: the key that `resolve` fills.
_FILLED = {"words": "vocabulary", "bpe": "tokenizer_json"}
# Scenes that are validated on; all other sources give the pictures they have.
_VALIDATION_SCENES = 1000
# A tokenizer for scenes has seen enough after so many: they are made of a few words.
_READ_SCENES = 2000


def defaults() -> ConfigDict:
    """The section `data` of a text-to-image config: scenes of one shape, 32 px."""
    return ConfigDict(
        {
            "source": "shapes",  # shapes | emoji | folder | cub | coco
            "size": 32,  # side of the pictures
            "path": "",  # folder, coco: the pictures
            "captions": "",  # folder: JSON Lines, CSV or a folder of texts, "": found in `path`;
            # cub, coco: the folder of the texts
            "font": "",  # emoji: a bitmap font file; "": Noto Color Emoji where Debian puts it
            "data_dir": "",  # cub: where TFDS keeps what it prepared; "": TFDS's own default
            "holdout": 0.1,  # folder, emoji: share of the pictures kept for validation
            "objects": (1, 1),  # shapes: the least and most objects in a scene
            "count": 20_000,  # shapes: scenes
            "crop": "center",  # center | random | bbox (cub: around the bird) and random
            "enlarge": 1.0,  # random, bbox: cut from a picture this many times as large
            "flip": False,  # left-right; not where captions say left and right
            "tokenizer": "words",  # words | bpe: trained on the captions
            "vocabulary": (),  # words: in the order of their ids; (): from the captions
            "vocabulary_size": 1024,  # bpe: ids; words: the most frequent, at most so many
            "tokenizer_json": "",  # bpe: as the library `tokenizers` writes it; "": trained
            "length": 24,  # tokens per text, the start and padding included
            "embeddings": "",  # file of precomputed text features; "": the encoder reads the text
            "captions_per_example": 1,  # with embeddings: the sentence is the mean of so many
            "on_bad": "skip",  # unusable pictures and captions: skip (with a warning) | error
            "cache_mb": 512,  # decoded pictures kept in memory, per process
            "workers": 0,  # worker processes; 0: threads of this process only
            "threads": 2,  # reading threads per process
        }
    )


def check(data: ConfigDict) -> None:
    """Refuses unknown keys and impossible values of a `data` section.

    Raises:
      UserError: naming the key and what it may be.
    """
    check_keys(data, defaults(), "data", start="jaxgen.data.captioned.section.defaults()")
    check_choices(data, _CHOICES)
    check_least(
        data,
        {
            "size": 8, "count": 1, "enlarge": 1, "vocabulary_size": 1, "length": 2,
            "captions_per_example": 1, "cache_mb": 0, "workers": 0, "threads": 0,
        },
    )  # fmt: skip
    if not 0 <= data.holdout < 1:
        raise UserError(f"data.holdout={data.holdout} must be a share, from 0 to below 1")
    low, high = data.objects
    if not 1 <= low <= high:
        raise UserError(f"data.objects={data.objects} must be a rising range from 1 up")
    if data.enlarge > 1 and data.crop == "center":
        raise UserError(
            f"data.enlarge={data.enlarge} needs data.crop=random or bbox; with center set it to 1"
        )
    if data.crop == "bbox" and data.source != "cub":
        raise UserError(f"data.crop=bbox is for data.source=cub; {data.source} has no boxes")
    if data.source == "shapes" and (data.flip or data.enlarge > 1):
        raise UserError(
            "data.source=shapes: captions say where things are, so data.flip must be False and "
            "data.enlarge 1"
        )
    if data.captions_per_example > 1 and not data.embeddings:
        raise UserError(
            "data.captions_per_example above 1 takes the mean of sentence features, which needs "
            "data.embeddings"
        )
    if data.tokenizer == "bpe" and data.vocabulary_size < len(SPECIAL) + 256:
        raise UserError(
            f"data.vocabulary_size={data.vocabulary_size}: bpe needs {len(SPECIAL) + 256} ids for "
            "the bytes alone"
        )


# ---- tokenizers ----------------------------------------------------------------------------------


def resolve(config: ConfigDict) -> ConfigDict:
    """A copy of a whole config that says all that is needed to read a prompt.

    `data.vocabulary` (tokenizer "words") or `data.tokenizer_json` ("bpe") is made of the training
    captions where it is empty: the same captions give the same result. With `data.embeddings` it is
    the tokenizer of the encoder that made the file, if the file says it. Filled ones stay.

    Raises:
      UserError: impossible settings, or captions that cannot be read.
    """
    config = config.copy_and_resolve_references()
    data = config.data
    check(data)
    if data.embeddings and not data[_FILLED[data.tokenizer]]:
        _take_tokenizer(data)
    if data.tokenizer == "words" and not data.vocabulary:
        data.vocabulary = _make_vocabulary(data)
    if data.tokenizer == "bpe" and not data.tokenizer_json:
        data.tokenizer_json = _train_bpe(data)
    return config


def make_tokenizer(data: ConfigDict) -> Tokenizer:
    """The tokenizer of a resolved config; that of shapes follows from any config.

    Raises:
      UserError: a config whose captions were not read yet.
    """
    key = _FILLED[data.tokenizer]
    filled = data[key]
    if not filled:
        if data.source != "shapes":
            raise UserError(
                f"data.{key} is empty, so no prompt can be read: fill it by "
                "jaxgen.data.captioned.section.resolve(config), which reads the training captions"
            )
        filled = _make_vocabulary(data) if data.tokenizer == "words" else _train_bpe(data)
    if data.tokenizer == "words":
        return WordTokenizer(filled, data.length)
    from jaxgen.data.text.bpe import BPETokenizer

    return BPETokenizer(filled, data.length)


def _take_tokenizer(data: ConfigDict) -> None:
    from jaxgen.data.text.features import Embeddings

    about = Embeddings(data.embeddings).about
    if "tokenizer" not in about:
        return
    if about["tokenizer"] != data.tokenizer:
        raise UserError(
            f"data.embeddings={data.embeddings} is of an encoder with another tokenizer: set "
            f"data.tokenizer={about['tokenizer']}"
        )
    found = about[_FILLED[data.tokenizer]]
    data[_FILLED[data.tokenizer]] = tuple(found) if isinstance(found, list) else found


def about_tokenizer(data: ConfigDict) -> dict[str, Any]:
    """What a file of text features says of its encoder's tokenizer; `data`: resolved."""
    key = _FILLED[data.tokenizer]
    return {"tokenizer": data.tokenizer, key: data[key]}


def _make_vocabulary(data: ConfigDict) -> tuple[str, ...]:
    if data.source == "shapes":
        from jaxgen.data.captioned import shapes

        return tuple(shapes.vocabulary())
    counts = collections.Counter(
        word for text in _training_texts(data) for word in split_words(text)
    )
    if not counts:
        raise UserError(f"the training captions of data.source={data.source} hold no words")
    # Equally frequent words by the alphabet, whatever the order of the captions.
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return tuple(ranked[: data.vocabulary_size])


def _train_bpe(data: ConfigDict) -> str:
    from jaxgen.data.text import bpe

    if data.source == "shapes":
        return _scenes_bpe(data.size, tuple(data.objects), data.count, data.vocabulary_size)
    return bpe.train(_training_texts(data), data.vocabulary_size)


@functools.lru_cache(maxsize=4)
def _scenes_bpe(size: int, objects: tuple[int, int], count: int, vocabulary_size: int) -> str:
    """The tokenizer of scenes: several parts of the program ask for it, and it is the same."""
    from jaxgen.data.captioned import shapes
    from jaxgen.data.text import bpe

    scenes = shapes.Shapes("train", min(count, _READ_SCENES), size, objects)
    texts = [text for i in range(len(scenes)) for text in scenes[i]["_captions"]]
    return bpe.train(texts, vocabulary_size)


def _training_texts(data: ConfigDict) -> Iterable[str]:
    for captions in open_records(data, "train").captions():
        yield from captions


def report(texts: Iterable[str], tokenizer: Tokenizer) -> str:
    """One line on what the tokenizer leaves out of these captions; "" for nothing."""
    total = tokens = unknown = cut = 0
    for text in texts:
        ids = tokenizer.ids(text)
        total, tokens, unknown = total + 1, tokens + len(ids), unknown + ids.count(UNKNOWN)
        cut += len(ids) > tokenizer.length - 1
    parts = []
    if unknown:
        parts.append(
            f"{unknown / tokens:.2%} of the training captions' words are outside the vocabulary "
            f"and read as <unk> (data.vocabulary_size makes it larger)"
        )
    if cut:
        parts.append(
            f"{cut} of {total} captions are longer than data.length={tokenizer.length} tokens and "
            "are cut"
        )
    return "; ".join(parts)


# ---- records and examples ------------------------------------------------------------------------


def open_records(data: ConfigDict, split: str) -> Any:
    """The random-access records of a source: pictures of any size, captions, meaning.

    They have a method `captions()`: an iterator over the records' captions that reads no picture.

    Raises:
      UserError: nothing usable there, with what to do.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, not {split!r}")
    if data.source == "shapes":
        from jaxgen.data.captioned.shapes import Shapes

        count = data.count if split == "train" else _VALIDATION_SCENES
        return Shapes(split, count, data.size, tuple(data.objects), data.cache_mb)
    if split == "held_out":
        raise UserError(f"data.source={data.source} has no split held_out; shapes has one")
    if data.source == "emoji":
        from jaxgen.data.captioned.emoji import Emoji

        return Emoji(data, split)
    if data.source == "cub":
        from jaxgen.data.captioned.cub import open_cub

        return open_cub(data, split)
    if data.source == "coco":
        from jaxgen.data.captioned.coco import open_coco

        return open_coco(data, split)
    from jaxgen.data.captioned.folder import open_folder

    return open_folder(data, split)


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


class MakeExample:
    """One record -> one training example; a class because Grain pickles it into its workers.

    Draws, in this order, one of the record's captions, the crop's place, and the flip.

    Raises:
      UserError: a caption that `data.embeddings` does not hold.
    """

    def __init__(self, data: ConfigDict):
        check(data)
        self.size, self.crop, self.flip = data.size, data.crop, data.flip
        self.read: Callable[[tuple[str, ...], np.random.Generator], dict[str, np.ndarray]]
        if data.embeddings:
            from jaxgen.data.text.features import ReadFeatures

            self.read = ReadFeatures(data.embeddings, data.length, data.captions_per_example)
        else:
            self.read = ReadTokens(make_tokenizer(data))

    def __call__(self, record: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        text = self.read(record["_captions"], rng)
        image = record["image"]
        height, width = image.shape[:2]
        if self.crop == "center":
            image = center(image, self.size)
        elif (height, width) != (self.size, self.size):
            top = int(rng.integers(height - self.size + 1))
            left = int(rng.integers(width - self.size + 1))
            image = image[top : top + self.size, left : left + self.size]
        if self.flip and rng.random() < 0.5:
            image = image[:, ::-1]
        return {
            "image": np.ascontiguousarray(image),
            **text,
            "meaning": np.int32(record["meaning"]),
        }


class CenterCropped:
    """Records with the middle square of their pictures, of `size` pixels."""

    def __init__(self, records: Any, size: int):
        self._records, self._size = records, size

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self._records[index]
        return {**record, "image": center(record["image"], self._size)}


def center(image: np.ndarray, size: int) -> np.ndarray:
    """The middle square of a picture (h, w, 3): (size, size, 3), the picture itself if it is so."""
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def train_data(data: ConfigDict) -> tuple[Any, Callable[[Any], Any]]:
    """(records, transform) for `jaxgen.task.Task.train_data`.

    What the tokenizer leaves out of the training captions is logged once, here.

    Raises:
      UserError: impossible settings, or nothing to train on.
    """
    make = MakeExample(data)
    records = open_records(data, "train")
    if isinstance(make.read, ReadTokens) and data.source != "shapes":
        texts = (text for captions in records.captions() for text in captions)
        if said := report(texts, make.read.tokenizer):
            logging.warning("%s", said)
    return records, lambda dataset: dataset.random_map(make)


# What was opened last: every evaluation of a run asks for the same again.
_validation: dict[tuple[str, str], CenterCropped] = {}


def validation_data(data: ConfigDict, split: str = "validation") -> Any:
    """Records without randomness: {"image": uint8 (n, n, 3), "_captions", "meaning"}, and more.

    Args:
      split: "validation", or "held_out": shapes in pairs of colour and shape that are never
        trained on.

    Raises:
      UserError: as `open_records`.
    """
    check(data)
    key = (data.to_json(sort_keys=True), split)
    if key not in _validation:
        if len(_validation) > 3:
            _validation.clear()
        _validation[key] = CenterCropped(open_records(data, split), data.size)
    return _validation[key]
