"""The prior's training: codes of the pictures, conditions, and the loss of either form.

A batch holds image (b, n, n, 3) uint8, or codes (b, h, w) int32 that were computed beforehand
(`model.codes`), and of texts and classes tokens, mask and meaning as for text-to-image families.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.models.prior import maskgit
from jaxgen.models.prior.layout import FIRST, SECOND, TEXT, Sequence, settings_of
from jaxgen.models.prior.networks import make_transformer
from jaxgen.nn.transformer import INIT, joined, vectors
from jaxgen.tasks.common import to_float


class PriorLosses:
    """The loss of `config.model.form`, and the nets' initial variables.

    Args: sequence: the layout. config: the run's, with its parts filled in.
    """

    def __init__(self, sequence: Sequence, config: ConfigDict):
        self.sequence, self.config = sequence, config
        self.transformer = make_transformer(config, settings_of(config, sequence))
        self.loss = self.masked if config.model.form == "maskgit" else self.next_codes

    def init(self, rng, batch):
        """(params, mutable): net g, and net text where a part gives it."""
        del batch
        rngs = jax.random.split(rng, 3)
        width = self.transformer.width
        x = jnp.zeros((1, self.transformer.length, width))
        nets: dict[str, Any] = {"g": self.transformer.init(rngs[0], x)["params"]}
        if self.sequence.encoder is not None:
            tokens = jnp.asarray(self.sequence.nothing)[None]
            text = self.sequence.encoder.init(rngs[1], tokens, jnp.ones(tokens.shape, bool))
            words = self.sequence.encoder.apply(text, tokens, jnp.ones(tokens.shape, bool)).words
            kernel = INIT(rngs[2], (words.shape[-1], width))
            nets["g"] = {**nets["g"], "words": {"kernel": kernel, "bias": jnp.zeros(width)}}
            nets[TEXT] = text["params"]
        return nets, {}

    # ---- what stands in front --------------------------------------------------------------------

    def codes(self, frozen, batch) -> jax.Array:
        """The first stage's codes of a batch, in the sequence's order: (b, cells) int32."""
        codes = batch.get("codes")
        if codes is None:
            codes = self.sequence.stage.codes(frozen[FIRST], to_float(batch["image"]))
        return self.sequence.to_sequence(codes)

    def condition(self, frozen, batch) -> jax.Array:
        """The condition's own tokens, (b, prefix) int32."""
        kind = self.sequence.condition
        if kind == "text":
            return batch["tokens"]
        if kind == "class":
            return batch["meaning"][:, None]
        if kind == "image":
            assert self.sequence.second is not None
            codes = self.sequence.second.codes(frozen[SECOND], to_float(batch["image"]))
            return codes.reshape(len(codes), -1)
        count = len(batch["codes"] if "codes" in batch else batch["image"])
        return jnp.zeros((count, 1), jnp.int32)

    def prefix(self, g, text, tokens, mask=None) -> jax.Array:
        """Vectors (b, prefix, width) of the condition's own tokens.

        Args: g, text: variables of the nets; text is None but for features. mask: of texts.
        """
        sequence = self.sequence
        if sequence.encoder is None:
            return vectors(g, sequence.tokens(tokens))
        words = sequence.encoder.apply(text, tokens, mask).words.astype(jnp.float32)
        layer = g["params"]["words"]
        return words @ layer["kernel"] + layer["bias"][None, None]

    def _dropped(self, rng, tokens, mask):
        """Some rows without their condition, as guidance needs it."""
        share = self.config.model.drop_condition
        if not share:
            return tokens, mask
        drop = jax.random.bernoulli(rng, share, (len(tokens), 1))
        nothing = jnp.asarray(self.sequence.nothing)[None]
        if mask is not None:
            mask = jnp.where(drop, jnp.arange(mask.shape[1])[None] < 1, mask)
        return jnp.where(drop, nothing, tokens), mask

    def _front(self, params, mutable, frozen, batch, rng):
        mask = batch.get("mask") if self.sequence.encoder is not None else None
        tokens, mask = self._dropped(rng, self.condition(frozen, batch), mask)
        text = {"params": params[TEXT], **mutable.get(TEXT, {})} if TEXT in params else None
        return self.prefix({"params": params["g"]}, text, tokens, mask)

    # ---- the loss --------------------------------------------------------------------------------

    def next_codes(self, params, mutable, frozen, batch, rng, step):
        """Cross-entropy of each code after those before it, in nats per code."""
        del step
        drop_rng, keep_rng, code_rng, rng = jax.random.split(rng, 4)
        codes = self.codes(frozen, batch)
        front = self._front(params, mutable, frozen, batch, drop_rng)
        seen, keep = codes[:, :-1], self.config.model.pkeep
        if keep < 1:
            other = jax.random.randint(code_rng, seen.shape, 0, self.sequence.stage.verb.codes)
            seen = jnp.where(jax.random.bernoulli(keep_rng, keep, seen.shape), seen, other)
        x = joined([front, vectors({"params": params["g"]}, seen)])
        logits = self._apply(params, x, rng, train=True)
        value, metrics = measured(logits[:, front.shape[1] - 1 :], codes)
        return value.mean(), ({}, metrics)

    def masked(self, params, mutable, frozen, batch, rng, step):
        """Cross-entropy of masked codes from all others, its labels smoothed (MaskGIT)."""
        del step
        drop_rng, mask_rng, rng = jax.random.split(rng, 3)
        model, codes = self.config.model, self.codes(frozen, batch)
        front = self._front(params, mutable, frozen, batch, drop_rng)
        hidden = maskgit.masked(mask_rng, codes.shape, model.masking.least)
        seen = jnp.where(hidden, self.transformer.ids - 1, codes)
        x = joined([front, vectors({"params": params["g"]}, seen)])
        logits = self._apply(params, x, rng, train=True)[:, front.shape[1] :]
        # Of all ids, as published: those of the condition and the mask are learned never to come.
        value = maskgit.smoothed(logits, codes, model.masking.label_smoothing)
        weight = hidden.astype(jnp.float32) / hidden.sum()
        count = self.sequence.stage.verb.codes
        _, metrics = measured(logits[..., :count], codes, weight)
        return (value * weight).sum(), ({}, metrics)

    def nats(self, nets, frozen, batch, rng) -> jax.Array:
        """Per example what `loss` measures without dropout and smoothing, (b,) float32.

        Of a masked transformer: of codes that are hidden as at training.
        """
        params = {net: nets[net]["params"] for net in nets if "/" not in net}
        codes = self.codes(frozen, batch)
        mask = batch.get("mask") if self.sequence.encoder is not None else None
        text = nets.get(TEXT)
        front = self.prefix(nets["g"], text, self.condition(frozen, batch), mask)
        p = front.shape[1]
        if self.loss == self.next_codes:
            x = joined([front, vectors(nets["g"], codes[:, :-1])])
            logits = self._apply(params, x, rng, train=False)[:, p - 1 :]
            return measured(logits, codes)[0].mean(axis=1)
        hidden = maskgit.masked(rng, codes.shape, self.config.model.masking.least)
        seen = jnp.where(hidden, self.transformer.ids - 1, codes)
        x = joined([front, vectors(nets["g"], seen)])
        logits = self._apply(params, x, rng, train=False)[:, p:, : self.sequence.stage.verb.codes]
        return (measured(logits, codes)[0] * hidden).sum(axis=1) / hidden.sum(axis=1)

    def _apply(self, params, x, rng, train):
        return self.transformer.apply(
            {"params": params["g"]}, x, train=train, rngs={"dropout": rng}
        )


def measured(logits: jax.Array, codes: jax.Array, weight: jax.Array | None = None):
    """((b, n) cross-entropy in nats, {"nats", "accuracy"} as weighted means)."""
    logs = jax.nn.log_softmax(logits)
    value = -jnp.take_along_axis(logs, codes[..., None], axis=-1)[..., 0]
    right = (jnp.argmax(logits, axis=-1) == codes).astype(jnp.float32)
    if weight is None:
        weight = jnp.full(value.shape, 1.0 / value.size)
    return value, {"nats": (value * weight).sum(), "accuracy": (right * weight).sum()}
