"""Training: pictures with noise of a random time, and the denoiser's error (Ho et al. 2020).

A batch holds image (b, n, n, 3) uint8, or moments (b, h, w, 2 c) that were computed beforehand
(`model.latents`), and of texts and classes tokens, mask and meaning; with `data.embeddings` the
words and their mask that `parts.text` would make of a caption.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.diffusion.targets import noised, offset_noise, per_sample, to_target
from jaxgen.diffusion.times import draw_times, noisiest
from jaxgen.losses.denoising import denoising_loss, min_snr_weight
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
        self.instruct = bool(config.model.get("instruct", False))

    def init(self, rng, batch):
        """(params, mutable): net g, and net text where texts are read."""
        del batch
        g_rng, text_rng = jax.random.split(rng)
        nets = self.condition.init(text_rng)
        tokens, mask = self.condition.empty(1)
        asked = self.condition.embed(nets.get(TEXT), tokens, mask)
        size = self.config.data.size
        height, width, channels = self.space.shape(size, size)
        x = jnp.zeros((1, height, width, channels * (2 if self.instruct else 1)))
        nets["g"] = self.net.init(g_rng, x, jnp.zeros(1), **asked)
        return {net: variables["params"] for net, variables in nets.items()}, {}

    def loss(self, params, mutable, frozen, batch, rng, step):
        """The mean squared error of `model.target`, weighted."""
        model, nets = self.config.model, _variables(params, mutable)
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
        value = denoising_loss(said, wanted, weight)
        return value, ({}, {} if not model.min_snr else {"plain": denoising_loss(said, wanted)})

    def errors(self, nets, frozen, batch, rng, t) -> jax.Array:
        """Squared error of each example at the times t (b,), (b,) float32; nothing is dropped."""
        x_rng, noise_rng = jax.random.split(rng)
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
