"""Pictures larger than those of the training: a window slides over the grid of codes.

Each cell is drawn from the window around it, row by row (taming-transformers' make_samples). Cells
that come later in a window never reach the logits of an earlier one, so its cache stays good while
the window stays where it is: along the edges; only where it has moved the cells before are read
anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgen.models.prior.decode import Given, both, draw, guided
from jaxgen.nn.transformer import joined, vectors


def places(grid: tuple[int, int], window: tuple[int, int]) -> np.ndarray:
    """Of each cell, row by row: its row and column, its window's, and its own within the window.

    In the middle a cell lies at half of the window; towards the edges the window stops.

    Returns: int32 (cells, 6): i, j, window row, window column, local i, local j.
    """
    rows = np.array([(i, j) for i in range(grid[0]) for j in range(grid[1])], np.int32)
    half, last = np.array(window) // 2, np.array(grid) - np.array(window)
    corner = np.clip(rows - half, 0, last)
    return np.concatenate([rows, corner, rows - corner], axis=1).astype(np.int32)


def slid(
    gpt: Any,
    variables: Any,
    prefix: Callable[[jax.Array, jax.Array], jax.Array],
    known: jax.Array,
    keep: jax.Array,
    numbers: jax.Array,
    window: tuple[int, int],
    given: Given,
) -> jax.Array:
    """A grid of codes of any size from the window's on.

    Args:
      gpt: a `jaxgen.nn.transformer.GPT`.
      prefix: (window row, window column) -> (b, p, width) vectors in front, as for
        `jaxgen.models.prior.decode.continued`.
      known: (b, H, W) int32 codes that are there already. keep: (H, W) bool, which of them.
      numbers: (b, H * W) of `jaxgen.models.prior.decode.uniforms`.
      window: (h, w) cells, of the training.

    Returns: (b, H, W) int32.
    """
    b, height, width = known.shape
    h, w = window
    zero = jnp.zeros((), jnp.int32)
    p, rows = (jax.eval_shape(prefix, zero, zero).shape[i] for i in (1, 0))
    cache = gpt.empty_cache(rows, p + h * w - 1)

    def step(carry, at):
        codes, cache, where = carry
        place, numbers = at
        i, j, top, left, down, right = place
        cell = down * w + right  # its number in the window's sequence

        def anew():
            seen = lax.dynamic_slice(codes, (zero, top, left), (b, h, w)).reshape(b, h * w)
            x = joined([prefix(top, left), vectors(variables, both(seen[:, :-1], given))])
            logits, filled = gpt.apply(variables, x, cache)
            return lax.dynamic_index_in_dim(logits, p - 1 + cell, 1, keepdims=False), filled

        def further():
            before = lax.dynamic_slice(codes, (zero, i, j - 1), (b, 1, 1))[:, :, 0]
            x = vectors(variables, both(before, given))
            logits, filled = gpt.apply(variables, x, cache, p - 1 + cell)
            return logits[:, -1], filled

        def drawn():
            # The cell before was drawn last, from a window at the same place.
            follows = (where == jnp.stack([i, j - 1, top, left])).all()
            logits, filled = lax.cond(follows, further, anew)
            code = draw(guided(logits, given), numbers, given)
            placed = lax.dynamic_update_slice(codes, code[:, None, None], (zero, i, j))
            return placed, filled, jnp.stack([i, j, top, left])

        return lax.cond(keep[i, j], lambda: (codes, cache, where), drawn), None

    start = (jnp.where(keep[None], known, 0), cache, jnp.full(4, -1, jnp.int32))
    order = jnp.asarray(places((height, width), window))
    (codes, _, _), _ = lax.scan(step, start, (order, numbers.T))
    return codes
