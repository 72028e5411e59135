"""What a decoder learns by: its pictures beside the targets, and that noise stays noise."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.models.tirg.networks import Composed
from jaxgen.models.tirg.task import RetrievalLosses
from jaxgen.models.tirg_decoder.networks import Asked, Decoder, Posterior
from jaxgen.models.tirg_decoder.retrieval import PART, Retrieval
from jaxgen.tasks.common import make_module, to_float

_SAME = 0.1  # a smaller difference of target and source is no change


class DecoderLosses:
    """Squared error of what is drawn, and the divergence of the noise, times `model.kl`.

    Where the target differs from the source, errors count `model.changed` times. (With L1 nothing
    is learned: as long as it is not sure where the change is, the median of a place is the source.)

    What a text leaves open ("add object") cannot be drawn of the composed feature: its mean would
    be. So a second net says, of source and target, which noise draws this one; the divergence from
    N(0, I) lets it say only what the text does not (a conditional VAE, Sohn et al., NeurIPS 2015).
    Its weight falls to `model.kl` over the first `model.kl_steps` steps, so that words are learned
    before the noise.
    """

    def __init__(self, config: ConfigDict):
        model = config.model
        self.retrieval = Retrieval(config)
        self.decoder = make_decoder(config)
        self.posterior = make_module(
            Posterior, "posterior", config, noise=self.decoder.noise,
            channels=tuple(model.posterior.channels),
        )  # fmt: skip
        self.changed = model.changed
        self.kl, self.kl_first, self.kl_steps = model.kl, model.kl_first, model.kl_steps
        self.compared = None if self.retrieval.frozen else RetrievalLosses(config)
        self.share = model.get("retrieval", 0.0)

    @property
    def trained(self) -> tuple[str, ...]:
        """The nets that the phase updates."""
        return ("decoder", "posterior", *(() if self.retrieval.frozen else ("g",)))

    def init(self, rng: jax.Array, batch: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """(params, mutable) of the trained nets."""
        retrieval, decoder, posterior = jax.random.split(rng, 3)
        source, target = to_float(batch["source"]), to_float(batch["target"])
        tokens, mask = batch["tokens"], batch["mask"]
        nets = self.retrieval.net.init(retrieval, source, target, tokens, mask)
        asked = self.retrieval.asked({self.retrieval.name: nets}, source, tokens[:, 0], mask[:, 0])
        z = jnp.zeros((len(source), self.decoder.noise), jnp.float32)
        params = {
            "decoder": self.decoder.init(decoder, asked, z)["params"],
            "posterior": self.posterior.init(posterior, source, target[:, 0])["params"],
        }
        if self.retrieval.frozen:
            return params, {}
        state = {key: value for key, value in nets.items() if key != "params"}
        return {**params, "g": nets["params"]}, {"g": state} if state else {}

    def loss(self, params, mutable, frozen, batch, rng, step):
        """See `jaxgen.task.LossFn`."""
        noise, drop, draw = jax.random.split(rng, 3)
        source, target = to_float(batch["source"]), to_float(batch["target"])
        b, k = batch["tokens"].shape[:2]
        found, value, metrics, changed = self._composed(
            params, mutable, frozen, batch, (source, target), (drop, draw)
        )
        asked = Asked(jnp.repeat(source, k, axis=0), *found)
        target = target.reshape(b * k, *target.shape[2:])
        moments = self.posterior.apply({"params": params["posterior"]}, asked.source, target)
        mean, logvar = jnp.split(moments, 2, axis=-1)
        logvar = jnp.clip(logvar, -10.0, 4.0)
        z = mean + jnp.exp(0.5 * logvar) * jax.random.normal(noise, mean.shape)
        nats = 0.5 * (jnp.square(mean) + jnp.exp(logvar) - 1.0 - logvar).sum(axis=1).mean()
        picture: Any = self.decoder.apply({"params": params["decoder"]}, asked, z)
        moved = jnp.abs(target - asked.source).max(axis=-1, keepdims=True) > _SAME
        squares = jnp.square(picture - target)
        apart = (jnp.where(moved, self.changed, 1.0) * squares).mean()
        weight = self._weight(step) / target[0].size
        total = apart + weight * nats + self.share * value
        return total, (changed, {"mse": squares.mean(), "nats": nats, **metrics})

    def _composed(self, params, mutable, frozen, batch, pictures, rngs):
        """((maps, composed), the retrieval's loss, metrics, changed state)."""
        source, target = pictures
        tokens, mask = batch["tokens"], batch["mask"]
        net = self.retrieval.net
        if self.compared is None:
            flat = (x.reshape(-1, x.shape[-1]) for x in (tokens, mask))
            found = net.apply(frozen[PART]["g"], source, *flat, method=Composed.composed)
            return jax.lax.stop_gradient(found), 0.0, {}, mutable
        state = mutable.get("g", {})
        (told, found), changed = net.apply(
            {"params": params["g"], **state},
            source,
            target,
            tokens,
            mask,
            train=True,
            method=Composed.with_composed,
            rngs={"dropout": rngs[0]},
            mutable=list(state),
        )
        queries, targets, scale = told
        value, metrics = self.compared.compared(queries, targets, scale, rngs[1])
        metrics = {**metrics, "retrieval": value}
        return found, value, metrics, {**mutable, "g": changed} if changed else mutable

    def _weight(self, step: jax.Array) -> jax.Array:
        """Of a nat beside the sum of a picture's squared errors."""
        if not self.kl_steps:
            return jnp.float32(self.kl)
        left = jnp.clip(1.0 - step / self.kl_steps, 0.0, 1.0)
        return self.kl + (self.kl_first - self.kl) * left


def make_decoder(config: ConfigDict) -> Decoder:
    """Net "decoder" of `config.model.decoder`."""
    settings = config.model.decoder.to_dict()
    if "channels" in settings:
        settings["channels"] = tuple(settings["channels"])
    decoder: Decoder = make_module(Decoder, "decoder", config, **settings)
    return decoder
