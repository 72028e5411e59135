"""A run's evaluation: the denoising loss at fixed times, and what its pictures show."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxgen.evaluation import captions, validation
from jaxgen.metrics.over_hosts import mean_over_hosts
from jaxgen.models.ldm.losses import LDMLosses
from jaxgen.models.ldm.sampler import Sampler
from jaxgen.task import Evaluation

# Shares of the schedule at which the loss is measured: little noise to much.
TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)


class Evaluator:
    """Evaluates a config's model; its programs are compiled once for a run."""

    def __init__(self, config: ConfigDict, losses: LDMLosses):
        self.config, self.losses = config, losses
        self.verb = Sampler(losses, config).generate()
        self._errors = jax.jit(losses.errors)

    def __call__(self, nets, frozen, step) -> Evaluation:
        """On validation records: "denoising", the mean squared error at five times, and each
        ("denoising_10": at a tenth of the schedule); of texts what `evaluation.captions` counts,
        else sample grids, and of shapes the share of pictures that are "valid" scenes.
        """
        metrics = self._measured(nets, frozen)
        kind = self.losses.condition.kind
        if kind == "text":
            found = captions.evaluate(self.config, self.verb, nets, frozen, step)
            return Evaluation({**metrics, **found.metrics}, found.pictures, found.titles)
        classes = self.config.model.classes if kind == "class" else 0
        return validation.drawn(self.config, self.verb, nets, metrics, classes)

    def _measured(self, nets, frozen) -> dict[str, float]:
        own = {net: tree for net, tree in nets.items() if "/" not in net}
        last = self.losses.schedule.steps - 1
        totals, count = dict.fromkeys(TIMES, 0.0), 0
        condition = self.losses.condition
        rows = validation.batches(self.config, condition.kind != "none", condition.captions)
        for number, (batch, filled) in enumerate(rows):
            for share in TIMES:
                t = jnp.full(len(batch["image"]), round(share * last), jnp.float32)
                found = self._errors(own, frozen, batch, jax.random.key(number), t)
                totals[share] += float(np.asarray(found)[:filled].sum())
            count += filled
        means = mean_over_hosts({str(share): total for share, total in totals.items()}, count)
        each = {f"denoising_{round(100 * float(share))}": mean for share, mean in means.items()}
        return {"denoising": float(np.mean(list(means.values()))), **each}
