"""Losses of vector quantisation: codebook and commitment, entropies, spread of a codebook."""

from __future__ import annotations

import jax
import jax.numpy as jnp

# Sums of many small chances lose digits to the short multiplications of TPUs and GPUs.
EXACT = jax.lax.Precision.HIGHEST


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


def divergence_from_uniform(logits: jax.Array) -> jax.Array:
    """KL(softmax(logits) || uniform), mean over all but the last axis; float32 scalar, in nats."""
    q = jax.nn.softmax(logits, axis=-1)
    # taming-transformers' floor inside the logarithm, for its numbers.
    return jnp.mean(jnp.sum(q * jnp.log(q * logits.shape[-1] + 1e-10), axis=-1))


def sign_entropies(log_odds: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Entropies of codes made of d signs: of each choice, in the mean, and of the mean choice.

    A softmax over distances to all 2^d codes of signs is the product of its channels' own chances.
    So a choice's entropy is the sum of the channels', and the mean choice a product of two matrices
    with 2^(d/2) columns: no array has n * 2^d elements.

    Args:
      log_odds: (n, d) float32, of each sign being plus.

    Returns: two float32 scalars, in nats.
    """
    size = jnp.abs(log_odds)
    of_choice = jnp.sum(jax.nn.softplus(-size) + size * jax.nn.sigmoid(-size), axis=-1)
    half = log_odds.shape[1] // 2
    first, last = _all_signs(log_odds[:, :half]), _all_signs(log_odds[:, half:])
    mean = jnp.dot(first.T, last, precision=EXACT) / log_odds.shape[0]
    # The floor keeps the gradient finite where a code has no chance at all.
    of_mean = -jnp.sum(mean * jnp.log(jnp.maximum(mean, 1e-20)))
    return jnp.mean(of_choice), of_mean


def _all_signs(log_odds: jax.Array) -> jax.Array:
    """Chances of all 2^d combinations of d signs: (n, d) -> (n, 2^d); the first sign is slowest."""
    chances = jnp.ones_like(log_odds[:, :1])
    for column in range(log_odds.shape[1]):
        one = log_odds[:, column]
        pair = jnp.stack([jax.nn.sigmoid(-one), jax.nn.sigmoid(one)], -1)
        chances = (chances[:, :, None] * pair[:, None, :]).reshape(len(one), -1)
    return chances
