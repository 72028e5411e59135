"""SRGAN's discriminator, as seed 004 counts it, for any size, with a lighter head as a choice."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.conv import Conv


class Discriminator(nn.Module):
    """Eight 3x3 convolutions, every second one with stride 2, then a head (figure 4, right).

    Keras form at 224x224: 107,451,585 trainable, of which the first dense layer of the "dense" head
    has 102,761,472 (it grows with the picture; shard it over `fsdp`). The "pool" head averages
    over the picture first: 5,215,425, for any size.

    Attributes:
      features: channels of the first convolution; doubled three times.
      hidden: width of the head's hidden layer.
      head: "dense" or "pool".
      dropout: rate after each normalised block and before the last layer (seed 000: so that the
        discriminator does not run away from the generator); 0: none.
      momentum, epsilon: BatchNorm's; Keras-SRGAN has 0.5 and 1e-3.
      dtype: of the computation; parameters and logits are float32.
    """

    features: int = 64
    hidden: int = 1024
    head: str = "dense"
    dropout: float = 0.0
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """x (b, h, w, 3) in [-1, 1] -> logits (b,) float32. With dropout, needs rng "dropout"."""
        y = Conv(self.features, 3, dtype=self.dtype, name="conv_0")(x)
        y = nn.leaky_relu(y, 0.2)
        for i in range(1, 8):
            # Channels 64 | 128 128 | 256 256 | 512 512, the first of each pair with stride 1.
            y = Conv(
                self.features * 2 ** (i // 2),
                3,
                strides=1 + i % 2,
                dtype=self.dtype,
                name=f"conv_{i}",
            )(y)
            y = nn.BatchNorm(
                not train,
                momentum=self.momentum,
                epsilon=self.epsilon,
                dtype=self.dtype,
                name=f"norm_{i}",
            )(y)
            y = self._drop(nn.leaky_relu(y, 0.2), train)
        # (b, h / 16, w / 16, 8 * features)
        if self.head == "dense":
            y = y.reshape(y.shape[0], -1)
        else:
            y = y.astype(jnp.float32).mean(axis=(1, 2)).astype(self.dtype)
        y = nn.Dense(self.hidden, dtype=self.dtype, name="dense_0")(y)
        y = self._drop(nn.leaky_relu(y, 0.2), train)
        return nn.Dense(1, dtype=jnp.float32, name="dense_1")(y.astype(jnp.float32))[:, 0]

    def _drop(self, y: jax.Array, train: bool) -> jax.Array:
        if not self.dropout:
            return y
        return nn.Dropout(self.dropout, deterministic=not train)(y)
