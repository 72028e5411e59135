"""Losses of vector quantisation: codebook and commitment, entropies, spread of a codebook."""

from __future__ import annotations

import jax
import jax.numpy as jnp

# Codes hang on differences of distances, and sums of many small chances lose digits: both go wrong
# in the short multiplications of TPUs and GPUs.
EXACT = jax.lax.Precision.HIGHEST
# Codes that are compared at once: the largest array is (n, BLOCK), not (n, codes).
BLOCK = 2048
NEVER = -1e30  # a logit; finite, so that 0 * it is 0


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


def entropy_loss(
    z: jax.Array, codebook: jax.Array, temperature: float = 0.01, block: int = BLOCK
) -> jax.Array:
    """Mean entropy of each choice minus the entropy of the mean choice; float32 scalar.

    Low where every choice is certain and all codes are chosen equally often (MaskGIT's tokenizer).
    Chances are the softmax of minus the squared distances over the temperature. They are made in
    blocks of codes, and again for the gradient: no array has more than n * block elements.

    Args:
      z: (n, d) float32. codebook: (codes, d) float32. temperature: above 0.
      block: codes at once.
    """

    def logits(z: jax.Array, vectors: jax.Array, real: jax.Array) -> jax.Array:
        # |z|^2 is the same for all codes, and the softmax does not see it.
        near = 2.0 * jnp.dot(z, vectors.T, precision=EXACT) - jnp.sum(jnp.square(vectors), -1)[None]
        return jnp.where(real[None], near / temperature, NEVER)

    def highest(so_far, given):
        return jnp.maximum(so_far, jnp.max(logits(still, *given), axis=1)), None

    @jax.checkpoint
    def normalizer(total, given):
        return total + jnp.sum(jnp.exp(logits(z, *given) - most), axis=1), None

    blocks = in_blocks(codebook, block)
    zeros = jnp.zeros_like(z[:, 0])
    # Taken off first: logits are large where the temperature is low, and their differences small.
    still, *constant = jax.lax.stop_gradient((z, *blocks))
    most = jax.lax.scan(highest, jnp.zeros_like(still[:, 0]) + NEVER, constant)[0][:, None]
    total = jnp.log(jax.lax.scan(normalizer, zeros, blocks)[0])[:, None]

    @jax.checkpoint
    def entropies(so_far, given):
        log_p = (logits(z, *given) - most) - total
        p = jnp.exp(log_p)
        mean = jnp.mean(p, axis=0)
        # Inside the logarithm as MaskGIT has it: a code that nothing is near has a finite pull.
        of_mean = -jnp.sum(mean * jnp.log(mean + 1e-5))
        return (so_far[0] - jnp.sum(p * log_p, axis=1), so_far[1] + of_mean), None

    (of_choice, of_mean), _ = jax.lax.scan(entropies, (zeros, jnp.zeros(())), blocks)
    return jnp.mean(of_choice) - of_mean


def in_blocks(codebook: jax.Array, block: int = BLOCK) -> tuple[jax.Array, jax.Array]:
    """A codebook (codes, d) in equal blocks, zeros at the end: ((k, m, d), (k, m) whether real)."""
    size, width = codebook.shape
    each = min(size, block)
    count = -(-size // each)
    padded = jnp.pad(codebook, ((0, count * each - size), (0, 0)))
    real = jnp.arange(count * each) < size
    return padded.reshape(count, each, width), real.reshape(count, each)


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
