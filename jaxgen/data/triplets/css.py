"""CSS (Vo et al., CVPR 2019): scenes of coloured objects and words that change them.

With `data.path` "" the scenes are made here, from split and number alone: `data.scenes` scenes of a
split and `data.changes` changes of each, 16,000 queries among 17,000 pictures with the defaults
(`data.train_scenes` makes the split that is trained on another size).
With a path the published file is read, and its pictures where `data.render` is "files".
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict
from PIL import Image

from jaxgen.data.picture_files import read_image
from jaxgen.data.triplets import css2d, npy, scenes, shaded
from jaxgen.data.triplets.scenes import Scene
from jaxgen.data.triplets.source import Drawn, Query
from jaxgen.errors import UserError

EXAMPLE = "make red cube blue"
SPLITS = ("train", "test")
_TRIES = 200


def check(data: ConfigDict) -> None:
    """Raises UserError where settings need the published file."""
    if data.render == "files" and not data.path:
        raise UserError("data.render=files needs data.path, the folder of the published pictures")


def open_split(data: ConfigDict, split: str) -> CSS:
    """The scenes of a split.

    Raises:
      UserError: the published file is not there, or has no such split.
    """
    if not data.path:
        many = data.get("train_scenes", 0) if split == SPLITS[0] else 0
        made = make_split(split, many or data.scenes, data.changes, tuple(data.objects))
        return CSS(made, split, data.render, data.size)
    folder = Path(data.path).expanduser()
    file = folder if folder.is_file() else folder / npy.FILE
    held = npy.read(file)
    if split not in held:
        raise UserError(f"{file} has no split {split}; it has {', '.join(held)}")
    return CSS(held[split], split, data.render, data.size, str(file.parent / "images"))


@functools.lru_cache(maxsize=4)
def make_split(
    split: str, count: int, changes: int, objects: tuple[int, int] = (2, 5)
) -> dict[str, Any]:
    """A split in the published file's layout: {"objects_img", "labels", "mods"}.

    Pictures of equal scenes have the label of the first of them. Changes are drawn until each scene
    has `changes` different ones, thirds of each kind where the scene allows.
    """
    rng = np.random.default_rng((SPLITS.index(split), 77))
    known: dict[Scene, int] = {}
    held: list[list[dict[str, Any]]] = []
    labels: list[int] = []
    mods: dict[str, dict[str, Any]] = {}

    def note(scene: Scene) -> int:
        labels.append(known.setdefault(scene, len(held)))
        held.append(scenes.objects(scene))
        return len(held) - 1

    sources: dict[Scene, int] = {}
    for _ in range(count * _TRIES):
        if len(sources) == count:
            break
        scene = scenes.make_scene(rng, split, *objects)
        if scene not in sources:
            sources[scene] = note(scene)
    for scene, source in sources.items():
        texts: set[str] = set()
        for _ in range(changes * _TRIES):
            if len(texts) == changes:
                break
            kind = scenes.KINDS[int(rng.random() * 3)]
            change = scenes.make_change(rng, split, scene, kind)
            if change is None or change.text in texts:
                continue
            texts.add(change.text)
            mod = mods.setdefault(change.text, {"from": [], "to": [], "to_str": change.text})
            mod["from"].append(source)
            mod["to"].append(note(change.scene))
    return {"objects_img": held, "labels": labels, "mods": list(mods.values())}


class CSS:
    """A split of CSS; see `jaxgen.data.triplets.source.Triplets`.

    Args:
      held: of the published file's layout.
      render: see `data.render`. size: of the pictures, but for files.
      files: folder of the published pictures.
    """

    keep_source = False

    def __init__(self, held: dict[str, Any], split: str, render: str, size: int, files: str = ""):
        self.split, self.render, self.size, self.files = split, render, size, files
        self.objects: list[Any] = list(held["objects_img"])
        labels = held.get("labels")
        self.captions = [
            str(one) for one in (range(len(self.objects)) if labels is None else labels)
        ]
        self.mods: list[dict[str, Any]] = list(held["mods"])
        self.names = [f"css_{split}_{i:06d}" for i in range(len(self.objects))]
        self.queries = [
            Query(int(source), mod["to_str"], self.captions[int(target)], _kind(mod["to_str"]))
            for mod in self.mods
            for source, target in zip(mod["from"], mod["to"], strict=True)
        ]
        by_source: dict[int, list[Drawn]] = {}
        for mod in self.mods:
            for source, target in zip(mod["from"], mod["to"], strict=True):
                item = Drawn(int(source), mod["to_str"], int(target))
                by_source.setdefault(item.source, []).append(item)
        self._items = list(by_source.values())
        self.rules = (
            f"{render}, {len(self.objects):,} pictures of the split {split}, the source removed, "
            "a picture of an equal scene is right"
        )
        if not self._items:
            raise UserError("CSS has no changes here: raise data.scenes or data.changes")

    def __len__(self) -> int:
        return len(self._items)

    def draw(self, index: int, count: int, rng: np.random.Generator) -> list[Drawn]:
        items = self._items[index]
        # Different ones where there are so many: each is a hard negative of the other.
        chosen = rng.permutation(len(items))[:count].tolist()
        while len(chosen) < count:
            chosen.append(int(rng.integers(len(items))))
        return [items[i] for i in chosen]

    def picture(self, number: int, source: bool = False) -> np.ndarray:
        if self.render == "files":
            return read_image(f"{self.files}/{self.names[number]}.png")
        if self.render == "2d" or (self.render == "2d_to_shaded" and source):
            flat = css2d.draw(self.objects[number])
            if self.size == css2d.SIDE:
                return flat
            side = (self.size, self.size)
            return np.asarray(Image.fromarray(flat).resize(side, Image.Resampling.BOX))
        # Its own jitter as a source: else an equal picture would stand in the gallery.
        rng = np.random.default_rng((SPLITS.index(self.split), number, int(source)))
        return shaded.draw(self.scene(number), rng, self.size)

    def scene(self, number: int) -> Scene:
        """The scene of a picture."""
        return scenes.scene_of(self.objects[number])

    def texts(self) -> Iterable[str]:
        return (mod["to_str"] for mod in self.mods)

    def held_out(self) -> np.ndarray:
        """bool, of each query: whether its target shows a pair that is never trained on."""
        shows = {
            caption: any((one["color"], one["shape"]) in scenes.HELD_OUT for one in held)
            for caption, held in zip(self.captions, self.objects, strict=True)
        }
        return np.array([shows[query.target] for query in self.queries])

    def ceiling(self, ks: Iterable[int]) -> dict[int, float]:
        """Recall at each k of an oracle that knows what every text may mean, and no more.

        Where a text has n right answers in the gallery, the one that is asked for is any of them:
        the oracle names k of them. Texts of other forms than `scenes` reads count as certain.
        """
        there = {self.scene(number) for number in range(len(self.objects))}
        counts = []
        for query in self.queries:
            right = scenes.answers(self.scene(query.source), query.text, self.split) & there
            counts.append(max(len(right), 1))
        several = np.array(counts)
        return {k: float(np.minimum(1.0, k / several).mean()) for k in ks}


def _kind(text: str) -> str:
    first = text.partition(" ")[0]
    return {"add": "add", "remove": "remove", "make": "change"}.get(first, "")


def write_published(
    folder: str | Path, splits: dict[str, CSS], check: Callable[[], None] | None = None
) -> None:
    """Writes scenes and pictures as the published set has them: the .npy file and images/*.png.

    Args: check: called before each picture; what it raises ends the work.

    Raises:
      UserError: the folder can't be written.
    """
    folder = Path(folder).expanduser()
    images = folder / "images"
    try:
        images.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {images}: {error.strerror}") from None
    held = {}
    for name, split in splits.items():
        for number in range(len(split.captions)):
            if check is not None:
                check()
            Image.fromarray(split.picture(number)).save(images / f"{split.names[number]}.png")
        labels = [int(caption) for caption in split.captions]
        held[name] = {"objects_img": split.objects, "labels": labels, "mods": split.mods}
        logging.info("%d pictures of the split %s", len(labels), name)
    npy.write(folder / npy.FILE, held)
