"""MIT-States (Isola et al., CVPR 2015) as TIRG asks it: a noun's picture and another adjective.

    PATH/images/<adjective noun>/*.jpg

The 49 nouns of `TEST_NOUNS` are tested on, all others trained on: what was never seen in training
is the noun. Folders of one word, and of the adjective "adj", are none of it; a noun with one
adjective and other files than pictures are passed over, where the original stops.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.picture_open import extensions
from jaxgen.data.triplets.folders import Files, folder_of
from jaxgen.data.triplets.source import Drawn, Query
from jaxgen.errors import UserError

EXAMPLE = "rusty"
SPLITS = ("train", "test")
TEST_NOUNS = (
    "armor", "bracelet", "bush", "camera", "candy", "castle", "ceramic", "cheese", "clock",
    "clothes", "coffee", "fan", "fig", "fish", "foam", "forest", "fruit", "furniture",
    "garden", "gate", "glass", "horse", "island", "laptop", "lead", "lightning", "mirror",
    "orange", "paint", "persimmon", "plastic", "plate", "potato", "road", "rubber", "sand",
    "shell", "sky", "smoke", "steel", "stream", "table", "tea", "tomato", "vacuum", "wax",
    "wheel", "window", "wool",
)  # fmt: skip


def open_split(data: ConfigDict, split: str) -> MITStates:
    """The pictures of a split.

    Raises:
      UserError: there are no such folders.
    """
    images = folder_of(data) / "images"
    paths, captions = [], []
    for folder in sorted(images.glob("*/")):
        adjective, _, noun = folder.name.partition(" ")
        if not noun or " " in noun or adjective == "adj":
            continue
        if (noun in TEST_NOUNS) != (split == "test"):
            continue
        found = sorted(f for f in folder.iterdir() if f.suffix.lower() in extensions())
        paths += found
        captions += [f"{adjective} {noun}"] * len(found)
    if not paths:
        raise UserError(f"{images} has no folders of pictures of the split {split}")
    return MITStates(data, images.parent, paths, captions, split)


class MITStates(Files):
    """See `jaxgen.data.triplets.source.Triplets`. A query's kind is ""; see `noun` of captions."""

    def __init__(
        self, data: ConfigDict, folder: Path, paths: list[Path], captions: list[str], split: str
    ):
        self.numbers: dict[str, list[int]] = {}
        self.adjectives: dict[str, list[str]] = {}
        for number, caption in enumerate(captions):
            self.numbers.setdefault(caption, []).append(number)
            adjective, noun = caption.split()
            known = self.adjectives.setdefault(noun, [])
            if adjective not in known:
                known.append(adjective)
        self._changeable = [
            i for i, caption in enumerate(captions) if len(self.adjectives[caption.split()[1]]) > 1
        ]
        queries = [
            Query(number, adjective, f"{adjective} {caption.split()[1]}")
            for number, caption in enumerate(captions)
            for adjective in self.adjectives[caption.split()[1]]
            if adjective != caption.split()[0]
        ]
        super().__init__(
            data,
            paths,
            captions,
            queries if split == "test" else [],
            "the source removed, a picture of the adjective and noun is right",
            [path.relative_to(folder).as_posix() for path in paths],
        )

    def __len__(self) -> int:
        return len(self._changeable)

    def draw(self, index: int, count: int, rng: np.random.Generator) -> list[Drawn]:
        """Adjectives of the noun, the source's own among them, as the original draws."""
        source = self._changeable[index]
        noun = self.captions[source].split()[1]
        known = self.adjectives[noun]
        chosen = rng.permutation(len(known))[:count].tolist()
        while len(chosen) < count:
            chosen.append(int(rng.integers(len(known))))
        items = []
        for i in chosen:
            numbers = self.numbers[f"{known[i]} {noun}"]
            items.append(Drawn(source, known[i], numbers[int(rng.integers(len(numbers)))]))
        return items

    def texts(self) -> Iterable[str]:
        return iter(self.captions)
