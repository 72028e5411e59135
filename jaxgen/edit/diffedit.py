"""DiffEdit's mask (Couairon et al. 2023): where two captions see different noise."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxgen.diffusion.sampling import Denoise
from jaxgen.edit.delta import Levels, score


def difference_mask(
    source: Denoise,
    target: Denoise,
    levels: Levels,
    kind: str,
    x: jax.Array,
    t: jax.Array,
    draws: jax.Array,
    ratio: float = 3.0,
    least: float = 0.5,
) -> jax.Array:
    """(b, h, w, 1) float32, 1 where the edit is.

    Args:
      x: (b, h, w, c) the picture. t: (b,) times, published: half of the way.
      draws: (n, b, h, w, c) noise; published 10 of them.
      ratio: differences are cut off at so many times their mean, and brought to [0, 1].
      least: what of that counts as the edit.
    """

    def one(total: jax.Array, eps: jax.Array) -> tuple[jax.Array, None]:
        apart = score(target, levels, kind, x, t, eps) - score(source, levels, kind, x, t, eps)
        return total + jnp.mean(jnp.abs(apart), axis=-1, keepdims=True), None

    total = jax.lax.scan(one, jnp.zeros((*x.shape[:-1], 1), x.dtype), draws)[0] / len(draws)
    most = ratio * jnp.mean(total, axis=(1, 2, 3), keepdims=True)
    part = jnp.minimum(total, most) / jnp.maximum(most, 1e-12)
    return (part >= least).astype(jnp.float32)
