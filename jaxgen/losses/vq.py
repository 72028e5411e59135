"""Losses of vector quantisation: codebook and commitment, entropies, spread of a codebook."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def codebook_loss(
    z: jax.Array, chosen: jax.Array, beta: float = 0.25, legacy: bool = False
) -> jax.Array:
    """mean((sg z - e)^2) + beta mean((z - sg e)^2), float32 scalar.

    VQ-VAE (van den Oord et al. 2017), equation 3.

    Args:
      z: (..., d) float32, what was quantised. chosen: (..., d), the codebook's vectors for it.
      beta: weight of the commitment, which pulls z to its code.
      legacy: beta on the codebook's part instead, as taming-transformers trained its published
        models.
    """
    stop = jax.lax.stop_gradient
    codebook, commitment = squared_error(chosen, stop(z)), squared_error(z, stop(chosen))
    return beta * codebook + commitment if legacy else codebook + beta * commitment


def squared_error(a: jax.Array, b: jax.Array) -> jax.Array:
    """mean((a - b)^2) over all elements; scalar."""
    return jnp.mean(jnp.square(a - b))


def entropy_loss(logits: jax.Array) -> jax.Array:
    """Mean entropy of each choice minus the entropy of the mean choice; float32 scalar.

    Low where every choice is certain and all codes are chosen equally often (MaskGIT's tokenizer).

    Args:
      logits: (n, codes) float32: minus the squared distances over a temperature.
    """
    log_p = jax.nn.log_softmax(logits, axis=-1)
    p = jnp.exp(log_p)
    mean = jnp.mean(p, axis=0)
    # Inside the logarithm as MaskGIT has it: a code that nothing comes near has no infinite pull.
    of_mean = -jnp.sum(mean * jnp.log(mean + 1e-5))
    return -jnp.mean(jnp.sum(p * log_p, axis=-1)) - of_mean
