"""What a text-to-image model draws of captions that it was not trained on, measured.

On captioned shapes pictures are read exactly (`jaxgen.metrics.shapes_reader`): the share of them
that show what the caption says, by attribute and whole, of combinations that were trained on and of
held-out ones. On all data: diversity, the distance between pictures of one caption, which falls to
zero when the generator ignores its noise.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.captioned.records import validation_data
from jaxgen.data.captioned.shapes import parse
from jaxgen.errors import UserError
from jaxgen.grid import enlarge
from jaxgen.metrics.diversity import pixel_diversity
from jaxgen.metrics.over_hosts import mean_over_hosts
from jaxgen.metrics.shapes_reader import judge
from jaxgen.task import Evaluation
from jaxgen.verbs.generate import draw as generate
from jaxgen.verbs.generate.contract import Generate
from jaxgen.verbs.generate.draw import Draw

COUNT = "asked/"  # prefix of how often a caption says something of a key
SEED = 20_161_605  # of the noise that evaluation draws with
SIDE = 96  # of a picture in the grid, at least
Drawing = tuple[np.ndarray, tuple[np.ndarray, ...]]


def evaluate(config: ConfigDict, verb: Generate, nets, frozen, step) -> Evaluation:
    """Caption accuracy (of shapes) and diversity on `config.eval.captions` validation records.

    Each host draws its share: picture i has the noise of the i-th caption wherever it is drawn.
    """
    del frozen, step
    settings = config.eval
    draw = functools.partial(_draw, verb, nets, settings.truncation)
    share = _share(config, "validation")
    texts = [text for _, text, _ in share]
    drawn = draw([(text, Draw(SEED, i, 0)) for i, text, _ in share])
    totals: dict[str, float] = {}
    if config.data.source == "shapes":
        _read(totals, "", texts, drawn)
        held_out = _share(config, "held_out")
        jobs = [(text, Draw(SEED, i, 0)) for i, text, _ in held_out]
        _read(totals, "held_out_", [text for text, _ in jobs], draw(jobs))
    # One caption's pictures from several z: the grid's rows, and their distances.
    shown = share[: settings.pictures]
    jobs = [(text, Draw(SEED, i, j)) for i, text, _ in shown for j in range(settings.noises)]
    many = draw(jobs)
    groups = [many[i : i + settings.noises] for i in range(0, len(many), settings.noises)]
    spread = [pixel_diversity(np.stack([picture for picture, _ in group])) for group in groups]
    totals["diversity"] = len(share) * float(np.mean(spread))
    rows = [_row(group, real) for group, (_, _, real) in zip(groups, shown, strict=True)]
    means = mean_over_hosts(totals, len(share))
    # A caption that names relations leaves places open: each key has a count of its own.
    asked = {key: means.pop(COUNT + key) for key in list(means) if COUNT + key in means}
    metrics = {key: value / asked.get(key, 1.0) for key, value in means.items()}
    return Evaluation(metrics, rows, [text for _, text, _ in shown])


def _share(config: ConfigDict, split: str) -> list[tuple[int, str, np.ndarray]]:
    """(number, caption, picture) of the split's records that this host draws."""
    records = validation_data(config.data, split)
    hosts, host = jax.process_count(), jax.process_index()
    share = []
    for i in range(host, min(config.eval.captions, len(records)), hosts):
        record = records[i]
        captions = record["_captions"]
        share.append((i, captions[i % len(captions)], record["image"]))
    if not share:
        raise UserError("there are no validation captions: data.holdout and eval.captions set them")
    return share


def _draw(
    verb: Generate, nets: Any, truncation: float, jobs: Sequence[tuple[str, Draw]]
) -> list[Drawing]:
    @functools.lru_cache(maxsize=1)  # the same text comes several times in a row
    def embed(text: str) -> generate.Features:
        return generate.embed(verb, nets, verb.read(text))

    rows = ((embed(text), generate.noise(verb, one, truncation)) for text, one in jobs)
    return list(generate.draw(verb, nets, rows, len(jobs)))


def _read(
    totals: dict[str, float], prefix: str, texts: Sequence[str], drawn: Sequence[Drawing]
) -> None:
    """Adds what the pictures show of their captions, and how often that was asked."""
    for text, (picture, _) in zip(texts, drawn, strict=True):
        claim = parse(text)
        assert claim is not None  # the source's own captions
        for key, right in judge(picture, claim).items():
            for name, value in ((prefix + key, right), (f"{COUNT}{prefix}{key}", 1)):
                totals[name] = totals.get(name, 0.0) + float(value)


def _row(group: Sequence[Drawing], real: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """A caption's pictures in the grid, the first one's finest mask, and the real picture."""
    cells = [(f"z {j}", enlarge(picture, SIDE)) for j, (picture, _) in enumerate(group)]
    cells += [("mask of z 0", enlarge(_gray(mask), SIDE)) for mask in group[0][1][-1:]]
    return [*cells, ("real", enlarge(real, SIDE))]


def _gray(mask: np.ndarray) -> np.ndarray:
    level = np.clip(np.round(mask * 255), 0, 255).astype(np.uint8)
    return np.repeat(level[..., None], 3, axis=-1)
