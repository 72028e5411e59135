"""Attention among many places in float32 on CPUs: head by head, some queries at a time.

XLA writes the scores of all heads to memory, reads them again for each step of the softmax, and
keeps them for the gradient. Here a block of one head's scores stays in the cache, and nothing of
their size is kept: the gradient computes them anew from the logarithms of their sums (Dao et al.
2022, FlashAttention, algorithm 4). Two heads at a time, for two cores. Measured in
docs/performance.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

Plain = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
QUERIES = 256  # of a block
# Scores of a head from which on it pays.
LEAST = 1 << 18
TOGETHER = 2  # heads


def takes(q: jax.Array, k: jax.Array) -> bool:
    """Whether it pays for q (b, n, heads, d) and k (b, m, heads, d), by this host's devices.

    On several devices it does not: a loop over heads leaves nothing to share among them.
    """
    alone = jax.default_backend() == "cpu" and jax.device_count() == 1
    return alone and q.dtype == jnp.float32 and q.shape[1] * k.shape[1] >= LEAST


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def attend(q: jax.Array, k: jax.Array, v: jax.Array, plain: Plain) -> jax.Array:
    """softmax(q k^T / sqrt(d)) v per head: q (b, n, heads, d), k, v (b, m, heads, d) -> as q.

    plain: the same, for programs of other platforms. Reverse mode only.
    """
    return _forward(q, k, v, plain)[0]


def _forward(q: jax.Array, k: jax.Array, v: jax.Array, plain: Plain) -> tuple[jax.Array, tuple]:
    def other(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        return plain(q, k, v), jnp.zeros(_sums_shape(q), q.dtype)

    out, sums = lax.platform_dependent(q, k, v, cpu=_blocks, default=other)
    return out, (q, k, v, out, sums)


def _backward(plain: Plain, saved: tuple, g: jax.Array) -> tuple[jax.Array, ...]:
    def other(q, k, v, out, sums, g):
        return jax.vjp(plain, q, k, v)[1](g)

    return lax.platform_dependent(*saved, g, cpu=_blocks_gradient, default=other)


attend.defvjp(_forward, _backward)


def _blocks(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(result, logarithms of the sums, `_sums_shape`)."""

    def head(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        scores = q @ k.T
        most = scores.max(axis=1, keepdims=True)
        e = jnp.exp(scores - most)
        total = e.sum(axis=1, keepdims=True)
        return (e @ v) / total, (most + jnp.log(total))[:, 0]

    def pair(given: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
        blocks, keys, values = given  # (blocks, together, queries, d), (together, m, d)

        def block(q: jax.Array) -> tuple[jax.Array, ...]:
            return _stacked([head(*one) for one in zip(q, keys, values, strict=True)])

        out, sums = lax.map(block, blocks)
        return out, sums

    out, sums = lax.map(pair, (_queries(q / math.sqrt(q.shape[3])), _pairs(k), _pairs(v)))
    return _unqueries(out, q.shape), sums


def _blocks_gradient(
    q: jax.Array, k: jax.Array, v: jax.Array, out: jax.Array, sums: jax.Array, g: jax.Array
) -> tuple[jax.Array, ...]:
    """Gradients of q, k and v."""
    scale = 1 / math.sqrt(q.shape[3])

    def head(q, g, sums, along, k, v):
        weights = jnp.exp(q @ k.T - sums[:, None])
        slope = weights * (g @ v.T - along)
        # The large factor last, and as it lies in memory: (d, queries) x (queries, m).
        return slope @ k, q.T @ slope, g.T @ weights

    def pair(given):
        queries, gs, sums, along, keys, values = given

        def block(total, one):
            found = [head(*each) for each in zip(*one, keys, values, strict=True)]
            dq, dk, dv = _stacked(found)
            return (total[0] + dk, total[1] + dv), dq

        zero = jnp.zeros_like(keys.swapaxes(1, 2))
        (dk, dv), dq = lax.scan(block, (zero, zero), (queries, gs, sums, along))
        return dq, dk.swapaxes(1, 2), dv.swapaxes(1, 2)

    along = jnp.sum(g * out, axis=3, keepdims=True)
    given = (_queries(q * scale), _queries(g), sums, _queries(along), _pairs(k), _pairs(v))
    dq, dk, dv = lax.map(pair, given)
    return scale * _unqueries(dq, q.shape), _unpairs(dk, k.shape), _unpairs(dv, v.shape)


# ---- heads side by side <-> pairs of heads, and blocks of queries --------------------------------


def _together(shape: tuple[int, ...]) -> int:
    return TOGETHER if shape[0] * shape[2] % TOGETHER == 0 else 1


def _pairs(x: jax.Array) -> jax.Array:
    """(b, n, heads, d) -> (b heads / together, together, n, d)."""
    return x.swapaxes(1, 2).reshape(-1, _together(x.shape), x.shape[1], x.shape[3])


def _unpairs(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    b, n, heads, d = shape
    return x.reshape(b, heads, n, d).swapaxes(1, 2)


def _queries(x: jax.Array) -> jax.Array:
    """(b, n, heads, d) -> (pairs, blocks, together, QUERIES, d), zeros behind the last."""
    x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % QUERIES), (0, 0), (0, 0)))
    pairs = _pairs(x)
    return pairs.reshape(*pairs.shape[:2], -1, QUERIES, x.shape[3]).swapaxes(1, 2)


def _unqueries(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    b, n, heads, d = shape
    full = (b, n + -n % QUERIES, heads, d)
    return _unpairs(x.swapaxes(1, 2).reshape(*x.shape[:1], x.shape[2], -1, d), full)[:, :n]


def _sums_shape(q: jax.Array) -> tuple[int, ...]:
    together = _together(q.shape)
    blocks = -(-q.shape[1] // QUERIES)
    return (q.shape[0] * q.shape[2] // together, blocks, together, QUERIES)


def _stacked(found: list[tuple[jax.Array, ...]]) -> tuple[jax.Array, ...]:
    """The parts of each head's result, stacked."""
    return tuple(jnp.stack(part) for part in zip(*found, strict=True))
