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


def noisiest(times: jax.Array, schedule: Schedule, share: float = 0.1) -> jax.Array:
    """Times pressed into the last share of the schedule, where next to nothing is left of x.

    A text encoder that is trained along learns what words say of the layout there and nowhere
    else: at other times x itself shows it, and the words' features of it fade before they serve.
    """
    pressed = (1 - share) * schedule.steps + share * times
    return pressed if schedule.flow else jnp.floor(pressed)


def logit_normal(normal: jax.Array, mean: float = 0.0, std: float = 1.0) -> jax.Array:
    """Times in (0, 1) of standard normal draws: most in the middle (Esser et al. 2024, eq. 19)."""
    return jax.nn.sigmoid(mean + std * normal)


def mode_density(uniform: jax.Array, scale: float) -> jax.Array:
    """Times in [0, 1] of uniform draws, heavier in the middle (Esser et al. 2024, equation 20)."""
    cosine = jnp.square(jnp.cos(jnp.pi / 2 * uniform))
    return 1 - uniform - scale * (cosine - 1 + uniform)
