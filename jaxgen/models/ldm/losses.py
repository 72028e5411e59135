"""Training: pictures with noise of a random time, and the denoiser's error (Ho et al. 2020).

A batch holds image (b, n, n, 3) uint8, or moments (b, h, w, 2 c) that were computed beforehand
(`model.latents`), and of texts and classes tokens, mask and meaning; with `data.embeddings` the
words and their mask that `parts.text` would make of a caption. With `model.prior` there is as much
of the class, under the same names with "prior_" before them (`jaxgen.data.captioned.paired`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.data.captioned.paired import PRIOR
from jaxgen.diffusion.targets import noised, offset_noise, per_sample, to_target
from jaxgen.diffusion.times import draw_times, noisiest
from jaxgen.losses.denoising import denoising_loss, min_snr_weight
from jaxgen.models.ldm.change import CHANGE, make_change
from jaxgen.models.ldm.condition import TEXT, make_condition
from jaxgen.models.ldm.networks import make_denoiser, make_schedule
from jaxgen.models.ldm.space import FIRST, make_space, sample
from jaxgen.tasks.common import to_float


class LDMLosses:
    """The loss of a config, and the nets' initial variables.

    Args: config: the run's, with its parts filled in.
    """

    def __init__(self, config: ConfigDict):
        self.config = config
        self.space = make_space(config)
        self.condition = make_condition(config)
        self.schedule = make_schedule(config)
        self.net = make_denoiser(config, self.space, self.condition)
        self.change = make_change(config, self.condition)
        self.instruct = bool(config.model.get("instruct", False))

    @property
    def nets(self) -> tuple[str, ...]:
        """Names of all nets that drawing needs, as verbs have them."""
        text = (TEXT,) if self.condition.kind == "text" else ()
        change = () if self.change is None else (CHANGE,)
        return ("g", *text, *change, *self.space.nets)

    @property
    def guided(self) -> bool:
        """Whether the denoiser can be led away from what is drawn unasked."""
        model = self.config.model
        return bool(model.drop_condition > 0 or model.get("guided", False))

    def changed(self, nets: Mapping[str, Any]) -> Mapping[str, Any]:
        """The nets that are computed with, where `model.change` says something."""
        return nets if self.change is None else self.change.applied(nets)

    def init(self, rng, batch):
        """(params, mutable): net g, net text where texts are read, and perhaps change."""
        del batch
        g_rng, text_rng = jax.random.split(rng)
        nets = self.condition.init(text_rng)
        tokens, mask = self.condition.empty(1)
        asked = self.condition.embed(nets.get(TEXT), tokens, mask)
        size = self.config.data.size
        height, width, channels = self.space.shape(size, size)
        x = jnp.zeros((1, height, width, channels * (2 if self.instruct else 1)))
        nets["g"] = self.net.init(g_rng, x, jnp.zeros(1), **asked)
        if self.change is not None:
            nets[CHANGE] = self.change.init(jax.random.fold_in(rng, 2), nets)
        return {net: variables["params"] for net, variables in nets.items()}, {}

    def loss(self, params, mutable, frozen, batch, rng, step):
        """The mean squared error of `model.target`, weighted."""
        model, nets = self.config.model, self.changed(_variables(params, mutable))
        batch, counts = _with_prior(batch, model)
        drop_rng, x_rng, time_rng, noise_rng, shift_rng, text_rng, g_rng = jax.random.split(rng, 7)
        x = self.clean(frozen, batch, x_rng)
        asked = self.asked(nets, batch, len(x), drop_rng, text_rng)
        times = model.times
        t = draw_times(
            time_rng, len(x), self.schedule, times.density,
            mean=times.mean, std=times.std, mode=times.mode,
        )  # fmt: skip
        if early := times.get("early", 0):  # runs that began before the key have none
            t = jnp.where(step < early, noisiest(t, self.schedule), t)
        noise = jax.random.normal(noise_rng, x.shape)
        if model.offset_noise:
            noise = offset_noise(shift_rng, noise, model.offset_noise)
        said, wanted, (alpha, sigma) = self.said(nets, x, noise, t, asked, g_rng)
        weight: Any = 1.0
        if model.min_snr:
            weight = min_snr_weight(model.target, alpha, sigma, model.min_snr)
        value = denoising_loss(said, wanted, weight * counts)
        return value, ({}, {} if not model.min_snr else {"plain": denoising_loss(said, wanted)})

    def errors(self, nets, frozen, batch, rng, t) -> jax.Array:
        """Squared error of each example at the times t (b,), (b,) float32; nothing is dropped."""
        x_rng, noise_rng = jax.random.split(rng)
        nets = self.changed(nets)
        x = self.clean(frozen, batch, x_rng)
        asked = self.asked(nets, batch, len(x))
        noise = jax.random.normal(noise_rng, x.shape)
        said, wanted, _ = self.said(nets, x, noise, t, asked)
        return jnp.square(said - wanted).mean(axis=(1, 2, 3))

    # ---- parts -----------------------------------------------------------------------------------

    def clean(self, frozen, batch, rng) -> jax.Array:
        """x of a batch without noise: pixels, or latents drawn as the autoencoder does."""
        if "moments" in batch:
            return sample(batch["moments"], rng)
        return self.space.drawn(frozen.get(FIRST), to_float(batch["image"]), rng)

    def asked(self, nets, batch, count, drop_rng=None, text_rng=None) -> dict[str, jax.Array]:
        """What the denoiser takes beside x and time; with `drop_rng` some rows ask for nothing."""
        condition, share = self.condition, self.config.model.drop_condition
        text = nets.get(TEXT)
        if "words" in batch:  # features that were computed beforehand
            asked = {"context": batch["words"], "mask": batch["mask"]}
            asked |= {"label": batch["sentence"]} if condition.pooled else {}
            if drop_rng is None or not share:
                return asked
            nothing = condition.embed(text, *condition.empty(1))
            drop = jax.random.bernoulli(drop_rng, share, (count,))
            return jax.tree.map(lambda a, b: jnp.where(per_sample(drop, a), b, a), asked, nothing)
        tokens, mask = condition.of_batch(batch, count)
        if drop_rng is not None:
            tokens, mask = condition.dropped(drop_rng, tokens, mask, share)
        return condition.embed(text, tokens, mask, text_rng)

    def said(self, nets, x, noise, t, asked, rng=None):
        """(what the net says of x with noise at times t, what it should, (alpha, sigma))."""
        target = self.config.model.target
        levels = self.schedule.levels(t)
        alpha, sigma = (per_sample(level, x) for level in levels)
        noisy = noised(x, noise, alpha, sigma)
        more = {} if rng is None else {"train": True, "rngs": {"dropout": rng}}
        said = self.net.apply(nets["g"], noisy, t, **asked, **more)
        return said, to_target(target, x, noise, alpha, sigma), levels


def _variables(params, mutable) -> dict[str, Any]:
    return {net: {"params": tree, **mutable.get(net, {})} for net, tree in params.items()}


def _with_prior(batch: Mapping[str, Any], model: ConfigDict) -> tuple[Mapping[str, Any], Any]:
    """(batch of b pictures and then b of their class, weights (2 b,)); without a prior as it is.

    The mean with these weights is that over the pictures plus `model.prior.weight` times that over
    the class.
    """
    of_class = {k.removeprefix(PRIOR): v for k, v in batch.items() if k.startswith(PRIOR)}
    if not of_class:
        return batch, 1.0
    count = len(batch["image"])
    both = {key: jnp.concatenate([batch[key], value]) for key, value in of_class.items()}
    weights = jnp.array([2.0, 2.0 * model.prior.weight])
    return both, jnp.repeat(weights, count)
