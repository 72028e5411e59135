"""The denoising loss and its weights at a time, for each kind of target."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def denoising_loss(
    said: jax.Array, wanted: jax.Array, weight: jax.Array | float = 1.0
) -> jax.Array:
    """Mean squared error per picture (b, ...), times its weight (b,); float32 mean over all."""
    error = jnp.square(said.astype(jnp.float32) - wanted.astype(jnp.float32))
    return jnp.mean(weight * jnp.mean(error, axis=tuple(range(1, error.ndim))))


def min_snr_weight(
    target: str, alpha: jax.Array, sigma: jax.Array, gamma: float = 5.0
) -> jax.Array:
    """min(SNR, gamma) of the error of x0, as a weight of the target's (Hang et al. 2023).

    An error of the target is this much of x0: of eps sigma / alpha, of v and flow sigma. Finite
    at zero SNR, where the published eps form divides by 0.

    Args:
      target: see `jaxgen.diffusion.targets`.
      alpha, sigma: (b,).
    """
    if target == "eps":  # min(snr, gamma) / snr
        return jnp.minimum(1.0, gamma * jnp.square(sigma / jnp.maximum(alpha, 1e-8)))
    signal, noise = jnp.square(alpha), jnp.square(sigma)
    # sigma^2 min(snr, gamma), without the quotient.
    times_noise = jnp.minimum(signal, gamma * noise)
    return times_noise / noise if target == "x0" else times_noise
