"""The maximum over windows, with a gradient that is fast on CPUs."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxgen.nn.cpu.conv import by_platform
from jaxgen.nn.cpu.gradients import cut, spread

# Padding of rows and of columns, before and after.
Pads = tuple[tuple[int, int], tuple[int, int]]


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool(x: jax.Array, window: int, stride: int, pads: Pads = ((0, 0), (0, 0))) -> jax.Array:
    """x (b, h, w, c) of floats -> (b, h', w', c), the largest of each window; the border is none.

    The gradient goes to the first of equal ones, row by row. On CPUs it is made of shifted
    inputs, which is ten times as fast as XLA's way. Differentiable in reverse mode alone.
    """
    return _largest(x, window, stride, pads)


def _largest(x: jax.Array, window: int, stride: int, pads: Pads) -> jax.Array:
    sizes, strides = (1, window, window, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, sizes, strides, ((0, 0), *pads, (0, 0)))


def _forward(x: jax.Array, window: int, stride: int, pads: Pads) -> tuple[jax.Array, jax.Array]:
    return max_pool(x, window, stride, pads), x


def _backward(window: int, stride: int, pads: Pads, x: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    fast = partial(_gradient, window=window, stride=stride, pads=pads)
    plain = partial(_plain_gradient, window=window, stride=stride, pads=pads)
    return (by_platform(fast, plain, x, g),)


max_pool.defvjp(_forward, _backward)


def _gradient(x: jax.Array, g: jax.Array, window: int, stride: int, pads: Pads) -> jax.Array:
    wide = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf)
    h, w = g.shape[1], g.shape[2]
    best, which = None, jnp.zeros(g.shape, jnp.int16)
    for place in range(window * window):
        i, j = divmod(place, window)
        seen = wide[:, i : i + stride * (h - 1) + 1 : stride, j : j + stride * (w - 1) + 1 : stride]
        if best is None:
            best = seen
            continue
        which = jnp.where(seen > best, jnp.int16(place), which)
        best = jnp.maximum(seen, best)
    # Else XLA would look for the largest once more for each of the places below.
    which = lax.optimization_barrier(which)

    def tap(i: int, j: int) -> jax.Array:
        return jnp.where(which == window * i + j, g, jnp.zeros((), g.dtype))

    y = spread(tap, (h, w), (window, window), (stride, stride))
    return cut(y, (x.shape[1], x.shape[2]), (pads[0][0], pads[1][0]))


def _plain_gradient(x: jax.Array, g: jax.Array, window: int, stride: int, pads: Pads) -> jax.Array:
    return jax.vjp(lambda x: _largest(x, window, stride, pads), x)[1](g)[0]
