"""What the sources of captioned pictures share: fitting, holding out, and telling meanings apart.

`CaptionedPictures` is the random-access source behind `folder`, `cub` and `coco`.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxgen.data import buckets
from jaxgen.data.captioned import section
from jaxgen.data.picture_source import Pictures, Reader
from jaxgen.data.text.tokens import split_words
from jaxgen.data.text.unicode import lower, nfc
from jaxgen.errors import UserError, shown

FEW = 0.5  # share of all pairs of pictures that differ in meaning, below which it is said


@dataclasses.dataclass(frozen=True)
class CoveringReader:
    """Another reader's pictures, each scaled to just cover its shape, `enlarge` times as large.

    Scaled before they are cached, so that the cache holds the small form.

    Args: shapes: of each picture, or one of all.
    """

    reader: Reader
    shapes: tuple[buckets.Shape, ...]
    enlarge: float

    def __len__(self) -> int:
        return len(self.reader)

    def read(self, index: int) -> tuple[str, np.ndarray]:
        name, image = self.reader.read(index)
        shape = self.shapes[index % len(self.shapes)]
        return name, buckets.cover(image, *(round(self.enlarge * side) for side in shape))


def buckets_of(paths: Sequence[str], data: ConfigDict, split: str) -> tuple[buckets.Shape, ...]:
    """Each picture's bucket; () where all are cut square, as those to validate on are."""
    if split != "train" or not section.bucketed(data):
        return ()
    return buckets.of_files(paths, data.size, data.bucket_ratio, section.bucket_step(data))


def covering(reader: Reader, shapes: tuple[buckets.Shape, ...], data: ConfigDict) -> Reader:
    """A reader of pictures from which `data.size`, or each picture's bucket, is cut."""
    return CoveringReader(reader, shapes or ((data.size, data.size),), data.enlarge)


class CaptionedPictures:
    """Records {"image": uint8 (h, w, 3), "_name", "_captions": tuple of texts, "meaning": int}.

    The shorter side of the pictures is `data.size` times `data.enlarge`; with buckets they cover
    theirs, "_shape", so many times as large.

    Args:
      reader: the pictures; unusable ones are treated as `data.on_bad` says.
      captions, meanings: by the reader's names of the pictures.
      shapes: each picture's bucket; (): none.
    """

    def __init__(
        self,
        reader: Reader,
        captions: Mapping[str, tuple[str, ...]],
        meanings: Mapping[str, int],
        data: ConfigDict,
        shapes: tuple[buckets.Shape, ...] = (),
    ):
        self._captions, self._meanings = dict(captions), dict(meanings)
        self.shapes = shapes
        reader = covering(reader, shapes, data)
        self._pictures = Pictures(reader, on_bad=data.on_bad, cache_mb=data.cache_mb)

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self._pictures[index]  # for an unusable picture another one, hence by its name
        name = record["_name"]
        shape = {"_shape": self.shapes[index]} if self.shapes else {}
        about = {"_captions": self._captions[name], "meaning": self._meanings[name]}
        return {**record, **about, **shape}

    def captions(self) -> Iterator[tuple[str, ...]]:
        """Every picture's captions; reads no picture."""
        yield from self._captions.values()

    def mismatches(self) -> str:
        """One line where hardly any picture has a caption that is false of it; else ""."""
        return few_mismatches(self._captions, self._meanings)


def fit(image: np.ndarray, side: int) -> np.ndarray:
    """A picture (h, w, 3) resized so that its shorter side is `side`; itself if it is so."""
    return buckets.cover(image, side, side)


def normalised(caption: str) -> str:
    """The caption's words and commas; two captions equal in them say the same."""
    return " ".join(split_words(caption)) or lower(caption.strip())


def shared_meanings(captions: Sequence[Iterable[str]]) -> list[int]:
    """One number for each picture's captions, equal for pictures that share an equal caption.

    So it is for pictures that are linked by others in between. The number is the index of the
    first picture of such a group.
    """
    leader = list(range(len(captions)))

    def find(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    first: dict[str, int] = {}
    for i, texts in enumerate(captions):
        for text in texts:
            a, b = find(first.setdefault(normalised(text), i)), find(i)
            leader[max(a, b)] = min(a, b)
    return [find(i) for i in range(len(captions))]


def few_mismatches(captions: Mapping[str, tuple[str, ...]], meanings: Mapping[str, int]) -> str:
    """One line where two pictures of different meaning are rare, with the caption at fault.

    Args: both by the pictures' names; those with captions count.
    """
    groups = collections.Counter(meanings[name] for name in captions)
    total = len(captions)
    largest, size = groups.most_common(1)[0] if groups else (0, 0)
    differ = 1 - sum(count**2 for count in groups.values()) / max(1, total) ** 2
    if total < 2 or differ >= FEW:
        return ""
    shared = collections.Counter(
        normalised(text)
        for name, texts in captions.items()
        if meanings[name] == largest
        for text in dict.fromkeys(texts)
    )
    text, times = shared.most_common(1)[0]
    if size == total:
        what = "all captions are equal, or linked by equal ones: no caption is false of any picture"
    else:
        what = (
            f"{size:,} of {total:,} pictures have one meaning, by equal captions: of two pictures "
            f"{1 - differ:.0%} can't be mismatched"
        )
    stock = f" ({times:,} pictures have the caption {shown(text)})" if times > 1 else ""
    return (
        f"{what}{stock}; losses of mismatched pairs learn little or nothing: leave out captions "
        "that say nothing of their picture, and write more particular ones"
    )


def hold_out(names: Iterable[str], share: float) -> set[str]:
    """The names of the lowest hash, `share` of them: the same on every machine.

    Hardly any other is chosen when names are added. At least one, if `share` is above 0 and
    there are two or more.
    """
    # The same where a file system writes names in another form, or not in UTF-8.
    encoded = {name: nfc(name).encode(errors="surrogateescape") for name in set(names)}
    ranked = sorted(encoded, key=lambda name: hashlib.sha256(encoded[name]).digest())
    count = round(share * len(ranked))
    if share > 0 and len(ranked) > 1:
        count = min(max(count, 1), len(ranked) - 1)
    return set(ranked[:count])


def named(names: Sequence[str], most: int = 5) -> str:
    """The first few names, for a message."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def refuse_empty(count: int, what: str) -> None:
    """Raises UserError where nothing is left."""
    if not count:
        raise UserError(f"no captioned picture is left: {what}")
