"""Losses between images, pixel by pixel. All are float32 means over every element."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def mse(x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean squared error (SRGAN, Ledig et al. 2017, eq. 4); same shapes -> scalar."""
    return jnp.mean(jnp.square(_difference(x, y)))


def l1(x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean absolute error (L_1 of ESRGAN, Wang et al. 2018, eq. 3); same shapes -> scalar."""
    return jnp.mean(_abs(_difference(x, y)))


def charbonnier(x: jax.Array, y: jax.Array, eps: float = 1e-3) -> jax.Array:
    """Mean of sqrt(d^2 + eps^2), an L1 with a round tip (LapSRN, Lai et al. 2017)."""
    return jnp.mean(jnp.sqrt(jnp.square(_difference(x, y)) + eps**2))


def total_variation(x: jax.Array) -> jax.Array:
    """Mean absolute step between vertical plus between horizontal neighbours, x (b, h, w, c).

    The anisotropic form of Rudin, Osher and Fatemi 1992. Needs two rows and two columns.
    """
    x = x.astype(jnp.float32)
    vertical = jnp.mean(_abs(x[:, 1:] - x[:, :-1]))
    horizontal = jnp.mean(_abs(x[:, :, 1:] - x[:, :, :-1]))
    return vertical + horizontal


def _abs(x: jax.Array) -> jax.Array:
    # jnp.abs has the slope 1 at 0 in JAX; flat areas would be pushed up. This one has 0 there.
    return x * jnp.sign(x)


def _difference(x: jax.Array, y: jax.Array) -> jax.Array:
    # A silent broadcast of (b, 1) against (b,) has ruined many a loss.
    if x.shape != y.shape:
        raise ValueError(f"shapes differ: {x.shape} and {y.shape}")
    return x.astype(jnp.float32) - y.astype(jnp.float32)
