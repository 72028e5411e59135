"""Activations with parameters."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


class PReLU(nn.Module):
    """Parametric ReLU (He et al. 2015, eq. 1): x (..., c) -> max(x, 0) + alpha * min(x, 0).

    Parameter: alpha float32, `slope` at first; (c,), or (1,) if `shared`: one slope for all
    channels, as PyTorch's PReLU has by default.
    """

    slope: float = 0.25
    shared: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (1 if self.shared else x.shape[-1],)
        alpha = self.param("alpha", nn.initializers.constant(self.slope), shape)
        alpha = alpha.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))
        return jnp.where(x >= 0, x, alpha * x)
