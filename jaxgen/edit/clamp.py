"""Clamping whose gradient lets values come back."""

from __future__ import annotations

import jax
import jax.numpy as jnp


@jax.custom_vjp
def clamp_with_gradient(x: jax.Array) -> jax.Array:
    """min(max(x, 0), 1), where a value outside keeps the gradient that would bring it back.

    Only what descent would push further out is stopped (VQGAN-CLIP's ClampWithGrad).
    """
    return jnp.clip(x, 0.0, 1.0)


def _forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.clip(x, 0.0, 1.0), x


def _backward(x: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    outside = x - jnp.clip(x, 0.0, 1.0)
    return (jnp.where(g * outside >= 0, g, 0.0),)


clamp_with_gradient.defvjp(_forward, _backward)
