"""A run's evaluation of a prior: nats per code, and what its pictures show."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.captioned.examples import MakeExample, MakePicture
from jaxgen.data.captioned.records import validation_data
from jaxgen.errors import UserError
from jaxgen.evaluation import captions
from jaxgen.grid import enlarge
from jaxgen.metrics import shapes_reader
from jaxgen.metrics.over_hosts import mean_over_hosts
from jaxgen.models.prior.layout import reads
from jaxgen.models.prior.losses import PriorLosses
from jaxgen.models.prior.sampler import Sampler
from jaxgen.task import Evaluation
from jaxgen.verbs.generate.draw import default_batch

BATCH = 32


class Evaluator:
    """Evaluates a config's prior; its programs are compiled once for a run."""

    def __init__(self, config: ConfigDict, losses: PriorLosses, sampler: Sampler):
        self.config, self.losses, self.sampler = config, losses, sampler
        self.verbs = sampler.verbs()
        self._nats = jax.jit(losses.nats)

    def __call__(self, nets, frozen, step) -> Evaluation:
        """On validation records: "nats" per code; of texts what `evaluation.captions` counts; else
        sample grids, and of shapes the share of pictures that are "valid" scenes.
        """
        nats = mean_over_hosts(*self._measured(nets, frozen))
        if "generate" not in self.verbs:
            return self._completed(nets, nats)
        if self.losses.sequence.condition == "text":
            found = captions.evaluate(self.config, self.verbs["generate"], nets, frozen, step)
            return Evaluation({**nats, **found.metrics}, found.pictures, found.titles)
        return self._drawn(nets, nats)

    def _measured(self, nets, frozen) -> tuple[dict[str, float], int]:
        own = {net: tree for net, tree in nets.items() if "/" not in net}
        total, count = 0.0, 0
        for number, (batch, filled) in enumerate(self._batches()):
            found = self._nats(own, frozen, batch, jax.random.key(number))
            total, count = total + float(np.asarray(found)[:filled].sum()), count + filled
        return {"nats": total}, count

    def _batches(self) -> Iterator[tuple[dict[str, np.ndarray], int]]:
        """This host's validation examples by batches of one size, and how many of each count."""
        captioned = reads(self.config)
        records = validation_data(self.config.data, captioned=captioned)
        data = self.config.data.copy_and_resolve_references()
        data.flip = False
        make = (MakeExample if captioned else MakePicture)(data)
        chosen = range(
            jax.process_index(), min(self.config.eval.captions, len(records)), jax.process_count()
        )
        if not chosen:
            raise UserError("there are no validation pictures: data.holdout and eval.captions")
        rows = [make(records[i], np.random.default_rng(i)) for i in chosen]
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            filled = part + part[-1:] * (BATCH - len(part))
            yield {key: np.stack([row[key] for row in filled]) for key in part[0]}, len(part)

    def _drawn(self, nets, metrics) -> Evaluation:
        """Pictures without texts; of classes the first ones."""
        verb, settings = self.verbs["generate"], self.config.eval
        count = settings.captions if self.losses.sequence.condition == "none" else 0
        count = max(count, settings.pictures * settings.noises)
        share = range(jax.process_index(), count, jax.process_count())
        classes = max(self.config.model.classes, 1)
        pictures = []
        batch = default_batch(verb.size)
        for start in range(0, len(share), batch):
            part = [share[min(start + i, len(share) - 1)] for i in range(batch)]
            tokens = np.array([[i // settings.noises % classes] for i in part], np.int32)
            features = verb.embed_program(nets, tokens, np.ones(tokens.shape, bool))
            keys = [jax.random.key_data(jax.random.fold_in(_key(), i)) for i in part]
            drawn, _ = verb.draw_program(nets, features, np.stack(keys), verb.default())
            pictures += list(np.asarray(drawn))
        pictures = pictures[: len(share)]
        if self.config.data.source == "shapes":
            valid = sum(shapes_reader.read(picture).valid for picture in pictures)
            metrics = metrics | mean_over_hosts({"valid": float(valid)}, len(pictures))
        cells = [(f"#{i}", enlarge(p, captions.SIDE)) for i, p in zip(share, pictures, strict=True)]
        across = settings.noises
        cells = cells[: settings.pictures * across]
        return Evaluation(metrics, [cells[i : i + across] for i in range(0, len(cells), across)])

    def _completed(self, nets, metrics) -> Evaluation:
        """Validation pictures, and what is drawn from their conditions alone."""
        verb, settings = self.verbs["complete"], self.config.eval
        records = validation_data(self.config.data, captioned=False)
        given = verb.give({key: option.default for key, option in verb.options.items()})
        prompt = verb.read("")
        features = verb.embed_program(nets, prompt.tokens[None], prompt.mask[None])
        count = settings.noises
        features = jax.tree.map(lambda a: jnp.repeat(a, count, axis=0), features)
        rows = []
        for i in range(min(settings.pictures, len(records))):
            image = records[i]["image"]
            numbers = np.array([(captions.SEED, i * count + j) for j in range(count)], np.uint32)
            drawn = verb.draw_program(
                nets, features, np.repeat(image[None], count, axis=0), np.zeros(verb.grid, bool),
                numbers, given,
            )  # fmt: skip
            cells = [(f"#{j}", enlarge(p, captions.SIDE)) for j, p in enumerate(np.asarray(drawn))]
            rows.append([*cells, ("real", enlarge(image, captions.SIDE))])
        return Evaluation(metrics, rows)


@functools.cache
def _key() -> Any:
    return jax.random.key(captions.SEED)
