"""Fashion200k (Han et al., ICCV 2017) as TIRG asks it: captions that differ in one word.

    PATH/labels/*_{train,test}_detect_all.txt   path, detection score, caption; by tabs
    PATH/test_queries.txt                       source and target file of each query
    PATH/women/...                              the cropped pictures

A parent is a caption without one of its words; a picture can be changed where one of its parents
has another child. Files are read in sorted order, since the order gives the pictures' numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.text.unicode import read_text
from jaxgen.data.triplets.folders import Files, folder_of, present
from jaxgen.data.triplets.source import Drawn, Query
from jaxgen.errors import UserError

EXAMPLE = "replace red with blue"
SPLITS = ("train", "test")
_MARKS = {".": "dotmark", "?": "questionmark", "&": "andmark", "*": "starmark"}


def open_split(data: ConfigDict, split: str) -> Fashion200k:
    """The pictures of a split, and in "test" the published queries.

    Raises:
      UserError: label files, queries or all pictures are missing.
    """
    folder = folder_of(data)
    files = sorted((folder / "labels").glob(f"*_{split}_detect_all.txt"))
    if not files:
        raise UserError(f"{folder / 'labels'} has no *_{split}_detect_all.txt")
    paths, captions = [], []
    for file in files:
        for line in _lines(file):
            parts = line.split("\t")
            if len(parts) != 3:
                raise UserError(f"{file}: not path, score and caption by tabs: {line[:60]}")
            paths.append(parts[0])
            captions.append(caption_of(parts[2]))
    there = present([folder / path for path in paths], data.on_bad, f"Fashion200k's {split}")
    kept = [i for i, found in enumerate(there) if found]
    paths, captions = [paths[i] for i in kept], [captions[i] for i in kept]
    queries = _queries(folder / "test_queries.txt", paths, captions) if split == "test" else []
    return Fashion200k(data, folder, paths, captions, queries)


def caption_of(text: str) -> str:
    """A label's caption as TIRG's words keep it: its marks spelt out."""
    text = text.strip()
    for mark, word in _MARKS.items():
        text = text.replace(mark, word)
    return text


def different_word(source: str, target: str) -> tuple[str, str, str]:
    """(the source's first word that the target lacks, the converse, the text that says so).

    Where all of one's words stand in the other, its last word is taken, as the original does.
    """
    ours, theirs = source.split(), target.split()
    removed = next((word for word in ours if word not in theirs), ours[-1])
    added = next((word for word in theirs if word not in ours), theirs[-1])
    return removed, added, f"replace {removed} with {added}"


def parents_of(caption: str) -> list[str]:
    """The caption without each of its words, wherever they stand, also within others.

    Of the blanks that this leaves, each pair becomes one, once.
    """
    return [caption.replace(word, "").replace("  ", " ").strip() for word in caption.split()]


class Fashion200k(Files):
    """See `jaxgen.data.triplets.source.Triplets`."""

    def __init__(
        self,
        data: ConfigDict,
        folder: Path,
        paths: list[str],
        captions: list[str],
        queries: list[Query],
    ):
        super().__init__(
            data,
            [folder / path for path in paths],
            captions,
            queries,
            "the source removed, a picture with the target's caption is right",
            paths,
        )
        self._numbers: dict[str, list[int]] = {}
        for number, caption in enumerate(captions):
            self._numbers.setdefault(caption, []).append(number)
        self.children: dict[str, list[str]] = {}
        for caption in self._numbers:
            for parent in parents_of(caption):
                known = self.children.setdefault(parent, [])
                if caption not in known:
                    known.append(caption)
        found: dict[str, list[str]] = {}
        for parent, children in self.children.items():
            for caption in children if len(children) > 1 else ():
                found.setdefault(caption, []).append(parent)
        # By picture: the parents of its caption that have another child.
        self.parents = [found.get(caption, []) for caption in captions]
        self._changeable = [i for i, parents in enumerate(self.parents) if parents]

    def __len__(self) -> int:
        return len(self._changeable)

    def draw(self, index: int, count: int, rng: np.random.Generator) -> list[Drawn]:
        source = self._changeable[index]
        items = []
        for _ in range(count):
            parents = self.parents[source]
            parent = parents[int(rng.integers(len(parents)))]
            own = self.captions[source]
            others = [child for child in self.children[parent] if child != own]
            target = others[int(rng.integers(len(others)))]
            numbers = self._numbers[target]
            text = different_word(own, target)[2]
            items.append(Drawn(source, text, numbers[int(rng.integers(len(numbers)))]))
        return items

    def texts(self) -> Iterable[str]:
        # "replace" and "with" too: the original knows them only where captions hold them.
        return (*self.captions, "replace with")


def _lines(file: Path) -> list[str]:
    return [line for line in read_text(file).splitlines() if line.strip()]


def _queries(file: Path, paths: list[str], captions: list[str]) -> list[Query]:
    numbers = {path: number for number, path in enumerate(paths)}
    queries = []
    for line in _lines(file):
        source, target = line.split()[:2]
        if source not in numbers or target not in numbers:
            continue  # its picture is missing, which was said
        ours, theirs = captions[numbers[source]], captions[numbers[target]]
        text = different_word(ours, theirs)[2]
        queries.append(Query(numbers[source], text, theirs, name=f"{source} {target}"))
    return queries
