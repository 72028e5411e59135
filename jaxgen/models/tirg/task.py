"""Composed retrieval from a config: its loss, and what it reads."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen import weights
from jaxgen.data.triplets import examples, section
from jaxgen.encoders import resnet
from jaxgen.errors import UserError
from jaxgen.evaluation import retrieval
from jaxgen.keys import Key, Table
from jaxgen.losses.contrastive import unit
from jaxgen.losses.retrieval import batch_classification, draw_triplets, scaled, soft_triplet
from jaxgen.models.tirg import compose, encoders, over_clip
from jaxgen.models.tirg.networks import Composed, make_net
from jaxgen.models.tirg.over_clip import ClipWords, OverClip
from jaxgen.task import Nets, Phase, Task
from jaxgen.tasks.common import module_keys, module_of, to_float
from jaxgen.tasks.tirg.config import EVAL, MODEL
from jaxgen.verbs.retrieve.contract import Retrieve
from jaxgen.weights.keymap import unflatten


def keys(config: ConfigDict) -> Table:
    """What the config's own sections hold; see `jaxgen.train.family.check`."""
    forms = {**encoders.FORMS, over_clip.PART: None}
    module = module_of(config, "image", forms)
    image = {
        "form": Key("grid", "of the image encoder; clip: `parts.clip`", choices=tuple(forms)),
        **(module_keys(module, given=("embed",)) if module else over_clip.KEYS),
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
    """What a composed retrieval can do: {"retrieve": ...}; {} of a composer without its CLIP."""
    if over_clip.is_over_clip(config) and not isinstance(config.parts.clip, ConfigDict):
        return {}
    return {"retrieve": retrieve_verb(config)}


def retrieve_verb(config: ConfigDict) -> Retrieve:
    """The verb of the config's net."""
    if over_clip.is_over_clip(config):
        return _over_clip_verb(config)
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


def _over_clip_verb(config: ConfigDict) -> Retrieve:
    over, words = OverClip(config), ClipWords(config.parts.clip)
    return Retrieve(
        nets=("g", over_clip.NET),
        size=config.parts.clip.data.size,
        width=over.embed,
        length=words.length,
        read=words.encode,
        pictures=lambda nets, x: unit(over.pictures(nets[over_clip.NET], x)),
        queries=lambda nets, x, tokens, mask: unit(over.queries(nets, x, tokens, mask)),
        fit=over_clip.fit_of(config),
    )


class RetrievalLosses:
    """The loss of `model.loss` over the global batch, and net g's initial variables."""

    net: Any

    def __init__(self, config: ConfigDict):
        self.net = make_net(config)
        self.kind, self.half = config.model.loss.kind, config.model.loss.half_gradient

    def init(self, rng, batch):
        """(params, mutable) of net g."""
        return _split(self.net.init(rng, *_inputs(batch)))

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
        value, metrics = self.compared(queries, targets, scale, draw)
        return value, ({**mutable, "g": changed} if changed else mutable, metrics)

    def compared(self, queries, targets, scale, rng):
        """(loss, metrics) of features (n, e) that are not normalised."""
        queries, targets = scaled(queries, scale), scaled(targets, scale)
        if self.kind == "soft_triplet":
            triplets = draw_triplets(rng, len(queries))
            value = soft_triplet(queries, targets, triplets, self.half)
        else:
            value = batch_classification(queries, targets)
        likeness = queries @ targets.T
        own = likeness.max(axis=1) <= likeness.diagonal()
        return value, {"scale": scale, "accuracy": own.astype("float32").mean()}


class OverClipLosses(RetrievalLosses):
    """The same over a CLIP, whose features are not trained."""

    def __init__(self, config: ConfigDict):
        self.net = OverClip(config)
        self.kind, self.half = config.model.loss.kind, config.model.loss.half_gradient

    def init(self, rng, batch):
        """(params, mutable) of net g."""
        del batch
        nets = self.net.init(rng)
        if "params" not in nets:
            raise UserError("this model.compose.form has nothing to train over a CLIP")
        return _split(nets)

    def loss(self, params, mutable, frozen, batch, rng, step):
        """Each query told from the targets of all others."""
        del step
        drop, draw = jax.random.split(rng)
        net = {"params": params["g"], **mutable.get("g", {})}
        source, target = to_float(batch["source"]), to_float(batch["target"])
        queries, targets, changed = self.net.train(
            net, frozen[over_clip.PART]["g"], batch, source, target, drop
        )
        value, metrics = self.compared(queries, targets, jnp.float32(over_clip.SCALE), draw)
        return value, ({**mutable, "g": changed} if changed else mutable, metrics)


def _split(nets) -> tuple[dict[str, Any], dict[str, Any]]:
    state = {key: value for key, value in nets.items() if key != "params"}
    return {"g": nets["params"]}, {"g": state} if state else {}


def _inputs(batch) -> tuple[jax.Array, ...]:
    pictures = (to_float(batch["source"]), to_float(batch["target"]))
    return *pictures, batch["tokens"], batch["mask"]


def with_trunk(file: str, nets: Nets) -> Nets:
    """{"g": variables} whose image encoder's trunk is that of a ResNet's weights file.

    Args: file: torchvision's state dict, with or without its classifier, or one that
      `jaxgen convert` made of it.

    Raises:
      UserError: unreadable, or of another ResNet than the config's.
    """
    tensors = weights.read_tensors(Path(file).expanduser())
    if not all("/" in key for key in tensors):
        found = weights.flatten(resnet.from_torch(tensors))
    else:
        found = {key.partition("/")[2]: value for key, value in tensors.items()}
    own = weights.flatten(nets["g"])
    for path in own:
        kind, _, rest = path.partition("/")
        if not rest.startswith("image/trunk/"):
            continue
        value = found.get(f"{kind}/{rest.removeprefix('image/trunk/')}")
        if value is None or value.shape != own[path].shape:
            raise UserError(
                f"model.image_weights={file} is of another network than model.image: it lacks "
                f"{path} as {own[path].shape}"
            )
        own[path] = value
    return {"g": unflatten(own)}


def make_task(config: ConfigDict) -> Task:
    """The Task of this config; see `jaxgen.task`.

    Raises:
      UserError: impossible settings.
    """
    section.check(config.data)
    if config.train.batch_size * config.data.per_source < 2:
        raise UserError("composed retrieval needs two queries a batch: raise train.batch_size")
    if config.model.image_weights and config.model.image.form != "resnet":
        raise UserError("model.image_weights is for model.image.form=resnet")
    over = over_clip.is_over_clip(config)
    losses = OverClipLosses(config) if over else RetrievalLosses(config)
    words = ClipWords(config.parts.clip) if over else None
    verb = retrieve_verb(config)
    ema = config.model.ema
    return Task(
        init=losses.init,
        phases=(Phase("g", ("g",), losses.loss),),
        train_data=lambda: examples.train_data(config.data, words, verb.fit),
        ema={"g": ema} if ema else {},
        evaluate=functools.partial(retrieval.evaluate, config, verb),
        eval_nets=verb.nets,
        begin=functools.partial(with_trunk, file) if (file := config.model.image_weights) else None,
    )
