"""Text features computed beforehand, in one ArrayRecord file: one record per caption.

A frozen text encoder (CLIP's, BERT's, char-CNN-RNN) then runs once per caption and not once per
step. Features are stored as float16: half of float32's bytes, and 11 bits of precision where
bfloat16 has 8; the range, +-65504, is far beyond that of such features and is checked. Records are
found by a hash of the caption's text, so that the file depends on no order of pictures.

Layout: record 0 is JSON about the file; then one record per caption: uint32 tokens, width of the
words, width of the sentence, then the sentence and the words row by row; the last record holds the
captions' hashes, 16 bytes each, in the records' order.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.data import cached
from jaxgen.data.text.unicode import nfc
from jaxgen.errors import UserError

_HEAD = struct.Struct("<III")
_FORMAT = "jaxgen text features 1"
_MAKE = "make the file anew, of all training captions: jaxgen prepare embeddings"


def key(caption: str) -> bytes:
    """16 bytes that stand for a caption: of its text in NFC with single spaces, case kept."""
    words = " ".join(nfc(caption).split())
    return hashlib.sha256(words.encode(errors="surrogatepass")).digest()[:16]


def write(
    path: str | os.PathLike, rows: Iterable[Mapping[str, Any]], about: Mapping[str, Any]
) -> int:
    """Writes a file of features, all or nothing; returns the number of captions.

    Args:
      path: of the file; an older one is replaced.
      rows: {"caption": text, "words": float (tokens, w), "sentence": float (e,)} each; words
        without padding, the same w and e in all. A caption that comes again is left out. In place
        of "caption" a row may have its "key", as those of `Embeddings.rows` do.
      about: what the reader should know, as JSON: the encoder's name, say.

    Raises:
      UserError: shapes that differ, values that float16 cannot hold, no rows, a full disk.
    """
    seen: dict[bytes, None] = {}  # in order

    def records() -> Iterator[bytes]:
        widths: tuple[int, int] | None = None
        for row in rows:
            name = row["key"] if "key" in row else key(row["caption"])
            if name in seen:
                continue
            seen[name] = None
            words, sentence = _half(row, "words", 2), _half(row, "sentence", 1)
            if widths not in (None, (words.shape[1], len(sentence))):
                raise UserError(
                    f"the features of {row['caption']!r} are {words.shape[1]} and "
                    f"{len(sentence)} wide, others {widths}"
                )
            widths = (words.shape[1], len(sentence))
            yield _HEAD.pack(*words.shape, len(sentence)) + sentence.tobytes() + words.tobytes()
        if not seen:
            raise UserError(f"there are no captions to write to {Path(path).expanduser()}")
        yield b"".join(seen)

    cached.write(path, _FORMAT, about, records())
    return len(seen)


class Embeddings(cached.Reader):
    """A file of `write`: `read(caption)` -> (words, sentence).

    Attributes:
      about: what `write` was told. words, sentence: the features' widths.
    """

    KEY, KIND, HOLDS, REMEDY = "data.embeddings", _FORMAT, "text features", _MAKE

    def look(self) -> None:
        """See `Reader`."""
        count = self.count - 1  # the last row holds the captions' hashes
        if count < 1:
            raise ValueError("it holds no captions")
        hashes = self.row(count)
        if len(hashes) != 16 * count:
            raise ValueError("another format")
        _, self.words, self.sentence = _HEAD.unpack_from(self.row(0))
        self._places = {hashes[16 * i : 16 * i + 16]: i for i in range(count)}

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, caption: str) -> bool:
        return key(caption) in self._places

    def rows(self) -> Iterator[dict[str, Any]]:
        """{"key": of the caption, "words", "sentence"} of all, in the file's order; for `write`."""
        for name, place in self._places.items():
            words, sentence = self._record(place)
            yield {"key": name, "words": words, "sentence": sentence}

    def read(self, caption: str) -> tuple[np.ndarray, np.ndarray]:
        """(words float32 (tokens, w), sentence float32 (e,)).

        Raises:
          UserError: a caption that the file does not hold.
        """
        place = self._places.get(key(caption))
        if place is None:
            raise UserError(
                f"data.embeddings={self.path} holds no features of the caption {caption!r}; {_MAKE}"
            )
        return self._record(place)

    def _record(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        with self._damage():
            record = self.row(place)
            tokens, width, length = _HEAD.unpack_from(record)
            values = np.frombuffer(record, "<f2", offset=_HEAD.size).astype(np.float32)
            return values[length:].reshape(tokens, width), values[:length]


class ReadFeatures:
    """Draws from a record's captions and gives their features.

    The sentence is the mean over `count` captions (or all, if there are fewer), as StackGAN and
    GAN-INT-CLS take it; the words are the first drawn caption's, cut and padded to `length`.

    Called with (captions, generator); gives {"words": float32 (length, w), "mask": bool (length,),
    "sentence": float32 (e,)}.
    """

    def __init__(self, path: str, length: int, count: int):
        self.features, self.length, self.count = Embeddings(path), length, count

    def __call__(
        self, captions: tuple[str, ...], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        count = min(self.count, len(captions))
        chosen = rng.choice(len(captions), size=count, replace=False)
        found = [self.features.read(captions[int(i)]) for i in chosen]
        said = found[0][0][: self.length]
        words = np.zeros((self.length, self.features.words), np.float32)
        words[: len(said)] = said
        return {
            "words": words,
            "mask": np.arange(self.length) < len(said),
            "sentence": np.stack([sentence for _, sentence in found]).mean(axis=0),
        }


def _half(row: Mapping[str, Any], name: str, axes: int) -> np.ndarray:
    values = np.asarray(row[name], np.float32)
    if values.ndim != axes or not values.size:
        raise UserError(
            f"the {name} of {row['caption']!r} must have {axes} axes and values, not {values.shape}"
        )
    with np.errstate(over="ignore"):
        half = values.astype("<f2")
    if not np.isfinite(half).all():
        raise UserError(f"the {name} of {row['caption']!r} hold values that float16 cannot hold")
    return half
