"""Composed retrieval from a config: its loss, and what it reads."""

from __future__ import annotations

import functools
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxgen.data.triplets import examples, section
from jaxgen.errors import UserError
from jaxgen.evaluation import retrieval
from jaxgen.keys import Key, Table
from jaxgen.losses.contrastive import unit
from jaxgen.losses.retrieval import batch_classification, draw_triplets, scaled, soft_triplet
from jaxgen.models.tirg import compose, encoders
from jaxgen.models.tirg.networks import Composed, make_net
from jaxgen.task import Nets, Phase, Task
from jaxgen.tasks.common import module_keys, module_of, to_float
from jaxgen.tasks.tirg.config import EVAL, MODEL
from jaxgen.verbs.retrieve.contract import Retrieve


def keys(config: ConfigDict) -> Table:
    """What the config's own sections hold; see `jaxgen.train.family.check`."""
    image = {
        "form": Key("grid", "of the image encoder", choices=tuple(encoders.FORMS)),
        **module_keys(module_of(config, "image", encoders.FORMS), given=("embed",)),
    }
    composer = {
        "form": Key("tirg", "how picture and text are composed", choices=tuple(compose.FORMS)),
        **module_keys(
            module_of(config, "compose", compose.FORMS), dropout={"most": None, "below": 1}
        ),
    }
    model = {**MODEL, "image": image, "compose": composer}
    return {"data": section.KEYS, "model": model, "eval": EVAL}


def resolve(config: ConfigDict) -> ConfigDict:
    """The config with the vocabulary of its training texts; converted weights bring theirs."""
    return examples.resolve(config)


def verbs(config: ConfigDict) -> dict[str, Any]:
    """What a composed retrieval can do: {"retrieve": ...}."""
    return {"retrieve": retrieve_verb(config)}


def retrieve_verb(config: ConfigDict) -> Retrieve:
    """The verb of the config's net."""
    net = make_net(config)
    words = examples.make_words(config.data)

    def pictures(nets: Nets, x: jax.Array) -> jax.Array:
        found: Any = net.apply(nets["g"], x, method=Composed.pictures)
        return unit(found)

    def queries(nets: Nets, x: jax.Array, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        found: Any = net.apply(nets["g"], x, tokens, mask, method=Composed.queries)
        return unit(found)

    return Retrieve(
        nets=("g",),
        size=config.data.size,
        width=config.model.embed,
        length=words.length,
        read=words.encode,
        pictures=pictures,
        queries=queries,
    )


class RetrievalLosses:
    """The loss of `model.loss` over the global batch, and net g's initial variables."""

    def __init__(self, config: ConfigDict):
        self.net = make_net(config)
        self.kind, self.half = config.model.loss.kind, config.model.loss.half_gradient

    def init(self, rng, batch):
        """(params, mutable) of net g."""
        nets = self.net.init(rng, *_inputs(batch))
        state = {key: value for key, value in nets.items() if key != "params"}
        return {"g": nets["params"]}, {"g": state} if state else {}

    def loss(self, params, mutable, frozen, batch, rng, step):
        """Each query told from the targets of all others."""
        del frozen, step
        drop, draw = jax.random.split(rng)
        state = mutable.get("g", {})
        (queries, targets, scale), changed = self.net.apply(
            {"params": params["g"], **state},
            *_inputs(batch),
            train=True,
            rngs={"dropout": drop},
            mutable=list(state),
        )
        queries, targets = scaled(queries, scale), scaled(targets, scale)
        if self.kind == "soft_triplet":
            triplets = draw_triplets(draw, len(queries))
            value = soft_triplet(queries, targets, triplets, self.half)
        else:
            value = batch_classification(queries, targets)
        likeness = queries @ targets.T
        own = likeness.max(axis=1) <= likeness.diagonal()
        metrics = {"scale": scale, "accuracy": own.astype("float32").mean()}
        return value, ({**mutable, "g": changed} if changed else mutable, metrics)


def _inputs(batch) -> tuple[jax.Array, ...]:
    pictures = (to_float(batch["source"]), to_float(batch["target"]))
    return *pictures, batch["tokens"], batch["mask"]


def make_task(config: ConfigDict) -> Task:
    """The Task of this config; see `jaxgen.task`.

    Raises:
      UserError: impossible settings.
    """
    section.check(config.data)
    if config.train.batch_size * config.data.per_source < 2:
        raise UserError("composed retrieval needs two queries a batch: raise train.batch_size")
    losses = RetrievalLosses(config)
    ema = config.model.ema
    return Task(
        init=losses.init,
        phases=(Phase("g", ("g",), losses.loss),),
        train_data=lambda: examples.train_data(config.data),
        ema={"g": ema} if ema else {},
        evaluate=functools.partial(retrieval.evaluate, config, retrieve_verb(config)),
        eval_nets=("g",),
    )
