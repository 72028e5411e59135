"""How a denoiser is told the time, and what else holds for all of what it denoises."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp


def sinusoid(t: jax.Array, width: int) -> jax.Array:
    """Times (b,), fractions too -> (b, width) float32: cosines, then sines.

    Frequencies 10000^(-i / (width / 2)) (Vaswani et al. 2017, section 3.5, without its half step).
    """
    half = width // 2
    rates = jnp.exp(-math.log(10000.0) * jnp.arange(half, dtype=jnp.float32) / half)
    angles = t.astype(jnp.float32)[:, None] * rates[None]
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class TimeEmbedding(nn.Module):
    """Times (b,) and what else holds for the whole picture -> (b, width) float32.

    Attributes:
      sines: width of the sinusoid, even.
      width: of the result.
      classes: known ones; one more, the last, stands for none. 0: there are no classes.
      pooled: width of a sentence's or class's embedding; 0: there is none.
    """

    sines: int
    width: int
    classes: int = 0
    pooled: int = 0

    @nn.compact
    def __call__(self, t: jax.Array, label: jax.Array | None = None) -> jax.Array:
        """label: (b,) int, or (b, pooled) float; None: no class, a pooled embedding of zeros."""
        y = nn.Dense(self.width, name="linear_1")(sinusoid(t, self.sines))
        y = nn.Dense(self.width, name="linear_2")(nn.silu(y))
        if self.classes:
            label = jnp.full(t.shape, self.classes) if label is None else label
            init = nn.initializers.normal(0.02)
            return y + nn.Embed(self.classes + 1, self.width, embedding_init=init, name="label")(
                label
            )
        if self.pooled:
            label = jnp.zeros((t.shape[0], self.pooled)) if label is None else label
            z = nn.Dense(self.width, name="pooled_1")(label.astype(jnp.float32))
            return y + nn.Dense(self.width, name="pooled_2")(nn.silu(z))
        return y
