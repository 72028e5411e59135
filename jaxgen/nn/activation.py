"""Activations with parameters."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


class PReLU(nn.Module):
    """Parametric ReLU with one slope per channel (He et al. 2015, eq. 1).

    x (..., c) -> max(x, 0) + alpha * min(x, 0). Parameter: alpha (c,) float32, `slope` at first.
    """

    slope: float = 0.25

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        alpha = self.param("alpha", nn.initializers.constant(self.slope), (x.shape[-1],))
        alpha = alpha.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))
        return jnp.where(x >= 0, x, alpha * x)
