"""CLIP's loss: each picture told from all others by its text, and each text by its picture."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

MOST_SCALE = math.log(100.0)  # of the logits; beyond it training was not stable, as published
_MASKED = -1e9  # finite, so that no softmax is 0 / 0


def unit(x: jax.Array) -> jax.Array:
    """Rows (..., e) at length 1; a row of zeros stays so."""
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, 1e-16))


@jax.custom_vjp
def _bounded(log_scale: jax.Array) -> jax.Array:
    """At most MOST_SCALE. Beyond it the gradient may only lead back: it neither grows nor sticks.

    Published code clips the parameter after each update, which comes to the same.
    """
    return jnp.minimum(log_scale, MOST_SCALE)


def _bounded_forward(log_scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _bounded(log_scale), log_scale


def _bounded_backward(log_scale: jax.Array, slope: jax.Array) -> tuple[jax.Array]:
    return (jnp.where(log_scale > MOST_SCALE, jnp.maximum(slope, 0.0), slope),)


_bounded.defvjp(_bounded_forward, _bounded_backward)


def contrastive_loss(
    pictures: jax.Array,
    texts: jax.Array,
    log_scale: jax.Array,
    meaning: jax.Array | None = None,
    decoys: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Symmetric InfoNCE (Radford et al. 2021, figure 3) over all rows, of all devices.

    Under a mesh that shards rows, the logits (b, b) are sharded by rows: the compiler gathers the
    features of the other side, which are small.

    Args:
      pictures, texts: (b, e) features, pair by pair; normalised here. The batch is the global one.
      log_scale: scalar, trained; its exponential multiplies the cosines, at most 100 times.
      meaning: (b,) int32; pairs of equal meaning, other than a row's own, are left out: there the
        text is as true as the own. None: all texts count as wrong but the own.
      decoys: (d, e) features of pictures that no text is of: each text is to be nearer to its own
        picture than to any of them.

    Returns: (float32 scalar, metrics): `scale`, and `accuracy`, the share of pictures to which
      their own text is the nearest of the batch (chance is 1/b); with decoys `told_apart`, the
      share of texts to which their own picture is nearer than all decoys.
    """
    scale = jnp.exp(_bounded(log_scale.astype(jnp.float32)))
    pictures, texts = (unit(x.astype(jnp.float32)) for x in (pictures, texts))

    def cosines(x: jax.Array) -> jax.Array:
        return scale * jnp.matmul(x, texts.T, precision=jax.lax.Precision.HIGHEST)

    logits = cosines(pictures)
    if meaning is not None:
        same = meaning[:, None] == meaning[None, :]
        logits = jnp.where(same & ~jnp.eye(len(meaning), dtype=bool), _MASKED, logits)
    own = jnp.diagonal(logits)
    by_text = jax.nn.logsumexp(logits, axis=1) - own
    metrics = {"scale": scale, "accuracy": (own >= logits.max(axis=1)).astype(jnp.float32).mean()}
    if decoys is not None:
        wrong = cosines(unit(decoys.astype(jnp.float32)))
        metrics["told_apart"] = (own > wrong.max(axis=0)).astype(jnp.float32).mean()
        logits = jnp.concatenate([logits, wrong])
    by_picture = jax.nn.logsumexp(logits, axis=0) - own
    return 0.5 * (by_text.mean() + by_picture.mean()), metrics
