"""(placeholder)"""

import flax.linen as nn, jax.numpy as jnp


class PReLU(nn.Module):
    init: float = 0.25

    @nn.compact
    def __call__(self, x):
        a = (
            self.param("alpha", nn.initializers.constant(self.init), (x.shape[-1],))
            .astype(x.dtype)
            .reshape(1, 1, 1, -1)
        )
        return jnp.where(x >= 0, x, a * x)
