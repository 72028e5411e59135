"""How well features tell which text belongs to which picture, of a run and of any CLIP."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.captioned import shape_captions
from jaxgen.data.captioned.records import validation_data
from jaxgen.data.captioned.shape_captions import ATTRIBUTES, Thing
from jaxgen.data.picture_files import list_images, read_image
from jaxgen.errors import UserError
from jaxgen.metrics.recall import recall
from jaxgen.task import Evaluation, Nets
from jaxgen.verbs.embed.contract import Embed
from jaxgen.verbs.embed.use import BATCH, Embedder

KS = (1, 5)
_VALUES = {
    "shape": shape_captions.SHAPES,
    "colour": shape_captions.COLOURS,
    "size": shape_captions.SIZES,
    "place": shape_captions.PLACES,
}


class EmbeddingModel(Protocol):
    """What is asked of a model; `jaxgen.load` gives such."""

    name: str
    step: int
    config: ConfigDict
    embed: Embedder


def evaluate_model(
    model: EmbeddingModel,
    data: Path | None = None,
    templates: Sequence[str] = ("{}",),
    check: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """A model measured on its own validation captions, or by zero-shot classification.

    Args:
      data: a folder with a folder of pictures for each class, by its name; "_" is a space. None:
        the model's own validation data.
      templates: texts with {} for a class's name, see `Embedder.classify`.
      check: called before each batch; what it raises ends the work.

    Returns: {"model", "step", "data", "pictures", "scores"}: those of `evaluate`, or "top_1",
      "top_5" (where there are more classes) and "of_class <name>", shares in [0, 1].

    Raises:
      UserError: no such folder, a picture that can't be read, or weights without data.
    """
    about = {"model": model.name, "step": model.step}
    if data is None:
        config = model.config
        if "source" not in config.data:
            raise UserError("published weights come without data: give --data, a folder of classes")
        found = evaluate(config, model.embed.verb, model.embed.variables, {}, model.step)
        where, count = f"validation data of {config.data.source}", config.eval.captions
        return {**about, "data": where, "pictures": count, "scores": found.metrics}
    folders = sorted(path for path in data.expanduser().glob("*/") if list_images(path))
    if len(folders) < 2:
        raise UserError(f"{data} must hold a folder of pictures for each class, two at least")
    names = [path.name.replace("_", " ") for path in folders]
    classes = model.embed.classes(names, templates)
    ranks = [
        _ranks(model.embed, list_images(folder), classes, number, check)
        for number, folder in enumerate(folders)
    ]
    every = np.concatenate(ranks)
    scores = {f"top_{k}": float((every < k).mean()) for k in KS if k < len(names)}
    for name, own in zip(names, ranks, strict=True):
        scores[f"of_class {name}"] = float((own < 1).mean())
    return {**about, "data": str(data), "pictures": len(every), "scores": scores}


def _ranks(
    use: Embedder,
    paths: Sequence[Path],
    classes: np.ndarray,
    number: int,
    check: Callable[[], None] | None,
) -> np.ndarray:
    """Of each picture of class `number`, how many classes are nearer to it, or as near."""
    found = []
    for start in range(0, len(paths), BATCH):
        if check is not None:
            check()
        images = [read_image(path) for path in paths[start : start + BATCH]]
        likeness = use.pictures(images) @ classes.T
        found.append((likeness >= likeness[:, number : number + 1]).sum(axis=1) - 1)
    return np.concatenate(found)


def evaluate(config: ConfigDict, verb: Embed, nets: Nets, frozen: Any, step: int) -> Evaluation:
    """Recall both ways among `config.eval.captions` validation pairs, and attributes of shapes.

    Returns: metrics "texts_at_1" and "texts_at_5" (of a picture, whether a text of its meaning is
      among the nearest), "pictures_at_1" and "pictures_at_5"; of captioned shapes `attributes` of
      the validation and of the held-out split. Each host measures all: they are few.
    """
    del frozen, step
    use = Embedder(verb, nets, config.family)
    own = _records(config, "validation")
    pictures, texts = _features(use, own)
    likeness = pictures @ texts.T
    meaning = np.array([record["meaning"] for record in own])
    right = meaning[:, None] == meaning[None, :]
    metrics = {f"texts_at_{k}": v for k, v in recall(likeness, right, KS).items()}
    metrics |= {f"pictures_at_{k}": v for k, v in recall(likeness.T, right, KS).items()}
    if config.data.source == "shapes":
        metrics |= attributes(use, own, pictures)
        held_out = _records(config, "held_out")
        found = attributes(use, held_out, _features(use, held_out)[0])
        metrics |= {f"held_out_{key}": value for key, value in found.items()}
    shown = range(min(config.eval.pictures, len(own)))
    nearest = likeness.argmax(axis=0)
    rows = [
        [("its picture", own[i]["image"]), ("the nearest", own[int(nearest[i])]["image"])]
        for i in shown
    ]
    return Evaluation(metrics, rows, [_text(own[i], i) for i in shown])


def attributes(
    use: Embedder, records: Sequence[Mapping[str, Any]], pictures: np.ndarray
) -> dict[str, float]:
    """Zero-shot attribute accuracy on captioned shapes.

    For each attribute of a picture's first object: whether the true caption is nearer than each
    that names another shape, colour, size or place in the same words.

    Returns: {"shape", "colour", "size", "place", "attributes" (their mean)}: shares in [0, 1].
    """
    jobs: list[
        tuple[int, str, int]
    ] = []  # (record, attribute, number of texts; the true one first)
    texts: list[str] = []
    for i, record in enumerate(records):
        claim = shape_captions.parse(record["_captions"][0])
        assert claim is not None  # the first caption names everything
        for attribute in ATTRIBUTES:
            said = [_said(things, i) for things in _others(claim.things, attribute)]
            jobs.append((i, attribute, len(said)))
            texts += said
    unique = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    features = use.texts(list(unique))
    hits: dict[str, list[bool]] = {attribute: [] for attribute in ATTRIBUTES}
    at = 0
    for i, attribute, count in jobs:
        likeness = features[[unique[text] for text in texts[at : at + count]]] @ pictures[i]
        hits[attribute].append(bool((likeness[0] > likeness[1:]).all()))
        at += count
    shares = {attribute: float(np.mean(found)) for attribute, found in hits.items()}
    return {**shares, "attributes": float(np.mean(list(shares.values())))}


def _others(things: tuple[Thing, ...], attribute: str) -> list[tuple[Thing, ...]]:
    """The things, and then with each other value of the first one's attribute."""
    first, rest = things[0], things[1:]
    taken = {thing.place for thing in rest} if attribute == "place" else set()
    own = getattr(first, attribute)
    changed = [
        (dataclasses.replace(first, **{attribute: value}), *rest)
        for value in _VALUES[attribute]
        if value != own and value not in taken
    ]
    return [things, *changed]


def _said(things: tuple[Thing, ...], number: int) -> str:
    """One of their captions; of several things the first, since others depend on the places."""
    texts = shape_captions.captions(things)
    return texts[number % len(texts)] if len(things) == 1 else texts[0]


def _records(config: ConfigDict, split: str) -> list[dict[str, Any]]:
    records = validation_data(config.data, split)
    chosen = [records[i] for i in range(min(config.eval.captions, len(records)))]
    if not chosen:
        raise UserError("there are no validation captions: data.holdout and eval.captions set them")
    return chosen


def _text(record: Mapping[str, Any], number: int) -> str:
    captions = record["_captions"]
    text: str = captions[number % len(captions)]
    return text


def _features(use: Embedder, records: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    texts = [_text(record, i) for i, record in enumerate(records)]
    return use.pictures([record["image"] for record in records]), use.texts(texts)
