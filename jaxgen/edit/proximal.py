"""Proximal guidance (Han et al. 2024, ProxNPI): guidance acts where the words really differ.

With the caption in the empty prompt's place (negative-prompt inversion) the difference that
guidance enlarges is that of two captions. What of it lies below a quantile is left out: all of it
(l0), or so much of every value (l1). Late in the path the picture in mind is pulled back to the
source where nothing was left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

Shrink = Callable[[jax.Array, jax.Array], jax.Array]


def hard(delta: jax.Array, bound: jax.Array) -> jax.Array:
    """What lies within the bound becomes 0, the rest stays: proximal of l0."""
    return jnp.where(jnp.abs(delta) > bound, delta, 0.0)


def soft(delta: jax.Array, bound: jax.Array) -> jax.Array:
    """All comes nearer to 0 by the bound: proximal of l1."""
    return delta - jnp.clip(delta, -bound, bound)


def twice(delta: jax.Array, bound: jax.Array) -> jax.Array:
    """l1 as the published code has it: `soft`, and then once more for what is above the bound;
    what is left below of it keeps its value, or, from below 0, changes its sign."""
    once = soft(delta, bound)
    lower = jnp.where(once > 0, once - bound, once)
    return jnp.where(lower < 0, lower + bound, lower)


# (kind, whether as the published code, whose l0 is `soft`) -> what becomes of the difference.
SHRINKS: dict[tuple[str, bool], Shrink] = {
    ("l0", False): hard,
    ("l1", False): soft,
    ("l0", True): soft,
    ("l1", True): twice,
}


class Shrunk(NamedTuple):
    """The difference (b, r, h, w, c), and where nothing of it is left, a float mask as it."""

    delta: jax.Array
    still: jax.Array


def shrunk(delta: jax.Array, share: jax.Array, kind: str, original: bool = False) -> Shrunk:
    """A difference (b, r, h, w, c) of guidance, less what is small of it.

    Args:
      share: (b,) the quantile of its absolute values, of each row together with the first, the
        source's, below which it is small; published 0.7.
      kind: l0 or l1. original: as the published code has it.
    """
    b, r = delta.shape[:2]
    size = jnp.abs(delta).reshape(b, r, -1)
    both = jnp.concatenate([jnp.broadcast_to(size[:, :1], size.shape), size], axis=-1)
    bound = jax.vmap(lambda x, q: jnp.quantile(x, q, axis=-1))(both, share)
    # The source's own difference is what rounding leaves of 0.
    bound = bound.at[:, 0].set(jnp.inf).reshape(b, r, 1, 1, 1)
    new = SHRINKS[kind, original](delta, bound)
    moved = (jnp.abs(new if original else delta) > bound).astype(delta.dtype)
    wide = nn.max_pool(moved.reshape(b * r, *moved.shape[2:]), (3, 3), padding="SAME")
    return Shrunk(new, 1 - wide.reshape(moved.shape))


def slerp(a: jax.Array, b: jax.Array, share: jax.Array | float) -> jax.Array:
    """Between a and b (n, ...), 0 to 1, along the arc that their whole arrays span (Shoemake
    1985)."""
    axes = tuple(range(1, a.ndim))

    def length(x: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.sum(jnp.square(x), axis=axes, keepdims=True))

    cosine = jnp.sum(a / length(a) * (b / length(b)), axis=axes, keepdims=True)
    angle = jnp.arccos(jnp.clip(cosine, -1.0, 1.0))
    near = angle < 1e-4  # there the arc is a line, and the sines' quotient has no digits
    sine = jnp.where(near, 1.0, jnp.sin(angle))
    parts = (
        jnp.where(near, 1 - share, jnp.sin((1 - share) * angle) / sine),
        jnp.where(near, share, jnp.sin(share * angle) / sine),
    )
    return parts[0] * a + parts[1] * b
