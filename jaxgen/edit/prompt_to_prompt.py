"""Prompt-to-Prompt (Hertz et al. 2022): the maps of a source's words hold a target's layout.

Rows of a batch are (b, r): b pictures, of each the source and r - 1 targets. Everything is a pure
function of arrays; a plan says what is taken, and from which step to which.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.nn.attention import attention, mixed, probabilities
from jaxgen.nn.control import Control, Layer


class Tables(NamedTuple):
    """What is done to the maps of b pictures' t targets; of each by its own numbers.

    mapper: (b, t, n, n) [source's token, target's]. taken: (b, t, n), 1 of tokens whose maps come
      from the source, 0 of those that keep their own. weight: (b, t, n) of tokens, after that.
    when: (b, steps, t, n): 1 in steps in which that holds; else a token keeps its own map.
    self_steps: (b, 2) int: from which step to which the places look where the source's do.
    """

    mapper: Any
    taken: Any
    weight: Any
    when: Any
    self_steps: Any


def edit_cross(weights: jax.Array, tables: Tables, step: jax.Array) -> jax.Array:
    """Maps of words (b, r, heads, places, n): the source's stay, the targets' are made by it."""
    source, own = weights[:, 0], weights[:, 1:]
    moved = jnp.einsum(
        "bhps,btsn->bthpn", source, tables.mapper, precision=jax.lax.Precision.HIGHEST
    )

    def beside(x: jax.Array) -> jax.Array:
        return x[:, :, None, None, :]

    taken, when = beside(tables.taken), beside(tables.when[:, step])
    made = (moved * taken + own * (1 - taken)) * beside(tables.weight)
    return jnp.concatenate([weights[:, :1], made * when + own * (1 - when)], axis=1)


def edit_self(x: jax.Array, tables: Tables, step: jax.Array) -> jax.Array:
    """Queries, keys or maps (b, r, ...): in `self_steps` the source's for all targets."""
    first, last = tables.self_steps[:, 0], tables.self_steps[:, 1]
    now = ((first <= step) & (step < last)).reshape(-1, *(1,) * (x.ndim - 1))
    return jnp.where(now, x[:, :1], x)


def control(
    tables: Tables | None,
    step: jax.Array,
    rows: tuple[int, int],
    *,
    largest: int,
    kept: frozenset[str] = frozenset(),
) -> Control:
    """What a denoiser is called with; its batch is (b * r), or twice that with the unasked first.

    Args:
      tables: None: nothing is changed, and maps are kept alone.
      rows: (b, r).
      largest: places of the maps whose self-attention is taken from the source, at most.
      kept: names of layers of words whose maps (b, r, places, n) are kept, the mean over heads.
    """
    count = rows[0] * rows[1]

    def apart(x: jax.Array) -> jax.Array:
        return x.reshape(*rows, *x.shape[1:])

    def taken_from(x: jax.Array, tables: Tables) -> jax.Array:
        return edit_self(apart(x), tables, step).reshape(x.shape)

    def change(layer: Layer, *arrays):
        if layer.kind == "residual":
            return None
        q, k, v, mask = arrays
        unasked = len(q) - count
        if layer.kind == "self":
            if tables is None or layer.size[0] * layer.size[1] > largest:
                return None
            # The source's weights are its queries and keys: the fused kernel does it.
            q, k = (jnp.concatenate([x[:unasked], taken_from(x[unasked:], tables)]) for x in (q, k))
            return attention(q, k, v, mask)
        if tables is None and layer.name not in kept:
            return None
        asked_mask = None if mask is None else mask[unasked:]
        weights = probabilities(q[unasked:], k[unasked:], asked_mask)
        if tables is not None:
            weights = edit_cross(apart(weights), tables, step).reshape(weights.shape)
        y = mixed(weights, v[unasked:])
        if unasked:
            free_mask = None if mask is None else mask[:unasked]
            y = jnp.concatenate([attention(q[:unasked], k[:unasked], v[:unasked], free_mask), y])
        return (y, apart(weights).mean(axis=2)) if layer.name in kept else y

    return change


# ---- local blend ---------------------------------------------------------------------------------


def word_mask(
    maps: jax.Array,
    words: jax.Array,
    map_size: tuple[int, int],
    size: tuple[int, int],
    threshold: jax.Array | float,
    pool: bool = True,
) -> jax.Array:
    """Where some words are: (b, r, *size, 1) float32 of 0 and 1.

    Args:
      maps: (b, r, places, n) sums of maps, of any scale. words: (b, r, n), 1 of their tokens.
      map_size: of the maps. size: of the result, by the nearest place.
      threshold: share of the largest value above which a place counts; scalar or (b,).
      pool: whether a place is as bright as its brightest neighbour.
    """
    b, r = maps.shape[:2]
    seen = (maps * words[:, :, None]).sum(axis=-1).reshape(b * r, *map_size)
    if pool:
        seen = jax.lax.reduce_window(
            seen, -jnp.inf, jax.lax.max, (1, 3, 3), (1, 1, 1), ((0, 0), (1, 1), (1, 1))
        )
    down, across = (
        np.arange(n) * m // n for n, m in zip(size, map_size, strict=True)
    )  # as nearest interpolation has it
    seen = seen[:, down][:, :, across].reshape(b, r, *size)
    seen = seen / jnp.maximum(seen.max(axis=(2, 3), keepdims=True), 1e-12)
    above = seen > jnp.reshape(jnp.asarray(threshold), (-1, 1, 1, 1))
    return above.astype(jnp.float32)[..., None]


def blend_mask(
    maps: jax.Array,
    words: jax.Array,
    without: jax.Array,
    map_size: tuple[int, int],
    size: tuple[int, int],
    thresholds: tuple[jax.Array | float, jax.Array | float],
) -> jax.Array:
    """Where targets may differ from their source: (b, r, *size, 1), as `word_mask`.

    There the words are, of the source or of the target itself, and those of `without` are not.
    Where a picture has none of either (rows of zeros), it may differ everywhere, and nothing is
    taken away.
    """

    def joined(words: jax.Array, threshold: jax.Array | float, pool: bool) -> jax.Array:
        mask = word_mask(maps, words, map_size, size, threshold, pool)
        return jnp.maximum(mask[:, :1], mask)

    named = (words.sum(axis=(1, 2)) > 0).reshape(-1, 1, 1, 1, 1)
    mask = jnp.where(named, joined(words, thresholds[0], True), 1.0)
    return mask * (1 - joined(without, thresholds[1], False))


def blended(x: jax.Array, mask: jax.Array) -> jax.Array:
    """x (b, r, h, w, c): targets differ from the source (the first row) within the mask alone."""
    return x[:, :1] + mask * (x - x[:, :1])
