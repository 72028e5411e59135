"""Pictures that no text is of, for a CLIP that is to judge what is not yet a picture.

A CLIP that has only seen clean pictures does not mind what else is in one, and pictures made to
please it (VQGAN-CLIP) fill up with what it does not see. Decoys have squares of other pictures of
the batch, some few and some nothing else, so that they are near to pictures on all sides, as CutMix
(Yun et al. 2019, with one rectangle of one other) is on one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def patched(rng: jax.Array, x: jax.Array, side: int) -> jax.Array:
    """Each picture with squares from anywhere in the batch, in a random share of its places.

    Args: x: (b, h, w, c). side: of the squares, which divides h and w.

    Returns: as x.
    """
    b, h, w, c = x.shape
    rows, columns = h // side, w // side
    share, places, order = jax.random.split(rng, 3)
    squares = x.reshape(b, rows, side, columns, side, c).swapaxes(2, 3)
    squares = squares.reshape(b * rows * columns, side, side, c)
    draws = jax.random.uniform(places, (b, rows * columns))
    # At least one square is not its own.
    level = jnp.maximum(jax.random.uniform(share, (b, 1)), draws.min(axis=1, keepdims=True))
    swapped = (draws <= level).reshape(-1, 1, 1, 1)
    squares = jnp.where(swapped, jax.random.permutation(order, squares), squares)
    squares = squares.reshape(b, rows, columns, side, side, c).swapaxes(2, 3)
    return squares.reshape(x.shape)
