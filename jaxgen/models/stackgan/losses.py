"""StackGAN's two GANs, one after the other, as losses of one run.

Stage I trains nets "g" and "d" on small pictures; stage II nets "g2" and "d2" on large ones, drawn
from what stage I draws, which is fixed then and so is the text encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.models.stackgan.generator import ConditioningAugmentation, StageOne, StageTwo
from jaxgen.nn.text import Text
from jaxgen.tasks.common import to_float
from jaxgen.tasks.t2i.losses import T2ILosses

# What stage II's losses, which are a GAN's like others, find under the usual names.
STAGE_TWO = {"text": "text", "low": "g", "g": "g2", "d": "d2"}


class StageOneLosses(T2ILosses):
    """Stage I: the shared GAN's losses on pictures of `size` pixels.

    Args: as of `T2ILosses`; config: stage I's view, see `task.stage_config`.
    """

    def init(self, rng, batch):
        """(params, mutable) of nets text, g, d and, if it is used, match."""
        return super().init(rng, self._small(batch))

    def match(self, params, mutable, frozen, batch, rng, step):
        """As in `T2ILosses`, on small pictures."""
        return super().match(params, mutable, frozen, self._small(batch), rng, step)

    def discriminate(self, params, mutable, frozen, batch, rng, step, penalized=True):
        """As in `T2ILosses`, on small pictures."""
        small = self._small(batch)
        return super().discriminate(params, mutable, frozen, small, rng, step, penalized)

    def penalize(self, params, mutable, frozen, batch, rng, step):
        """As in `T2ILosses`, on small pictures."""
        return super().penalize(params, mutable, frozen, self._small(batch), rng, step)

    def condition(self, params, text: Text) -> jax.Array:
        """What D sees of the text; see `condition`."""
        return condition(params, text, self.generator)

    def _small(self, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        return {**batch, "image": shrink(batch["image"], self.config.data.size)}


class StageTwoLosses(T2ILosses):
    """Stage II: the shared GAN's losses with stage I's generator, fixed, in front of G.

    Args:
      encoder, generator, discriminator: as of `T2ILosses`; the generator a `StageTwo`.
      config: stage II's view, see `task.stage_config`.
      first: stage I's losses.
      begin: stage II's first step.
    """

    generator: StageTwo

    def __init__(
        self,
        encoder: Any,
        generator: StageTwo,
        discriminator: Any,
        config: ConfigDict,
        first: StageOneLosses,
        begin: int,
    ):
        super().__init__(encoder, generator, discriminator, config)
        self.first, self.begin = first, begin

    def init(self, rng, batch):
        """(params, mutable) of all nets: stage I's, g2 and d2."""
        first_rng, g_rng, d_rng = jax.random.split(rng, 3)
        params, mutable = self.first.init(first_rng, batch)
        image = to_float(batch["image"][:2])
        text = self.read(params, {key: value[:2] for key, value in batch.items()}, rng)
        low = jax.image.resize(image, (2, *(self.first.config.data.size,) * 2, 3), "nearest")
        g2 = self.generator.init(g_rng, jnp.zeros((2, *self.generator.noise)), low, text)
        d2 = self.discriminator.init(d_rng, image, (self.condition({"g": g2["params"]}, text),))
        for name, net in {"g2": g2, "d2": d2}.items():
            params = {**params, name: net["params"]}
            state = {kind: values for kind, values in net.items() if kind != "params"}
            mutable = {**mutable, name: state} if state else mutable
        return params, mutable

    def discriminate(self, params, mutable, frozen, batch, rng, step, penalized=True):
        """As in `T2ILosses`, for d2 and g2."""
        seen = stage_two(params), stage_two(mutable)
        value, (changed, metrics) = super().discriminate(*seen, frozen, batch, rng, step, penalized)
        return value, (_back(changed), metrics)

    def generate(self, params, mutable, frozen, batch, rng, step):
        """As in `T2ILosses`, for g2 and d2."""
        seen = stage_two(params), stage_two(mutable)
        value, (changed, metrics) = super().generate(*seen, frozen, batch, rng, step)
        return value, (_back(changed), metrics)

    def draw(self, params, mutable, text, z):
        """(Drawn, mutable after it); stage I as it draws when it is used, with its averages."""
        fixed = {"params": params["low"], **mutable.get("low", {})}
        low = draw_low(self.first.generator, fixed, z, text)
        state = mutable.get("g", {})
        drawn, changed = self.generator.apply(
            {"params": params["g"], **state}, z, low, text, train=True, mutable=list(state)
        )
        return drawn, {**mutable, "g": changed} if changed else mutable

    def condition(self, params, text: Text) -> jax.Array:
        """What D sees of the text; see `condition`."""
        return condition(params, text, self.generator)


def condition(params, text: Text, generator: StageOne | StageTwo) -> jax.Array:
    """What a discriminator is given of the text, (b, e).

    "tf": the sentence, which D projects itself. "pytorch": the mean of its generator's conditioning
    augmentation, through which no gradient flows to the generator.
    """
    if generator.form == "tf":
        return text.sentence
    augment: Any = ConditioningAugmentation(generator.condition, generator.form)
    fixed = jax.lax.stop_gradient({"params": params["g"]["ca_net"]})
    zeros = jnp.zeros((text.sentence.shape[0], generator.condition))
    return augment.apply(fixed, text.sentence, zeros)[1]


def draw_low(generator: Any, variables, z: jax.Array, text: Text) -> jax.Array:
    """What stage II starts from: stage I's pictures of its part of z, (b, n, n, 3), fixed.

    Args: generator: a `StageOne`, and its variables. z: (b, *noise) of both stages.
    """
    drawn = generator.apply(variables, z[:, : generator.noise[0]], text, train=False)
    return jax.lax.stop_gradient(drawn.image)


def shrink(images: jax.Array, size: int) -> jax.Array:
    """(b, n, n, 3) -> (b, size, size, 3) float32, means over blocks of pixels; same value range."""
    b, n, _, c = images.shape
    k = n // size
    return images.astype(jnp.float32).reshape(b, size, k, size, k, c).mean(axis=(2, 4))


def stage_two(nets: Mapping[str, Any]) -> dict[str, Any]:
    """All nets' parameters or state under the names that stage II's losses know."""
    return {ours: nets[name] for ours, name in STAGE_TWO.items() if name in nets}


def _back(mutable: Mapping[str, Any]) -> dict[str, Any]:
    """What stage II changes, under the nets' own names."""
    return {STAGE_TWO[ours]: mutable[ours] for ours in ("g", "d") if ours in mutable}
