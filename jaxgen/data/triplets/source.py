"""What a source of composed retrieval is: a module of this package, found by its name.

`data.source` is the module's name, and what the module offers stands in `Source`: a new source is a
new file here, and edits no other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from ml_collections import ConfigDict

from jaxgen.data import named_source

_PACKAGE = "jaxgen.data.triplets"


class Query(NamedTuple):
    """A picture and words that ask for other pictures.

    source: the picture, by its number; -1 where the gallery lacks it. text: what is to change.
    target: caption of the pictures that are right, "" where nobody published it. kind: "" or what
    results are also told apart by ("add"). subset: pictures that are ranked alone, too (CIRR).
    name: the query's own.
    """

    source: int
    text: str
    target: str
    kind: str = ""
    subset: tuple[int, ...] = ()
    name: str = ""


class Drawn(NamedTuple):
    """One training item: (source picture, text, target picture)."""

    source: int
    text: str
    target: int


class Triplets(Protocol):
    """A split: pictures by number, each with a caption; pickled into Grain's workers.

    captions: of each picture; a query is answered by any picture with its target's caption.
    queries: that it is evaluated on. names: of the pictures. keep_source: whether the source stays
    in the ranking, by the data set's own protocol. rules: the protocol in words, for reports.
    """

    captions: Sequence[str]
    queries: Sequence[Query]
    names: Sequence[str]
    keep_source: bool
    rules: str

    def __len__(self) -> int:
        """How many pictures training items begin from."""

    def draw(self, index: int, count: int, rng: np.random.Generator) -> list[Drawn]:
        """`count` training items with one source picture, the `index`-th that can be changed."""

    def picture(self, number: int, source: bool = False) -> np.ndarray:
        """uint8 (h, w, 3); `source`: as it is asked with, where that is another drawing."""

    def texts(self) -> Iterable[str]:
        """What the vocabulary is made of."""


@dataclasses.dataclass(frozen=True)
class Source:
    """The names that a source's module holds; those with a default here may be left out.

    open_split: (data, split) -> `Triplets`; raises UserError where nothing usable is there.
    EXAMPLE: a text that a model trained on it can be asked with.
    SPLITS: that there are; the first is trained on, the second evaluated on.
    check: (data) -> None; raises UserError for settings that it cannot work with.
    """

    open_split: Callable[[ConfigDict, str], Triplets]
    EXAMPLE: str
    SPLITS: tuple[str, ...] = ("train", "test")
    check: Callable[[ConfigDict], None] | None = None


def find_source(name: str) -> Source:
    """The source that `data.source` names.

    Raises:
      UserError: there is none of this name; lists those that there are.
    """
    source: Source = named_source.find(_PACKAGE, name, Source)
    return source
