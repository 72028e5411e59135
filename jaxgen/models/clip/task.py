"""CLIP from a config: its loss, and what it reads."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.data.captioned import examples, section, tokenizers
from jaxgen.data.captioned.records import count_validation
from jaxgen.data.text.clip_bpe import from_json
from jaxgen.data.text.prompt import Prompt
from jaxgen.encoders.clip.model import CLIP
from jaxgen.encoders.clip.preprocess import fit, normalise
from jaxgen.errors import UserError
from jaxgen.evaluation import pairs
from jaxgen.keys import Key, Table
from jaxgen.losses.contrastive import contrastive_loss, unit
from jaxgen.models.clip.decoys import patched
from jaxgen.models.clip.networks import FORMS, make_clip
from jaxgen.task import Nets, Phase, Task
from jaxgen.tasks.clip.config import EVAL, MODEL
from jaxgen.tasks.common import module_keys, module_of, to_float
from jaxgen.verbs.embed.contract import Embed


def keys(config: ConfigDict) -> Table:
    """What the config's own sections hold; see `jaxgen.train.family.check`."""
    module = module_of(config, "image", FORMS)
    image = {
        "form": Key("vit", "of the image tower", choices=tuple(FORMS)),
        **module_keys(module, given=("embed", "image_size", "activation")),
    }
    return {"data": section.KEYS, "model": {**MODEL, "image": image}, "eval": EVAL}


def resolve(config: ConfigDict) -> ConfigDict:
    """The config with its tokenizer filled in; converted weights bring theirs."""
    return config if config.model.get("vocabulary") else tokenizers.resolve(config)


def verbs(config: ConfigDict) -> dict[str, Any]:
    """What a CLIP can do: {"embed": ...}."""
    return {"embed": embed_verb(config)}


def embed_verb(config: ConfigDict) -> Embed:
    """The verb of the config's towers."""
    net = make_clip(config)
    published = "origin" in config or bool(config.model.vocabulary)

    def pictures(nets: Nets, x: jax.Array) -> jax.Array:
        found: Any = net.apply(nets["g"], normalise(x), method=CLIP.pictures)
        return unit(found)

    def texts(nets: Nets, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        ids = tokens if published else ended(tokens, mask, net.text.vocabulary - 1)
        found: Any = net.apply(nets["g"], ids, method=CLIP.texts)
        return unit(found)

    def scale(nets: Nets) -> jax.Array:
        return jnp.minimum(jnp.exp(jnp.asarray(nets["g"]["params"]["logit_scale"])), 100.0)

    return Embed(
        nets=("g",),
        size=config.data.size,
        width=net.embed,
        length=net.text.context - (0 if published else 1),
        read=functools.partial(_read, _tokenizer(config, published)),
        fit=fit,
        pictures=pictures,
        texts=texts,
        scale=scale,
    )


def _tokenizer(config: ConfigDict, published: bool) -> Any:
    """() -> the tokenizer, opened once."""

    @functools.cache
    def opened() -> Any:
        if not published:
            return tokenizers.make_tokenizer(config.data)
        if not config.model.vocabulary:
            raise UserError(
                "this CLIP came without its vocabulary, so it reads no texts: put "
                "bpe_simple_vocab_16e6.txt.gz or tokenizer.json beside the weights and convert "
                "them again"
            )
        return from_json(config.model.vocabulary, config.model.text.context)

    return opened


def _read(tokenizer: Any, text: str) -> Prompt:
    prompt: Prompt = tokenizer().encode(text)
    return prompt


def ended(tokens: jax.Array, mask: jax.Array, end: int) -> jax.Array:
    """(b, t) -> (b, t + 1): the id that ends a text after each, and zeros after it."""
    count = mask.sum(axis=-1, keepdims=True)
    place = jnp.arange(tokens.shape[1] + 1)[None]
    longer = jnp.pad(tokens, ((0, 0), (0, 1)))
    return jnp.where(place == count, end, jnp.where(place < count, longer, 0))


class ClipLosses:
    """The contrastive loss over the global batch, and net g's initial variables.

    Pairs of equal meaning, other than a row's own, are left out of it.
    """

    def __init__(self, config: ConfigDict):
        self.net = make_clip(config)
        self.side, self.noise = config.model.decoys, config.model.noise

    def init(self, rng, batch):
        """(params, mutable) of net g."""
        x, tokens = self._inputs(batch)
        nets = self.net.init(rng, normalise(x), tokens)
        state = {key: value for key, value in nets.items() if key != "params"}
        return {"g": nets["params"]}, {"g": state} if state else {}

    def loss(self, params, mutable, frozen, batch, rng, step):
        """Each picture told from all others by its text, and each text by its picture."""
        del frozen, step
        state = mutable.get("g", {})
        x, tokens = self._inputs(batch)
        x, b = self._trained_on(rng, x), len(x)
        (features, texts, scale), changed = self.net.apply(
            {"params": params["g"], **state}, normalise(x), tokens, train=True, mutable=list(state)
        )
        decoys = features[b:] if self.side else None
        value, metrics = contrastive_loss(features[:b], texts, scale, batch["meaning"], decoys)
        return value, ({**mutable, "g": changed} if changed else mutable, metrics)

    def _inputs(self, batch) -> tuple[jax.Array, jax.Array]:
        tokens = ended(batch["tokens"], batch["mask"], self.net.text.vocabulary - 1)
        return to_float(batch["image"]), tokens

    def _trained_on(self, rng: jax.Array, x: jax.Array) -> jax.Array:
        """The batch's pictures, decoys behind them, with noise of random strength."""
        squares, level, grain = jax.random.split(rng, 3)
        if self.side:
            x = jnp.concatenate([x, patched(squares, x, self.side)])
        if self.noise:
            # Of pictures in [0, 1], as VQGAN-CLIP's views have it.
            levels = jax.random.uniform(level, (len(x), 1, 1, 1), maxval=2 * self.noise)
            x = x + levels * jax.random.normal(grain, x.shape)
        return x


def make_task(config: ConfigDict) -> Task:
    """The Task of this config; see `jaxgen.task`."""
    section.check(config.data)
    if config.data.embeddings or config.model.vocabulary:
        raise UserError("a CLIP learns to read: set data.embeddings and model.vocabulary to ''")
    if (side := config.model.decoys) and config.data.size % side:
        raise UserError(f"data.size={config.data.size} must be a multiple of model.decoys={side}")
    losses = ClipLosses(config)
    ema = config.model.ema
    return Task(
        init=losses.init,
        phases=(Phase("g", ("g",), losses.loss),),
        train_data=lambda: examples.train_data(config.data),
        ema={"g": ema} if ema else {},
        evaluate=functools.partial(pairs.evaluate, config, embed_verb(config)),
        eval_nets=("g",),
        validates=functools.partial(count_validation, config.data, config.eval.captions),
    )
