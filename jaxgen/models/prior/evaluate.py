"""A run's evaluation of a prior: nats per code, and what its pictures show."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.captioned.records import validation_data
from jaxgen.evaluation import captions, validation
from jaxgen.grid import enlarge
from jaxgen.metrics.over_hosts import mean_over_hosts
from jaxgen.models.prior.layout import reads
from jaxgen.models.prior.losses import PriorLosses
from jaxgen.models.prior.sampler import Sampler
from jaxgen.task import Evaluation


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
        asked = self.losses.sequence.condition == "class"
        classes = self.config.model.classes if asked else 0
        return validation.drawn(self.config, self.verbs["generate"], nets, nats, classes)

    def _measured(self, nets, frozen) -> tuple[dict[str, float], int]:
        own = {net: tree for net, tree in nets.items() if "/" not in net}
        total, count = 0.0, 0
        rows = validation.batches(self.config, reads(self.config))
        for number, (batch, filled) in enumerate(rows):
            found = self._nats(own, frozen, batch, jax.random.key(number))
            total, count = total + float(np.asarray(found)[:filled].sum()), count + filled
        return {"nats": total}, count

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
