"""InstructPix2Pix (Brooks et al. 2023): a net that sees the picture and is told what to do.

Two guidances: to the picture, and to the words.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxgen.diffusion.guidance import Predict, PyTree
from jaxgen.diffusion.sampling import Denoise


def instructed(
    predict: Predict,
    asked: PyTree,
    unasked: PyTree,
    picture: jax.Array,
    words: jax.Array | float,
    likeness: jax.Array | float,
) -> Denoise:
    """A net under both guidances: one pass of three times the batch (equation 3 of the paper).

    Args:
      predict: the net; its x has the picture's channels after its own.
      asked, unasked: the instruction and the empty prompt, trees of (b, ...).
      picture: (b, ...) latents without scaling (the published models have them so).
      words, likeness: published 7.5 and 1.5.
    """
    given = jnp.concatenate([picture, picture, jnp.zeros_like(picture)])

    def denoise(x: jax.Array, t: jax.Array) -> jax.Array:
        told = jax.tree.map(lambda a, u: jnp.concatenate([a, u, u]), asked, unasked)
        seen = jnp.concatenate([jnp.concatenate([x, x, x]), given], axis=-1)
        out = predict(seen, jnp.concatenate([t, t, t]), told).astype(x.dtype)
        full, alike, free = jnp.split(out, 3)
        return free + likeness * (alike - free) + words * (full - alike)

    return denoise
