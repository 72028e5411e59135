"""Validation records of models that are made by pictures: by batches, and grids without captions.

What is drawn of captions is measured in `captions.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.captioned.examples import MakeExample, MakePicture, ReadCaptions
from jaxgen.data.captioned.records import validation_data
from jaxgen.errors import UserError
from jaxgen.evaluation.captions import SEED, SIDE
from jaxgen.grid import enlarge
from jaxgen.metrics import shapes_reader
from jaxgen.metrics.over_hosts import mean_over_hosts
from jaxgen.task import Evaluation, Nets
from jaxgen.verbs.generate.contract import Generate
from jaxgen.verbs.generate.draw import Features, draw

BATCH = 32


def batches(
    config: ConfigDict, captioned: bool, read: ReadCaptions | None = None
) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """This host's validation examples by batches of one size, and how many of each count.

    Args:
      captioned: whether the captions are read.
      read: what reads them; None: as `config.data` says.

    Raises:
      UserError: there are none.
    """
    records = validation_data(config.data, captioned=captioned)
    data = config.data.copy_and_resolve_references()
    data.update(flip=False, embeddings="", captions_per_example=1)
    make = MakeExample(data, read) if captioned else MakePicture(data)
    chosen = range(
        jax.process_index(), min(config.eval.captions, len(records)), jax.process_count()
    )
    if not chosen:
        raise UserError("there are no validation pictures: data.holdout and eval.captions")
    rows = [make(records[i], np.random.default_rng(i)) for i in chosen]
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        filled = part + part[-1:] * (BATCH - len(part))
        yield {key: np.stack([row[key] for row in filled]) for key in part[0]}, len(part)


def drawn(
    config: ConfigDict, verb: Generate, nets: Nets, metrics: dict[str, float], classes: int = 0
) -> Evaluation:
    """Pictures without texts, and of shapes the share of them that are "valid" scenes.

    Args:
      metrics: what was measured besides.
      classes: their number, of which the first are drawn; 0: a model that is asked for nothing.
    """
    settings = config.eval
    count = max(0 if classes else settings.captions, settings.pictures * settings.noises)
    share = range(jax.process_index(), count, jax.process_count())

    @functools.cache
    def features(number: int) -> Features:
        tokens = np.array([[number]], np.int32)
        tree = verb.embed_program(nets, tokens, np.ones(tokens.shape, bool))
        return Features(jax.tree.map(np.asarray, tree))

    rows = (
        (
            features(i // settings.noises % max(classes, 1)),
            np.asarray(verb.sample(jax.random.fold_in(_key(), i), 1.0)),
        )
        for i in share
    )
    pictures = [one for one, _ in draw(verb, nets, rows, len(share), verb.default())]
    if config.data.source == "shapes":
        valid = sum(shapes_reader.read(picture).valid for picture in pictures)
        metrics = metrics | mean_over_hosts({"valid": float(valid)}, len(pictures))
    cells = [(f"#{i}", enlarge(p, SIDE)) for i, p in zip(share, pictures, strict=True)]
    across = settings.noises
    cells = cells[: settings.pictures * across]
    return Evaluation(metrics, [cells[i : i + across] for i in range(0, len(cells), across)])


@functools.cache
def _key() -> Any:
    return jax.random.key(SEED)
