"""Transformers over token sequences: minGPT's, causal with a cache, and MaskGIT's, in both
directions.

`GPT` is the decoder of taming-transformers (Esser et al. 2021), `Bidirectional` the BERT of MaskGIT
(Chang et al. 2022). Parameters are named alike: `layer_{i}` holds query, key, value, proj and the
MLP's two layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxgen.nn.attention import attention

INIT = nn.initializers.normal(0.02)
# Of each layer (keys, values), each (b, heads, length, head size).
Cache: TypeAlias = tuple[tuple[jax.Array, jax.Array], ...]


class GPT(nn.Module):
    """A causal transformer: each position gives the logits of what comes next (minGPT's form).

    Pre-norm layers, biases everywhere but in the head, exact GELU, a head of its own; 304,932,864
    parameters with 24 layers of 1024, 1024 ids and 512 positions; 1,410,640,896 with 48 layers of
    1536, 16,384 ids and 256 positions. Dropout acts on embeddings and on what layers add, not on
    attention's weights, which a fused kernel never gives.

    Attributes:
      ids: number of different input tokens. codes: of those that are predicted, the first ones.
      length: the longest sequence.
      layers, heads: of attention; the MLPs are four times as wide.
      width: of the features; a multiple of `heads`.
      dropout: in training.
      remat: compute the layers anew in the backward pass, for less memory.
      dtype: of the computation; parameters, softmax and logits are float32.
    """

    ids: int
    codes: int
    length: int
    layers: int = 6
    heads: int = 4
    width: int = 128
    dropout: float = 0.0
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        cache: Cache | None = None,
        start: jax.Array | int = 0,
        train: bool = False,
    ) -> Any:
        """Logits of the tokens that follow.

        Args:
          x: (b, n) int32 tokens, or (b, n, width) vectors in their place (see `vectors`).
          cache: of the positions before `start`; None: there are none, and none is kept.
          start: position of x's first token; may be traced.

        Returns: logits (b, n, codes) float32; with a cache (logits, the cache with x's positions).
        """
        table = self.param("tokens", INIT, (self.ids, self.width))
        places = self.param("places", nn.initializers.zeros, (self.length, self.width))
        if x.ndim == 2:
            x = jnp.take(table, x, axis=0)
        n = x.shape[1]
        x = (x + lax.dynamic_slice_in_dim(places, start, n)[None]).astype(self.dtype)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        layer = nn.remat(_Causal, static_argnums=(4,)) if self.remat else _Causal
        kept = []
        for i in range(self.layers):
            made = layer(self.heads, self.width, self.dropout, self.dtype, name=f"layer_{i}")
            x, after = made(x, None if cache is None else cache[i], start, train)
            kept.append(after)
        x = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm")(x)
        head = nn.Dense(self.codes, use_bias=False, kernel_init=INIT, dtype=self.dtype, name="head")
        logits = head(x).astype(jnp.float32)
        return logits if cache is None else (logits, tuple(kept))

    def empty_cache(self, batch: int, length: int | None = None) -> Cache:
        """A cache for sequences of `length` tokens, by default the longest, with nothing in it."""
        shape = (batch, self.heads, length or self.length, self.width // self.heads)
        zeros = jnp.zeros(shape, self.dtype)
        return tuple((zeros, zeros) for _ in range(self.layers))


def vectors(variables: Any, tokens: jax.Array) -> jax.Array:
    """The vectors (b, n, width) that a `GPT` or a `Bidirectional` has for tokens (b, n)."""
    return jnp.take(variables["params"]["tokens"], tokens, axis=0)


class _Causal(nn.Module):
    heads: int
    width: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x, cache, start, train):
        def dense(x, features, name):
            return nn.Dense(features, kernel_init=INIT, dtype=self.dtype, name=name)(x)

        drop = nn.Dropout(self.dropout, deterministic=not train)
        y = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm_0")(x)
        q, k, v = (
            _split(dense(y, self.width, name), self.heads) for name in ("query", "key", "value")
        )
        if cache is None:
            n = x.shape[1]
            y = attention(q, k, v, jnp.tril(jnp.ones((n, n), bool))[None])
        else:
            y, cache = _attend_cached(q, k, v, cache, start)
        x = x + drop(dense(y.reshape(x.shape), self.width, "proj"))
        y = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm_1")(x)
        y = nn.gelu(dense(y, 4 * self.width, "mlp_in"), approximate=False)
        return x + drop(dense(y, self.width, "mlp_out")), cache


def _split(x: jax.Array, heads: int) -> jax.Array:
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)


def _attend_cached(q, k, v, cache, start):
    """Attention of positions start, start + 1, ... to all up to their own; q, k, v (b, n, h, d).

    Keys lie with their head in front, so that each step reads one straight stretch of memory per
    head.
    """
    keys, values = (
        lax.dynamic_update_slice(old, new.swapaxes(1, 2).astype(old.dtype), (0, 0, start, 0))
        for old, new in zip(cache, (k, v), strict=True)
    )
    q = q.swapaxes(1, 2)
    scores = jnp.einsum("bhnd,bhmd->bhnm", q, keys, preferred_element_type=jnp.float32)
    at = start + jnp.arange(q.shape[2])
    seen = jnp.arange(keys.shape[2])[None] <= at[:, None]  # (n, length)
    scores = jnp.where(seen[None, None], scores / math.sqrt(q.shape[-1]), -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    return jnp.einsum("bhnm,bhmd->bnhd", weights, values), (keys, values)


class Bidirectional(nn.Module):
    """A masked transformer: each position gives the logits of its own token (MaskGIT's BERT).

    Post-norm layers with epsilon 1e-12, tanh GELU, and an output tied to the input embedding with a
    bias of its own; 172,457,193 parameters with 24 layers of 768, MLPs of 3072, 2025 ids and 257
    positions. The last id is the mask.

    Attributes:
      ids: number of different tokens.
      length: the longest sequence.
      layers, heads: of attention.
      width: of the features; a multiple of `heads`.
      mlp: width of the MLPs; 0: four times `width`.
      dropout: of embeddings and of what layers add, in training.
      dtype: of the computation; parameters, softmax and logits are float32.
    """

    ids: int
    length: int
    layers: int = 6
    heads: int = 4
    width: int = 128
    mlp: int = 0
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """x: (b, n) int32 tokens, or (b, n, width) vectors -> logits (b, n, ids) float32."""
        init = nn.initializers.truncated_normal(0.02)

        def dense(x, features, name):
            return nn.Dense(features, kernel_init=init, dtype=self.dtype, name=name)(x)

        def norm(x, name):
            return nn.LayerNorm(epsilon=1e-12, dtype=self.dtype, name=name)(x)

        table = self.param("tokens", init, (self.ids, self.width))
        places = self.param("places", init, (self.length, self.width))
        if x.ndim == 2:
            x = jnp.take(table, x, axis=0)
        drop = nn.Dropout(self.dropout, deterministic=not train)
        x = norm((x + places[None, : x.shape[1]]).astype(self.dtype), "norm_in")
        x = drop(x)
        for i in range(self.layers):
            layer = _Both(
                self.heads, self.width, self.mlp or 4 * self.width, self.dropout, self.dtype,
                name=f"layer_{i}",
            )  # fmt: skip
            x = layer(x, train)
        x = norm(nn.gelu(dense(x, self.width, "out"), approximate=True), "norm_out")
        bias = self.param("bias", nn.initializers.zeros, (self.ids,))
        logits = jnp.einsum(
            "bnc,vc->bnv", x, table.astype(self.dtype), preferred_element_type=jnp.float32
        )
        return logits + bias[None, None]


class _Both(nn.Module):
    heads: int
    width: int
    mlp: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x, train):
        init = nn.initializers.truncated_normal(0.02)

        def dense(x, features, name):
            return nn.Dense(features, kernel_init=init, dtype=self.dtype, name=name)(x)

        def norm(x, name):
            return nn.LayerNorm(epsilon=1e-12, dtype=self.dtype, name=name)(x)

        drop = nn.Dropout(self.dropout, deterministic=not train)
        q, k, v = (
            _split(dense(x, self.width, name), self.heads) for name in ("query", "key", "value")
        )
        y = attention(q, k, v).reshape(x.shape)
        x = norm(x + drop(dense(y, self.width, "proj")), "norm_0")
        y = nn.gelu(dense(x, self.mlp, "mlp_in"), approximate=True)
        return norm(x + drop(dense(y, self.width, "mlp_out")), "norm_1")


def joined(parts: Sequence[jax.Array]) -> jax.Array:
    """Vectors (b, n, width) one after the other; parts without positions are left out."""
    found = [part for part in parts if part.shape[1]]
    return found[0] if len(found) == 1 else jnp.concatenate(found, axis=1)
