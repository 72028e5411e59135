"""Which feature a picture and words may mean: drawn by the flow that net "prior" learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.diffusion import sampling
from jaxgen.diffusion.guidance import guided
from jaxgen.diffusion.plans import make_plan
from jaxgen.diffusion.schedules import Schedule
from jaxgen.diffusion.targets import noised, per_sample, to_target
from jaxgen.diffusion.times import draw_times
from jaxgen.models.tirg_decoder.networks import Asked, Prior, normed
from jaxgen.task import PyTree

SCHEDULE = Schedule("flow")
TARGET = "flow"
# Of the times of training, logit-normal: most of what words decide is decided at much noise.
_MEAN, _STD = 0.3, 1.2


def flow_loss(
    prior: Prior,
    params: PyTree,
    rng: jax.Array,
    asked: Asked,
    change: jax.Array,
    draws: int,
    drop: float,
) -> jax.Array:
    """Mean squared error of the flow at random times of the wanted features' differences.

    Args: change: (n, e). draws: times and noises of each, as this net costs little. drop: share of
      them that the words are kept from, for guidance.
    """
    time_rng, noise_rng, drop_rng = jax.random.split(rng, 3)
    x, said, unsaid = (jnp.repeat(a, draws, axis=0) for a in (change, asked.said, asked.unsaid))
    t = draw_times(time_rng, len(x), SCHEDULE, "logit-normal", mean=_MEAN, std=_STD)
    noise = jax.random.normal(noise_rng, x.shape)
    alpha, sigma = (per_sample(level, x) for level in SCHEDULE.levels(t))
    said = jnp.where(jax.random.bernoulli(drop_rng, drop, (len(x), 1)), unsaid, said)
    found: Any = prior.apply({"params": params}, noised(x, noise, alpha, sigma), t, said)
    return jnp.square(found - to_target(TARGET, x, noise, alpha, sigma)).mean()


def given(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The verb's options "steps", "guidance", "length" and "candidates" as a program takes them."""
    return {
        "plan": make_plan(SCHEDULE, TARGET, "euler", settings["steps"]),
        "guidance": np.float32(settings["guidance"]),
        "length": np.float32(settings["length"]),
        "candidates": np.arange(settings["candidates"], dtype=np.uint32),
    }


def drawn_changes(
    prior: Prior, variables: PyTree, asked: Asked, noise: jax.Array, given: Mapping[str, Any]
) -> jax.Array:
    """What wanted features may differ by from the sources': of noise (c, n, e) c candidates.

    Guidance makes the differences too long: they are drawn at `length` of that.
    """
    vector, said, unsaid = (
        jnp.tile(a, (len(noise), 1)) for a in (asked.vector, asked.said, asked.unsaid)
    )

    def predict(x: jax.Array, t: jax.Array, said: Any) -> jax.Array:
        found: Any = prior.apply(variables, x, t, said)
        return found

    denoise = guided(predict, said, unsaid, given["guidance"])
    change = sampling.sample(denoise, given["plan"], noise.reshape(vector.shape))
    return (normed(vector + given["length"] * change) - vector).reshape(noise.shape)
