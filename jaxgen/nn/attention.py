"""Attention, one function for all models."""

from __future__ import annotations

import math
from typing import Literal, overload

import jax
import jax.numpy as jnp
from jax import lax

from jaxgen.nn.cpu import attention as on_cpu

# cuDNN's fused attention: the largest head, and the first GPUs that have it (Ampere).
_FUSED_HEAD, _FUSED_CAPABILITY = 128, 8.0
# Bytes of scores that are held at once, and queries at a time beyond that: all places of a large
# picture look at all others.
_WHOLE, _BLOCK = 1 << 30, 1024


@overload
def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array | None = None,
    *,
    return_weights: Literal[False] = False,
) -> jax.Array: ...


@overload
def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array | None = None,
    *,
    return_weights: Literal[True],
) -> tuple[jax.Array, jax.Array]: ...


def attention(q, k, v, mask=None, *, return_weights=False):
    """softmax(q k^T / sqrt(d)) v per head (Vaswani et al. 2017, eq. 1).

    The softmax is float32 whatever the inputs. A query to which the mask leaves no key gives zeros.
    Differentiable in reverse mode.

    Args:
      q: (b, n, heads, d). k, v: (b, m, heads, d).
      mask: bool, True where attention may go: (b, m), the same for all queries, or (b, n, m).
      return_weights: gives (result, weights (b, heads, n, m) float32, which sum to one over m).

    Returns: (b, n, heads, d) in v's dtype.
    """
    if return_weights:
        weights = probabilities(q, k, mask)
        return mixed(weights, v), weights
    if mask is not None:
        mask = _by_heads(mask)
    elif on_cpu.takes(q, k):
        return on_cpu.attend(q, k, v, _unmasked)
    if not _fused(q, k, mask):
        return _by_xla(q, k, v, mask)
    # By the platform of the program, which may be another than that of its host.
    return lax.platform_dependent(q, k, v, mask, cuda=_by_cudnn, default=_by_xla)


def probabilities(q: jax.Array, k: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """softmax(q k^T / sqrt(d)) per head, (b, heads, n, m) float32, which sums to one over m.

    q (b, n, heads, d), k (b, m, heads, d), mask as of `attention`; zeros where it leaves no key.
    """
    return _plain(q, k, mask if mask is None else _by_heads(mask))


def mixed(weights: jax.Array, v: jax.Array) -> jax.Array:
    """Weights (b, heads, n, m) of v (b, m, heads, d) -> (b, n, heads, d) in v's dtype."""
    return jnp.einsum("bhnm,bmhd->bnhd", weights.astype(v.dtype), v)


def _by_heads(mask: jax.Array) -> jax.Array:
    """(b, m) or (b, n, m) -> (b, 1, 1 or n, m)."""
    return mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]


def _plain(q: jax.Array, k: jax.Array, mask: jax.Array | None) -> jax.Array:
    """`probabilities`; mask (b, 1, 1 or n, m)."""
    scores = jnp.einsum("bnhd,bmhd->bhnm", q, k, preferred_element_type=jnp.float32)
    scores = scores / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1)
    return weights if mask is None else jnp.where(mask, weights, 0.0)


def _by_xla(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None) -> jax.Array:
    if mask is None and 4 * q.shape[0] * q.shape[2] * q.shape[1] * k.shape[1] > _WHOLE:
        return _in_blocks(q, k, v)
    return mixed(_plain(q, k, mask), v)


def _unmasked(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    return _by_xla(q, k, v, None)


def _in_blocks(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """The same, some queries at a time: each has its own row of the scores."""
    n = q.shape[1]
    blocks = jnp.pad(q, ((0, 0), (0, -n % _BLOCK), (0, 0), (0, 0)))
    blocks = blocks.reshape(q.shape[0], -1, _BLOCK, *q.shape[2:]).swapaxes(0, 1)
    found = lax.map(lambda block: mixed(_plain(block, k, None), v), blocks).swapaxes(0, 1)
    return found.reshape(q.shape[0], -1, *v.shape[2:])[:, :n]


def _by_cudnn(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None) -> jax.Array:
    full = None
    if mask is not None:
        full = jnp.broadcast_to(mask, (q.shape[0], 1, q.shape[1], k.shape[1]))
    y = jax.nn.dot_product_attention(q, k, v, mask=full, implementation="cudnn")
    return y if full is None else jnp.where(_any_key(full), y, jnp.zeros((), y.dtype))


def _any_key(mask: jax.Array) -> jax.Array:
    """(b, 1, n, m) -> (b, n, 1, 1)."""
    return mask.any(axis=-1).swapaxes(1, 2)[..., None]


def _fused(q: jax.Array, k: jax.Array, mask: jax.Array | None) -> bool:
    """Whether this host's cuDNN can compute it: JAX never takes it by itself."""
    if jax.default_backend() != "gpu" or q.dtype != jnp.bfloat16:
        return False
    if q.shape[-1] % 8 or q.shape[-1] > _FUSED_HEAD:
        return False
    # A mask goes in as a bias, whose gradient needs even lengths.
    if mask is not None and (q.shape[1] % 2 or k.shape[1] % 2):
        return False
    device = jax.devices()[0]
    cuda = device.platform_version.lower().startswith("cuda")
    return cuda and float(getattr(device, "compute_capability", 0.0)) >= _FUSED_CAPABILITY
