"""SRGAN's discriminator with a projection of the prompt: is it a photo, and does the text fit?"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.conv import Conv


class PromptDiscriminator(nn.Module):
    """Eight 3x3 convolutions as in SRGAN's, averaged over the picture to h; then two terms.

    logit = MLP(h) + <W t, h>, the projection discriminator (Miyato and Koyama 2018, eq. 3) with
    the prompt's vector t. Takes any size of 16 pixels or more.

    Attributes:
      features: channels of the first convolution; doubled three times.
      hidden: width of the unconditional head's hidden layer.
      dtype: of the computation; parameters and logits are float32.
    """

    features: int = 64
    hidden: int = 1024
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, pooled: jax.Array, train: bool = False) -> jax.Array:
        """x (b, h, w, 3) in [-1, 1], pooled (b, w) of the prompts -> logits (b,) float32."""

        def conv(i, features, strides, y):
            return Conv(features, 3, strides=strides, dtype=self.dtype, name=f"conv_{i}")(y)

        y = nn.leaky_relu(conv(0, self.features, 1, x), 0.2)
        for i in range(1, 8):
            # Channels 64 | 128 128 | 256 256 | 512 512, the first of each pair with stride 1.
            y = conv(i, self.features * 2 ** (i // 2), 1 + i % 2, y)
            y = nn.BatchNorm(not train, momentum=0.9, dtype=self.dtype, name=f"norm_{i}")(y)
            y = nn.leaky_relu(y, 0.2)
        h = y.astype(jnp.float32).mean(axis=(1, 2))  # (b, 8 * features)
        t = nn.Dense(h.shape[-1], use_bias=False, dtype=jnp.float32, name="project")(pooled)
        agreement = (t * h).sum(axis=-1) / jnp.sqrt(float(h.shape[-1]))
        y = nn.Dense(self.hidden, dtype=jnp.float32, name="dense_0")(h)
        return (
            nn.Dense(1, dtype=jnp.float32, name="dense_1")(nn.leaky_relu(y, 0.2))[:, 0] + agreement
        )
