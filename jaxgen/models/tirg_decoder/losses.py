"""What a decoder learns by: its pictures beside the targets, and the flow of their features."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.models.tirg.networks import Composed
from jaxgen.models.tirg.task import RetrievalLosses
from jaxgen.models.tirg_decoder.networks import Decoder, Prior, normed
from jaxgen.models.tirg_decoder.prior import flow_loss
from jaxgen.models.tirg_decoder.retrieval import PART, Retrieval, as_asked
from jaxgen.tasks.common import make_module, to_float

_SAME = 0.1  # a smaller difference of target and source is no change


class DecoderLosses:
    """Squared error of what is drawn of the targets' own features, and of the prior's flow to them.

    Of its target's feature a picture is certain, so that the decoder learns edges and not means;
    what a text leaves open ("add object") is for the prior to draw (as in unCLIP, Ramesh et al.
    2022). Noise of up to `model.feature_noise` on the features, uniform in its deviation, prepares
    the decoder for what the prior gets wrong. Where the target differs from the source, errors
    count `model.changed` times.
    """

    def __init__(self, config: ConfigDict):
        model = config.model
        self.retrieval = Retrieval(config)
        self.decoder = make_decoder(config)
        self.prior = make_prior(config)
        self.changed, self.noise = model.changed, model.feature_noise
        self.draws, self.drop = model.draws, model.drop_condition
        self.compared = None if self.retrieval.frozen else RetrievalLosses(config)
        self.share = model.get("retrieval", 0.0)

    @property
    def trained(self) -> tuple[str, ...]:
        """The nets that the phase updates."""
        return ("decoder", "prior", *(() if self.retrieval.frozen else ("g",)))

    def init(self, rng: jax.Array, batch: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """(params, mutable) of the trained nets."""
        retrieval, decoder, prior = jax.random.split(rng, 3)
        source, target = to_float(batch["source"]), to_float(batch["target"])
        tokens, mask = batch["tokens"], batch["mask"]
        nets = self.retrieval.net.init(retrieval, source, target, tokens, mask)
        asked = self.retrieval.asked({self.retrieval.name: nets}, source, tokens[:, 0], mask[:, 0])
        noise, time = jnp.zeros_like(asked.vector), jnp.zeros(len(source))
        params = {
            "decoder": self.decoder.init(decoder, asked, noise)["params"],
            "prior": self.prior.init(prior, noise, time, asked.said)["params"],
        }
        if self.retrieval.frozen:
            return params, {}
        state = {key: value for key, value in nets.items() if key != "params"}
        return {**params, "g": nets["params"]}, {"g": state} if state else {}

    def loss(self, params, mutable, frozen, batch, rng, step):
        """See `jaxgen.task.LossFn`."""
        del step
        draw_rng, flow_rng, drop, compare = jax.random.split(rng, 4)
        asked, change, value, metrics, mutable = self._composed(
            params, mutable, frozen, batch, (drop, compare)
        )
        flow = flow_loss(
            self.prior, params["prior"], flow_rng, asked, jax.lax.stop_gradient(change),
            self.draws, self.drop,
        )  # fmt: skip
        # Of each source's texts the first alone is drawn: the prior needs many more examples.
        texts = batch["tokens"].shape[1]
        asked, change = jax.tree.map(lambda x: x[::texts], (asked, change))
        target = to_float(batch["target"][:, 0])
        squares, apart = self._drawn(params["decoder"], draw_rng, asked, target, change)
        total = apart + flow + self.share * value
        return total, (mutable, {"mse": squares.mean(), "flow": flow, **metrics})

    def _drawn(self, params, rng, asked, target, change):
        """(squared errors of what is drawn, their weighted mean)."""
        size_rng, noise_rng = jax.random.split(rng)
        deviation = self.noise * jax.random.uniform(size_rng, (len(change), 1))
        noisy = change + deviation * jax.random.normal(noise_rng, change.shape)
        picture: Any = self.decoder.apply({"params": params}, asked, noisy)
        moved = jnp.abs(target - asked.source).max(axis=-1, keepdims=True) > _SAME
        squares = jnp.square(picture - target)
        return squares, (jnp.where(moved, self.changed, 1.0) * squares).mean()

    def _composed(self, params, mutable, frozen, batch, rngs):
        """(Asked, what the targets' features differ by from the sources', the retrieval's loss,
        metrics, changed state)."""
        source, target = to_float(batch["source"]), to_float(batch["target"])
        tokens, mask = batch["tokens"], batch["mask"]
        given = (source, target, tokens, mask)
        told: Any
        seen: Any
        value: Any = 0.0
        metrics: dict[str, Any] = {}
        if self.compared is None:
            found = self.retrieval.net.apply(frozen[PART]["g"], *given, method=Composed.with_source)
            told, seen = jax.lax.stop_gradient(found)
        else:
            state = mutable.get("g", {})
            (told, seen), changed = self.retrieval.net.apply(
                {"params": params["g"], **state}, *given, train=True,
                method=Composed.with_source, rngs={"dropout": rngs[0]}, mutable=list(state),
            )  # fmt: skip
            value, metrics = self.compared.compared(told[0], told[1], told[2], rngs[1])
            metrics = {**metrics, "retrieval": value}
            mutable = {**mutable, "g": changed} if changed else mutable
        asked = as_asked(jnp.repeat(source, tokens.shape[1], axis=0), seen)
        return asked, normed(told[1]) - asked.vector, value, metrics, mutable


def make_decoder(config: ConfigDict) -> Decoder:
    """Net "decoder" of `config.model.decoder`."""
    settings = config.model.decoder.to_dict()
    if "channels" in settings:
        settings["channels"] = tuple(settings["channels"])
    decoder: Decoder = make_module(Decoder, "decoder", config, **settings)
    return decoder


def make_prior(config: ConfigDict) -> Prior:
    """Net "prior" of `config.model.prior`."""
    prior: Prior = make_module(Prior, "prior", config, **config.model.prior.to_dict())
    return prior
