"""At which times a net is trained: densities of t, and weights of what is learnt there."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxgen.diffusion.schedules import Schedule


def draw_times(
    key: jax.Array,
    n: int,
    schedule: Schedule,
    density: str = "uniform",
    *,
    mean: float = 0.0,
    std: float = 1.0,
    mode: float = 1.29,
) -> jax.Array:
    """(n,) float32 times in the net's units: whole ones of a discrete schedule, any of a flow.

    Args:
      density: "uniform"; "logit-normal" with mean and std; "mode" with its strength.
    """
    if density == "logit-normal":
        part = logit_normal(jax.random.normal(key, (n,)), mean, std)
    else:
        part = jax.random.uniform(key, (n,))
        if density == "mode":
            part = mode_density(part, mode)
    times = part * schedule.steps
    return times if schedule.flow else jnp.clip(jnp.floor(times), 0, schedule.steps - 1)


def logit_normal(normal: jax.Array, mean: float = 0.0, std: float = 1.0) -> jax.Array:
    """Times in (0, 1) of standard normal draws: most in the middle (Esser et al. 2024, eq. 19)."""
    return jax.nn.sigmoid(mean + std * normal)


def mode_density(uniform: jax.Array, scale: float) -> jax.Array:
    """Times in [0, 1] of uniform draws, heavier in the middle (Esser et al. 2024, equation 20)."""
    cosine = jnp.square(jnp.cos(jnp.pi / 2 * uniform))
    return 1 - uniform - scale * (cosine - 1 + uniform)
