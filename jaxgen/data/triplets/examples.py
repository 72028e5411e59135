"""Training examples of composed retrieval.

An example is {"source": uint8 (n, n, 3), "target": uint8 (k, n, n, 3), "tokens": int32 (k, t),
"mask": bool (k, t)}: one picture, k = `data.per_source` texts and what each asks for; n =
`data.size`, t = `data.length`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
from absl import logging
from ml_collections import ConfigDict
from PIL import Image

from jaxgen.data.middle import middle_square
from jaxgen.data.triplets.section import check
from jaxgen.data.triplets.source import Triplets, find_source
from jaxgen.data.triplets.words import UNKNOWN, Words, vocabulary
from jaxgen.errors import UserError

# What was opened last: the tokenizer, training and evaluations of a run ask for the same again.
_opened: dict[tuple[str, int], Triplets] = {}


def open_split(data: ConfigDict, number: int) -> Triplets:
    """The split that is trained on (0), evaluated on (1), or another of the source's.

    Raises:
      UserError: impossible settings, or nothing usable there.
    """
    check(data)
    place = data.copy_and_resolve_references()
    with place.unlocked():
        place.vocabulary = ()
    key = (place.to_json(sort_keys=True), number)
    if key not in _opened:
        if len(_opened) > 3:
            _opened.clear()
        source = find_source(data.source)
        _opened[key] = source.open_split(data, source.SPLITS[number])
    return _opened[key]


def resolve(config: ConfigDict) -> ConfigDict:
    """A copy of the config with the vocabulary of its training texts; a filled one stays.

    Raises:
      UserError: impossible settings, or texts that cannot be read.
    """
    config = config.copy_and_resolve_references()
    if not config.data.vocabulary:
        config.data.vocabulary = vocabulary(open_split(config.data, 0).texts())
    return config


def make_words(data: ConfigDict) -> Words:
    """The tokenizer of a config; one whose texts were not read yet knows no word."""
    return Words(data.vocabulary, data.length)


def square(image: np.ndarray, size: int) -> np.ndarray:
    """A picture's middle square at `size` pixels, bilinear, as TIRG has it."""
    return middle_square(image, size, Image.Resampling.BILINEAR)


Fit = Callable[[np.ndarray, int], np.ndarray]


class Reader(Protocol):
    """What reads a text."""

    def fill(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """(tokens (t,) int32, mask (t,) bool)."""


class MakeExample:
    """The number of a picture that can be changed -> one training example.

    A class because Grain pickles it into its workers.
    """

    def __init__(
        self, data: ConfigDict, triplets: Triplets, words: Reader | None = None, fit: Fit = square
    ):
        self.triplets, self.words, self.fit = triplets, words or make_words(data), fit
        self.size, self.count = data.size, data.per_source

    def __call__(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        items = self.triplets.draw(index, self.count, rng)
        texts = [self.words.fill(item.text) for item in items]
        source = self.triplets.picture(items[0].source, source=True)
        targets = [self.triplets.picture(item.target) for item in items]
        return {
            "source": np.ascontiguousarray(self.fit(source, self.size)),
            "target": np.stack([self.fit(one, self.size) for one in targets]),
            "tokens": np.stack([tokens for tokens, _ in texts]),
            "mask": np.stack([mask for _, mask in texts]),
        }


def train_data(
    data: ConfigDict, words: Reader | None = None, fit: Fit = square
) -> tuple[Any, Callable[[Any], Any]]:
    """(records, transform) for `jaxgen.task.Task.train_data`.

    Args:
      words: what reads the texts; None: by `data.vocabulary`.
      fit: (picture, size) -> the picture at that size.

    Raises:
      UserError: impossible settings, or nothing to train on.
    """
    triplets = open_split(data, 0)
    if not len(triplets):
        raise UserError(f"data.source={data.source} has nothing to train on in {data.path}")
    if words is None and (said := report(triplets.texts(), make_words(data))):
        logging.warning("%s", said)
    make = MakeExample(data, triplets, words, fit)
    return range(len(triplets)), lambda dataset: dataset.random_map(make)


def report(texts: Iterable[str], words: Words) -> str:
    """One line on what is not read of training texts; "" for nothing."""
    total = unknown = cut = 0
    for text in texts:
        ids = words.ids(text)
        total, unknown, cut = total + 1, unknown + (UNKNOWN in ids), cut + (len(ids) > words.length)
    parts = []
    if unknown:
        parts.append(f"{unknown} of {total} training texts have words outside data.vocabulary")
    if cut:
        parts.append(f"{cut} of {total} are longer than data.length={words.length} words: cut")
    return "; ".join(parts)
