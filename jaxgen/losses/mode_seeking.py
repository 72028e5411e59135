"""The mode-seeking loss: other noise must give another picture."""

from __future__ import annotations

import jax
import jax.numpy as jnp

EPS = 1e-5


def loss(image_a: jax.Array, image_b: jax.Array, z_a: jax.Array, z_b: jax.Array) -> jax.Array:
    """1 / (d(images) / d(z) + 1e-5) with mean absolute differences; float32 scalar.

    Mao et al., "Mode Seeking GANs", CVPR 2019, eq. 3, in the form that its code minimises. The
    distances are means over the batch. Where the pictures are equal it is 1e5, and its gradient
    finite but some 1e10 over all pixels: clip the generator's gradient (`clip_norm`) with it.

    Args:
      image_a, image_b: (b, h, w, c), drawn from z_a and z_b with the same texts.
      z_a, z_b: (b, ...).
    """
    return 1.0 / (_distance(image_a, image_b) / _distance(z_a, z_b) + EPS)


def _distance(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.mean(jnp.abs(a.astype(jnp.float32) - b.astype(jnp.float32)))
