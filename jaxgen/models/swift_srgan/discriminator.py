"""Swift-SRGAN's discriminator: SRGAN's with separable convolutions and a head for any size."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.nn.depthwise import SeparableConv


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
    """(b, h, w, c) -> (b, size, size, c) float32, as PyTorch's AdaptiveAvgPool2d.

    Cell i is the mean of rows floor(i*h/size) to ceil((i+1)*h/size), columns alike; cells overlap
    where the sides are no multiples of `size`.
    """
    rows, columns = (jnp.asarray(_pool_weights(n, size)) for n in x.shape[1:3])
    return jnp.einsum("ih,bhwc,jw->bijc", rows, x.astype(jnp.float32), columns)


def _pool_weights(n: int, size: int) -> np.ndarray:
    weights = np.zeros((size, n), np.float32)
    for i in range(size):
        start, end = i * n // size, -(-(i + 1) * n // size)
        weights[i, start:end] = 1 / (end - start)
    return weights


class SwiftDiscriminator(nn.Module):
    """Eight separable 3x3 convolutions, every second one with stride 2, pooling, two dense layers.

    19,413,279 parameters with the defaults, of which the first dense layer has 18,875,392.

    Attributes:
      features: channels of the first convolution; doubled three times.
      hidden: width of the head's hidden layer.
      pool: the head sees the picture as pool x pool cells.
      dtype: of the computation; parameters and logits are float32.
    """

    features: int = 64
    hidden: int = 1024
    pool: int = 6
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """x (b, h, w, 3) in [-1, 1] -> logits (b,) float32. Inside, it works in [0, 1]."""
        y = (x + 1.0) / 2.0
        for i in range(8):
            # Channels 64 64 | 128 128 | 256 256 | 512 512, the second of each pair with stride 2.
            y = SeparableConv(
                self.features * 2 ** (i // 2),
                3,
                strides=1 + i % 2,
                use_bias=i == 0,
                dtype=self.dtype,
                name=f"block_{i}_conv",
            )(y)
            if i:
                y = nn.BatchNorm(not train, momentum=0.9, dtype=self.dtype, name=f"block_{i}_norm")(
                    y
                )
            y = nn.leaky_relu(y, 0.2)
        # (b, h / 16, w / 16, 8 * features)
        y = adaptive_average_pool(y, self.pool).astype(self.dtype)
        y = nn.Dense(self.hidden, dtype=self.dtype, name="dense_0")(y.reshape(y.shape[0], -1))
        y = nn.leaky_relu(y, 0.2).astype(jnp.float32)
        return nn.Dense(1, dtype=jnp.float32, name="dense_1")(y)[:, 0]
