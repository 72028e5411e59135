"""What a source of captioned pictures is: a module of this package, found by its name.

`data.source` is the module's name, and what the module offers stands in `Source`: a new source is a
new file here, and edits no other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from ml_collections import ConfigDict

from jaxgen.data import named_source

_PACKAGE = "jaxgen.data.captioned"


class Records(Protocol):
    """Random access to captioned pictures; pickled into Grain's workers.

    A record is {"image": uint8 (h, w, 3), "_captions": tuple of texts, "meaning": int} and more,
    h and w being `data.size` or more. With buckets it has "_shape", what is cut from it, and the
    records `shapes`, that of each (`jaxgen.data.buckets`). Where two records' meanings differ, no
    caption of one is true of the other's picture.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...

    def captions(self) -> Iterator[tuple[str, ...]]:
        """The records' captions in their order; reads no picture."""


@dataclasses.dataclass(frozen=True)
class Source:
    """The names that a source's module holds; those with a default here may be left out.

    open_records: (data, split) -> `Records`; raises UserError where nothing usable is there.
    EXAMPLE: a text that a model trained on it can be asked for.
    SPLITS: that there are. "held_out" is of combinations that are never trained on.
    BOXES: whether it can cut a picture around what it shows, as `data.crop=bbox` wants.
    TOKENIZED: so many training records' captions make a tokenizer; None: all.
    vocabulary: () -> every word of its captions in a fixed order, where captions follow from the
      config alone: prompts are then read before any captions are.
    check: (data) -> None; raises UserError for settings that it cannot work with.
    CAPTIONED: whether its pictures have captions. Those without are for autoencoders.
    BUCKETS: whether its pictures can be sorted into buckets by their shape.
    KIND: of its pictures. "photo": uint8 (h, w, 3). "segmentation": uint8 (h, w, 1), classes.
      "depth": float32 (h, w, 1) in [-1, 1].
    """

    open_records: Callable[[ConfigDict, str], Records]
    EXAMPLE: str
    SPLITS: tuple[str, ...] = ("train", "validation")
    BOXES: bool = False
    TOKENIZED: int | None = None
    vocabulary: Callable[[], tuple[str, ...]] | None = None
    check: Callable[[ConfigDict], None] | None = None
    CAPTIONED: bool = True
    BUCKETS: bool = False
    KIND: str = "photo"


def find_source(name: str) -> Source:
    """The source that `data.source` names.

    Raises:
      UserError: there is none of this name; lists those that there are.
    """
    source: Source = named_source.find(_PACKAGE, name, Source)
    return source
