"""Health of a codebook, from how often each of its codes was used.

A histogram is a plain sum: over batches, and over hosts. Under `jax.jit` with a sharded batch it is
that of the global batch.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def histogram(codes: jax.Array, size: int) -> jax.Array:
    """Uses of each code: codes int32 in [0, size), any shape -> (size,) float32.

    Exact up to 2^24 uses of a code.
    """
    flat = codes.reshape(-1)
    return jax.ops.segment_sum(jnp.ones(flat.shape, jnp.float32), flat, size)


def usage(counts: jax.Array) -> jax.Array:
    """Fraction of codes in use, in [0, 1]: counts (size,) -> float32 scalar."""
    return jnp.mean((jnp.asarray(counts) > 0).astype(jnp.float32))


def dead(counts: jax.Array) -> jax.Array:
    """Number of codes that were never used: counts (size,) -> float32 scalar."""
    return jnp.sum((jnp.asarray(counts) == 0).astype(jnp.float32))


def perplexity(counts: jax.Array) -> jax.Array:
    """exp(entropy) of the codes: 1 where one code does all, `size` where all are used equally.

    counts (size,), of which one at least is above 0 -> float32 scalar.
    """
    counts = jnp.asarray(counts, jnp.float32)
    p = counts / jnp.sum(counts)
    return jnp.exp(jnp.sum(jax.scipy.special.entr(p)))
