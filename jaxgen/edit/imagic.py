"""Imagic (Kawar et al. 2023): an embedding of a picture, a net that knows it, the way between.

Stages one and two are the same optimisation: of the target's embedding, then, with that, of the
net's weights or of low-rank changes to them (`jaxgen.edit.low_rank`). The third draws with
embeddings on the line between the picture's and the target's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import optax

from jaxgen.devices import in_loop
from jaxgen.diffusion.targets import noised, per_sample, to_target
from jaxgen.edit.delta import Levels

Learnt = TypeVar("Learnt")


def fit_picture(
    predict: Callable[[Learnt, jax.Array, jax.Array], jax.Array],
    learnt: Learnt,
    levels: Levels,
    target: str,
    x: jax.Array,
    times: jax.Array,
    noises: Callable[[jax.Array], jax.Array],
    rate: jax.Array | float,
) -> tuple[Learnt, jax.Array]:
    """(what is learnt, losses (steps,)): Adam on the denoising error of one picture.

    Args:
      predict: (learnt, x (k, ...), times (k,)) -> what the net says.
      levels, target: `Schedule.levels`, and what the net says.
      x: (1, ...) the picture.
      times: (steps, k), k of them at each step.
      noises: (number of the step) -> (k, ...).
      rate: published 1e-3 for the embedding, 1e-6 for the weights. Those need float32: at such
        rates half precision does not move.
    """
    optimiser = optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8)

    def step(carried, given):
        learnt, moments = carried
        t, number = given
        eps = noises(number)
        alpha, sigma = (per_sample(level, eps) for level in levels(t))
        noisy = noised(x, eps, alpha, sigma)
        wanted = to_target(target, x, eps, alpha, sigma)

        def loss(learnt: Learnt) -> jax.Array:
            return jnp.mean(jnp.square(predict(learnt, noisy, t) - wanted))

        with in_loop():
            value, slope = jax.value_and_grad(loss)(learnt)
        change, moments = optimiser.update(slope, moments)
        learnt = jax.tree.map(lambda a, d: a - rate * d, learnt, change)
        return (learnt, moments), value

    steps = (times, jnp.arange(len(times)))
    (learnt, _), losses = jax.lax.scan(step, (learnt, optimiser.init(learnt)), steps)
    return learnt, losses


def between(target: jax.Array, picture: jax.Array, share: jax.Array | float) -> jax.Array:
    """The embedding to draw with: 0 is the picture's, 1 the target's, above 1 beyond."""
    return share * target + (1 - share) * picture
