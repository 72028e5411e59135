"""Null-text inversion (Mokady et al. 2023): an empty prompt learnt so that guidance returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxgen.diffusion.guidance import guide
from jaxgen.diffusion.sampling import Denoise
from jaxgen.edit.path import Path, down, told

_RATE = 0.01
_SLACK = 2e-5  # how much more loss is allowed with each step


class Learnt(NamedTuple):
    """Embeddings (n, ...) for the path's steps, losses (n, inner) with NaN where none was needed,
    counts (n,) int32 of updates, and the picture that comes back, (b, ...)."""

    embeddings: jax.Array
    losses: jax.Array
    counts: jax.Array
    reconstruction: jax.Array


def null_text(
    asked: Denoise,
    unasked: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    path: Path,
    states: jax.Array,
    start: jax.Array,
    guidance: jax.Array | float,
    *,
    inner: int = 10,
    epsilon: jax.Array | float = 1e-5,
) -> Learnt:
    """One embedding for each step, so that the guided path runs through `states`.

    The optimiser (Adam, betas 0.9 and 0.999) begins anew at each step, the embedding is carried on;
    a step ends when an update's loss was below epsilon + 2e-5 times the step's number.

    Args:
      asked: the net under the picture's caption.
      unasked: (x, t, embedding) -> what the net says under that.
      path, states: of `ascend` without guidance: (n + 1, b, ...).
      start: the first embedding, such as the empty prompt's.
      guidance: of the path.
      inner: most updates of a step. What the net holds for its backward pass is the memory: give
        one that computes its blocks anew.
    """
    optimiser = optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8)

    def step(carried: tuple[jax.Array, jax.Array], given):
        x, embedding = carried
        row, back, number = given
        t = told(row.times, x)
        fixed = asked(x, t).astype(x.dtype)
        rate = _RATE * (1 - number / 100)
        enough = epsilon + number * _SLACK

        def moved(embedding: jax.Array) -> jax.Array:
            free = unasked(x, t, embedding).astype(x.dtype)
            return down(path, row, x, guide(fixed, free, guidance))

        def loss(embedding: jax.Array) -> jax.Array:
            return jnp.mean(jnp.square(moved(embedding) - back))

        def unfinished(state) -> jax.Array:
            count, last = state[0], state[1]
            return (count < inner) & (last >= enough)

        def update(state):
            count, _, embedding, moments, losses = state
            value, slope = jax.value_and_grad(loss)(embedding)
            change, moments = optimiser.update(slope, moments)
            embedding = embedding - rate * change
            return count + 1, value, embedding, moments, losses.at[count].set(value)

        first = (
            jnp.int32(0), jnp.float32(jnp.inf), embedding, optimiser.init(embedding),
            jnp.full(inner, jnp.nan),
        )  # fmt: skip
        count, _, embedding, _, losses = jax.lax.while_loop(unfinished, update, first)
        return (moved(embedding), embedding), (embedding, losses, count)

    given = (path, states[-2::-1], jnp.arange(len(path), dtype=jnp.float32))
    (x, _), (embeddings, losses, counts) = jax.lax.scan(step, (states[-1], start), given)
    return Learnt(embeddings, losses, counts, x)
