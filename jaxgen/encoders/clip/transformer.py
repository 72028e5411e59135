"""CLIP's transformer: norms before attention and before the MLP; q, k and v from one kernel."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.attention import attention


def quick_gelu(x: jax.Array) -> jax.Array:
    """x * sigmoid(1.702 x): the GELU of OpenAI's weights, up to .02 from the exact one."""
    return x * nn.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "quick_gelu": quick_gelu,
    "gelu": partial(nn.gelu, approximate=False),
}
# float32 whatever the dtype of the rest, as published.
LayerNorm = partial(nn.LayerNorm, epsilon=1e-5, dtype=jnp.float32)


class Transformer(nn.Module):
    """A stack of pre-norm blocks, without a norm at its end.

    Attributes:
      width: of the features.
      layers: blocks.
      heads: width / heads is a head's size.
      activation: of `ACTIVATIONS`.
      causal: a place sees itself and those before it.
      dtype: of the computation; parameters and norms are float32.
      mlp: width of the MLPs; 0: four times `width`.
    """

    width: int
    layers: int
    heads: int
    activation: str = "quick_gelu"
    causal: bool = False
    dtype: Any = jnp.float32
    mlp: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, depth: int | None = None) -> jax.Array:
        """(b, n, width) -> the same shape, after `depth` blocks (None: all)."""
        block = partial(
            Block, self.width, self.layers, self.heads, self.activation, self.causal, self.dtype,
            self.mlp,
        )  # fmt: skip
        for i in range(self.layers if depth is None else depth):
            x = block(name=f"block_{i}")(x)
        return x


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); its attributes are the transformer's."""

    width: int
    layers: int
    heads: int
    activation: str
    causal: bool
    dtype: Any
    mlp: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(b, n, width) -> the same shape."""
        b, n, _ = x.shape
        # Deep stacks start with small steps, as published (its `initialize_parameters`).
        inner = self.width**-0.5
        out = inner * (2 * self.layers) ** -0.5
        dense = partial(nn.Dense, dtype=self.dtype)
        y = LayerNorm(name="ln_1")(x).astype(self.dtype)
        qkv = dense(3 * self.width, kernel_init=nn.initializers.normal(inner), name="qkv")(y)
        q, k, v = jnp.moveaxis(qkv.reshape(b, n, 3, self.heads, -1), 2, 0)
        mask = jnp.tril(jnp.ones((n, n), bool))[None] if self.causal else None
        y = attention(q, k, v, mask).reshape(b, n, self.width)
        x = x + dense(self.width, kernel_init=nn.initializers.normal(out), name="out")(y)
        y = LayerNorm(name="ln_2")(x).astype(self.dtype)
        hidden = nn.initializers.normal((2 * self.width) ** -0.5)
        y = dense(self.mlp or 4 * self.width, kernel_init=hidden, name="mlp_in")(y)
        y = ACTIVATIONS[self.activation](y)
        return x + dense(self.width, kernel_init=nn.initializers.normal(out), name="mlp_out")(y)
