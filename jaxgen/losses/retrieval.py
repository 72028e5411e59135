"""Losses of composed retrieval: each query told from the others' targets (Vo et al., CVPR 2019)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

NEGATIVES = 3  # of each anchor
_HIGHEST = jax.lax.Precision.HIGHEST


def scaled(x: jax.Array, scale: jax.Array) -> jax.Array:
    """Rows (..., e) at length `scale`; a row of zeros stays so."""
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return scale * x * jax.lax.rsqrt(jnp.maximum(square, 1e-20))


def batch_classification(queries: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean cross-entropy of each query's own target among all targets of the batch.

    Args: queries, targets: (b, e), pair by pair, of length s each: the logits are s^2 cosines.
    """
    logits = jnp.matmul(queries, targets.T, precision=_HIGHEST)
    return (jax.nn.logsumexp(logits, axis=1) - jnp.diagonal(logits)).mean()


def soft_triplet(
    queries: jax.Array, targets: jax.Array, triplets: jax.Array, half: bool = False
) -> jax.Array:
    """Mean log(1 + exp(d(anchor, positive) - d(anchor, negative))), d the squared distance.

    Args:
      queries, targets: (b, e), pair by pair.
      triplets: (n, 3) int32, rows of both, one after the other: anchor, positive, negative.
      half: gradients of half the size, as those of the published code, whose hand-written backward
        pass lacks the factor 2 of the squared distance.
    """
    rows = jnp.concatenate([queries, targets])
    square = jnp.sum(jnp.square(rows), axis=-1)
    anchor, positive, negative = (jnp.take(triplets, i, axis=1) for i in range(3))
    # d(a, p) - d(a, n) without the anchor's own square, which would only cost digits.
    away = rows[positive] - rows[negative]
    differ = square[positive] - square[negative] - 2.0 * jnp.sum(rows[anchor] * away, axis=-1)
    loss = jax.nn.softplus(differ).mean()
    return 0.5 * loss + jax.lax.stop_gradient(0.5 * loss) if half else loss


def draw_triplets(rng: jax.Array, batch: int) -> jax.Array:
    """For every one of the 2b rows its pair and `NEGATIVES` different rows of other pairs.

    Returns: (2b * min(NEGATIVES, 2b - 2), 3) int32; see `soft_triplet`. b is 2 or more.
    """
    count = min(NEGATIVES, 2 * batch - 2)
    rows = jnp.arange(2 * batch)
    other = (rows[:, None] - rows[None, :]) % batch != 0
    draws = jnp.where(other, jax.random.uniform(rng, (2 * batch, 2 * batch)), -1.0)
    negative = jax.lax.top_k(draws, count)[1]
    anchor = jnp.broadcast_to(rows[:, None], negative.shape)
    positive = (anchor + batch) % (2 * batch)
    return jnp.stack([anchor, positive, negative], axis=-1).reshape(-1, 3)
