"""Delta denoising score (Hertz et al. 2023): a picture moved by the difference of two scores."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgen.diffusion.sampling import Denoise
from jaxgen.diffusion.targets import noised, per_sample, to_x0_eps

_SCALE = 2000.0  # of the published loss
Levels = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


def score(
    denoise: Denoise, levels: Levels, target: str, x: jax.Array, t: jax.Array, eps: jax.Array
) -> jax.Array:
    """The noise that the net sees in x (b, ...) with the noise eps at times t (b,)."""
    alpha, sigma = (per_sample(level, x) for level in levels(t))
    noisy = noised(x, eps, alpha, sigma)
    return to_x0_eps(target, noisy, denoise(noisy, t).astype(x.dtype), alpha, sigma)[1]


def delta_denoise(
    source: Denoise,
    target: Denoise,
    levels: Levels,
    kind: str,
    x: jax.Array,
    times: jax.Array,
    noises: Callable[[jax.Array], jax.Array],
    rate: float = 0.1,
    mask: jax.Array | None = None,
) -> jax.Array:
    """x (b, ...) after gradient steps: (steps + 1, b, ...), itself first.

    Args:
      source, target: the net under the two captions, guided (published 7.5).
      levels: `Schedule.levels`. kind: what the net says.
      times: (steps,), published: uniform from 50 to 949 of 1000, 200 of them.
      noises: (number of the step) -> noise as x; the same for both.
      mask: broadcasts to x; from 0, stays, to 1, changes.
    """
    height, width = x.shape[1:3]
    factor = rate * _SCALE / (height * width)

    def step(z: jax.Array, given: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        time, number = given
        t, eps = jnp.broadcast_to(time, x.shape[:1]), noises(number)
        asked = score(target, levels, kind, z, t, eps)
        slope = asked - score(source, levels, kind, x, t, eps)
        z = z - factor * (slope if mask is None else mask * slope)
        return z, z

    steps = (times, jnp.arange(len(times)))
    return jnp.concatenate([x[None], jax.lax.scan(step, x, steps)[1]])
