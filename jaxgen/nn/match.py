"""The pictures' side of text-picture matching: features of regions and of the whole."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.conv import Conv

MOST = 8  # rows and columns of regions


class MatchEncoder(nn.Module):
    """A small CNN, trained on one's own pictures, in the place of DAMSM's Inception v3.

    Strided convolutions down to at most 8 x 8 places, whose features with a learned vector for each
    place are the regions; one more, and a projection of its whole map, is the picture. Both so know
    where things are, which averages would not.

    Attributes:
      features: channels of the first layer; each further layer doubles them, up to eight times.
      width: of the features that are given; the text features' width.
      dtype: of the computation; parameters are float32.
    """

    features: int = 16
    width: int = 64
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(b, n, n, 3) in [-1, 1] -> (regions (b, r, width), whole (b, width)), r <= 64."""
        x = self._layer(x.astype(self.dtype), 0, 1 if x.shape[1] <= MOST else 2)
        i = 1
        while x.shape[1] > MOST:
            x = self._layer(x, i, 2)
            i += 1
        b, h, w, c = x.shape
        place = self.param("place", nn.initializers.normal(1.0), (h, w, c))
        placed = nn.leaky_relu(self._project(x + place.astype(self.dtype)[None], c, "regions_in"))
        regions = self._project(placed, self.width, "regions").reshape(b, h * w, self.width)
        last = self._layer(x, i, 2)
        return regions, self._project(last.reshape(b, -1), self.width, "whole")

    def _layer(self, x: jax.Array, i: int, strides: int) -> jax.Array:
        channels = self.features * min(2**i, 8)
        x = Conv(channels, 3, strides, dtype=self.dtype, name=f"conv_{i}")(x)
        x = nn.GroupNorm(
            None, group_size=math.gcd(8, channels), dtype=self.dtype, name=f"norm_{i}"
        )(x)
        return nn.leaky_relu(x, 0.2)

    def _project(self, x: jax.Array, width: int, name: str) -> jax.Array:
        return nn.Dense(width, dtype=self.dtype, name=name)(x)
