"""Prompted super-resolution: the `data` section, and examples of scenes with captions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxgen import keys
from jaxgen.data.resize import imresize
from jaxgen.data.scenes.drawing import SCALE, TEXTURES, caption, draw, make_scene, vocabulary
from jaxgen.data.text.tokens import WordTokenizer, only_start
from jaxgen.errors import UserError
from jaxgen.keys import Key, Table, share, whole

KEYS: Table = {
    "source": Key("scenes", "prompts come with drawn scenes only", choices=("scenes",)),
    "scale": Key(SCALE, "of the enlargement: the textures vanish at 4 only", choices=(SCALE,)),
    "hr_size": whole(64, "side of the scenes; a multiple of 4, at least 48", 48, most=2**14),
    "count": whole(4096, "training scenes; captions are drawn anew each time"),
    "prompt_length": whole(28, "tokens, the start included", 2, most=2**16),
    "prompt_dropout": share(0.1, "share of examples whose prompt is taken away"),
    "partial": share(0.15, "share of captions that leave a patch out"),
    "vocabulary": Key(
        vocabulary(), "travels with the run: its order gives the words' ids", each=Key("")
    ),
    "workers": whole(0, "worker processes; 0: threads of this process only", 0, most=1024),
    "threads": whole(2, "reading threads per process", 0, most=1024),
}


def defaults() -> ConfigDict:
    """The section `data` of a prompted family's config."""
    return keys.defaults(KEYS)


def check(data: ConfigDict) -> None:
    """Refuses unknown keys and impossible values.

    Raises:
      UserError: naming the key.
    """
    keys.check(data, KEYS, "data", start="jaxgen.data.scenes.examples.defaults()")
    if data.hr_size % SCALE:
        raise UserError(f"data.hr_size={data.hr_size} must be a multiple of {SCALE}")


class Scenes:
    """Random-access records {"_scene", "lr", "hr"}; a scene is drawn at its first use and kept."""

    def __init__(self, data: ConfigDict, split: str, count: int):
        check(data)
        self._split, self._size, self._count = split, data.hr_size, count
        self._drawn: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = range(self._count)[index]
        scene = make_scene(self._split, index, self._size)
        if index not in self._drawn:
            hr = draw(scene)
            self._drawn[index] = imresize(hr, scale=1 / SCALE), hr
        lr, hr = self._drawn[index]
        return {"_scene": scene, "lr": lr, "hr": hr}


class MakeExample:
    """One record -> one training example; a class because Grain pickles it into its workers.

    Gives lr (n/4, n/4, 3) and hr (n, n, 3), uint8; tokens (t,) int32 and mask (t,) bool of a newly
    drawn caption, or of the empty prompt; and meaning, () int32: 0 for the empty prompt, else equal
    for captions of which one may be true of the other's scene.
    """

    def __init__(self, data: ConfigDict):
        check(data)
        self.tokenizer = WordTokenizer(data.vocabulary, data.prompt_length)
        self.dropout, self.partial = data.prompt_dropout, data.partial

    def __call__(self, record: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        text, named = caption(record["_scene"], rng, self.partial)
        if rng.random() < self.dropout:
            tokens, mask = only_start(self.tokenizer.length)
            meaning = 0
        else:
            prompt = self.tokenizer.encode(text)
            tokens, mask = prompt.tokens, prompt.mask
            meaning = sum(1 << TEXTURES.index(texture) for texture in named)
        return {
            "lr": record["lr"],
            "hr": record["hr"],
            "tokens": tokens,
            "mask": mask,
            "meaning": np.int32(meaning),
        }


def train_data(data: ConfigDict) -> tuple[Scenes, Callable[[Any], Any]]:
    """(records, transform) for `jaxgen.task.Task.train_data`. Raises UserError as `check`."""
    make = MakeExample(data)
    return Scenes(data, "train", data.count), lambda dataset: dataset.random_map(make)
