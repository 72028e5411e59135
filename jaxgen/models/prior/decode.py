"""Sampling codes one after the other: which logits survive, the draw, and the cached loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxgen.nn.transformer import vectors

# Of what is asked for, `Given`: temperature, top_k (0: all), top_p (1: all) and, where the
# transformer was trained for it, guidance; scalars, traced.
Given = Mapping[str, Any]


def survivors(logits: jax.Array, top_k: Any, top_p: Any) -> jax.Array:
    """Which logits may be drawn (Holtzman et al. 2020): bool like logits (b, n), at least one each.

    Args:
      top_k: the k largest, and those equal to the k-th; 0: all.
      top_p: of these the most probable ones that together have this probability at least; 1: all.
    """
    n = logits.shape[-1]
    # Without a bound nothing need be sorted; a sort is dear for large vocabularies.
    return lax.cond(
        ((top_k > 0) & (top_k < n)) | (top_p < 1),
        lambda: _survivors(logits, top_k, top_p),
        lambda: jnp.ones(logits.shape, bool),
    )


def _survivors(logits: jax.Array, top_k: Any, top_p: Any) -> jax.Array:
    n = logits.shape[-1]
    ordered = -jnp.sort(-logits, axis=-1)
    kth = jnp.clip(jnp.where(top_k > 0, top_k, n), 1, n) - 1
    least = lax.dynamic_slice_in_dim(ordered, kth, 1, axis=-1)
    kept = logits >= least
    within = jax.nn.softmax(jnp.where(ordered >= least, ordered, -jnp.inf), axis=-1)
    # A place is taken while those before it have less than top_p together.
    before = jnp.pad(jnp.cumsum(within, axis=-1)[:, :-1], ((0, 0), (1, 0)))
    taken = (before <= top_p) & (within > 0)
    count = jnp.where(top_p < 1, jnp.maximum(taken.sum(axis=-1), 1), n)[:, None]
    # Of equal ones at the end as many as are left, the first ones.
    edge = jnp.take_along_axis(ordered, jnp.minimum(count, n) - 1, axis=-1)
    room = count - (logits > edge).sum(axis=-1, keepdims=True)
    equal = logits == edge
    among = jnp.cumsum(equal, axis=-1) <= room
    return kept & ((logits > edge) | (equal & among))


def draw(logits: jax.Array, uniforms: jax.Array, given: Given) -> jax.Array:
    """One code per row: the first whose cumulated probability reaches the row's number.

    Args:
      logits: (b, codes) float32. uniforms: (b,) in (0, 1].

    Returns: (b,) int32.
    """
    logits = logits / given["temperature"]
    alive = survivors(logits, given["top_k"], given["top_p"])
    probabilities = jax.nn.softmax(jnp.where(alive, logits, -jnp.inf), axis=-1)
    reached = jnp.cumsum(probabilities, axis=-1)
    wanted = uniforms[:, None] * reached[:, -1:]
    return (reached < wanted).sum(axis=-1).astype(jnp.int32)


def guided(logits: jax.Array, given: Given) -> jax.Array:
    """Classifier-free guidance (Ho & Salimans 2022): rows with a condition, then without one."""
    if "guidance" not in given:
        return logits
    told, free = jnp.split(logits, 2)
    return free + given["guidance"] * (told - free)


def both(rows: jax.Array, given: Given) -> jax.Array:
    """The rows once, or twice where guidance needs them without their condition, too."""
    return jnp.concatenate([rows, rows]) if "guidance" in given else rows


def uniforms(keys: jax.Array, count: int) -> jax.Array:
    """Numbers in (0, 1] for each row's positions, whatever the other rows.

    Args:
      keys: (b, 2) uint32, one key a row.

    Returns: (b, count) float32.
    """

    def one(key: jax.Array) -> jax.Array:
        return 1.0 - jax.random.uniform(jax.random.wrap_key_data(key), (count,))

    return jax.vmap(one)(keys)


def continued(
    gpt: Any,
    variables: Any,
    prefix: jax.Array,
    known: jax.Array,
    keep: jax.Array,
    numbers: jax.Array,
    given: Given,
) -> jax.Array:
    """A whole sequence of codes by one scan with a cache of fixed size.

    Args:
      gpt: a `jaxgen.nn.transformer.GPT`.
      prefix: (b, p, width) vectors in front, p >= 1; (2b, p, width) under guidance, the last half
        of nothing asked for.
      known: (b, n) int32 codes that are there already.
      keep: (n,) bool, which of them; the others are drawn.
      numbers: (b, n) of `uniforms`.

    Returns: (b, n) int32.
    """
    p, n = prefix.shape[1], known.shape[1]
    cache = gpt.empty_cache(prefix.shape[0], p + n - 1)
    logits, cache = gpt.apply(variables, prefix, cache)

    def choose(logits, known, keep, numbers):
        return jnp.where(keep, known, draw(guided(logits[:, -1], given), numbers, given))

    first = choose(logits, known[:, 0], keep[0], numbers[:, 0])

    def step(carry, at):
        code, cache = carry
        position, *rest = at
        x = vectors(variables, both(code, given)[:, None])
        logits, cache = gpt.apply(variables, x, cache, position)
        code = choose(logits, *rest)
        return (code, cache), code

    positions = p + jnp.arange(n - 1)
    rest = (positions, known[:, 1:].T, keep[1:], numbers[:, 1:].T)
    _, codes = lax.scan(step, (first, cache), rest)
    return jnp.concatenate([first[:, None], codes.T], axis=1)
