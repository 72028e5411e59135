"""Searching and making codebooks: nearest codes, sums per code, k-means, random picks."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxgen.losses.vq import BLOCK, EXACT, in_blocks
from jaxgen.models.vqgan.quantize.contract import unit


def nearest(z: jax.Array, codebook: jax.Array, block: int = BLOCK) -> jax.Array:
    """The nearest code of each vector; of equally near ones the first. No gradient.

    The codebook is walked in blocks, and not z: z's rows may lie on many devices.

    Args:
      z: (n, d) float32. codebook: (codes, d) float32.
      block: codes compared at once.

    Returns: (n,) int32.
    """
    z, codebook = jax.lax.stop_gradient((z, codebook))
    size = codebook.shape[0]
    if size <= block:
        return _best(z, codebook)[1]
    blocks, real = in_blocks(codebook, block)

    def step(so_far, given):
        score, code = so_far
        number, vectors, there = given
        new_score, new_code = _best(z, vectors, there)
        # Strictly: of equal scores the earlier block's stays.
        better = new_score > score
        return (
            jnp.where(better, new_score, score),
            jnp.where(better, new_code + number * block, code),
        ), None

    # From z, so that it is laid out over devices as z is.
    start = (jnp.full_like(z[:, 0], -jnp.inf), jnp.zeros_like(z[:, 0], jnp.int32))
    numbers = jnp.arange(len(blocks), dtype=jnp.int32)
    return jax.lax.scan(step, start, (numbers, blocks, real))[0][1]


def _best(
    z: jax.Array, codebook: jax.Array, real: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """(score, code) of the nearest: z.e - |e|^2 / 2 is highest where |z - e| is smallest."""
    half = 0.5 * jnp.sum(jnp.square(codebook), -1)
    if real is not None:
        half = jnp.where(real, half, jnp.inf)
    scores = jnp.dot(z, codebook.T, precision=EXACT) - half[None]
    best = jnp.max(scores, axis=1)
    # As two plain reductions, which vectorise; an arg-max with its pairs does not.
    ids = jnp.arange(codebook.shape[0], dtype=jnp.int32)[None]
    code = jnp.min(jnp.where(scores == best[:, None], ids, codebook.shape[0]), axis=1)
    return best, code


def sums_by_code(z: jax.Array, codes: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """How many vectors have each code, (size,), and their sums, (size, d); no gradient.

    Sums over the global batch where z (n, d) and codes (n,) are sharded arrays under `jax.jit`.
    """
    z = jax.lax.stop_gradient(z)
    counts = jax.ops.segment_sum(jnp.ones(codes.shape, jnp.float32), codes, size)
    return counts, jax.ops.segment_sum(z, codes, size)


def picks(rng: jax.Array, z: jax.Array, number: int) -> jax.Array:
    """`number` random rows of z (n, d), none twice where z has so many."""
    rows = jax.random.choice(rng, z.shape[0], (number,), replace=z.shape[0] < number)
    return z[rows]


def kmeans(
    z: jax.Array, means: jax.Array, iterations: int, normalize: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Lloyd's algorithm from the given means; a mean with no vectors stays where it is.

    Args:
      z: (n, d), unit vectors where `normalize`. means: (codes, d). iterations: 1 or more.
      normalize: put the means back on the sphere.

    Returns: (means (codes, d), vectors of each in the last assignment (codes,)).
    """

    def step(_, carried):
        means, _ = carried
        counts, sums = sums_by_code(z, nearest(z, means), means.shape[0])
        new = sums / jnp.maximum(counts, 1.0)[:, None]
        if normalize:
            new = unit(new)
        return jnp.where(counts[:, None] > 0, new, means), counts

    start = (means, jnp.zeros(means.shape[0], jnp.float32))
    return jax.lax.fori_loop(0, iterations, step, start)
