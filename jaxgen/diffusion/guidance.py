"""Classifier-free guidance (Ho & Salimans 2022): away from what the net draws unasked.

A negative prompt is the condition that is led away from: it takes the place of the empty one.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgen.diffusion.sampling import Denoise
from jaxgen.diffusion.targets import per_sample

PyTree = object
# (x (b, ...), times (b,), condition: a tree of (b, ...)) -> what the net says, shaped as x.
Predict = Callable[[jax.Array, jax.Array, PyTree], jax.Array]


def guide(asked: jax.Array, unasked: jax.Array, scale: jax.Array | float) -> jax.Array:
    """scale (asked - unasked) + unasked: 0 is unconditional, 1 the condition alone, 7.5 common."""
    return scale * (asked - unasked) + unasked


def rescale(guided: jax.Array, asked: jax.Array, amount: jax.Array | float) -> jax.Array:
    """Guidance back to the spread of the condition's own prediction (Lin et al. 2023, equation 16).

    Args:
      guided, asked: (b, ...).
      amount: from 0, not at all, to 1; published 0.7. Schedules of zero SNR overexpose without.
    """
    axes = tuple(range(1, asked.ndim))

    def spread(x: jax.Array) -> jax.Array:
        return jnp.std(x, axis=axes, keepdims=True, ddof=1)

    even = guided * (spread(asked) / spread(guided))
    return amount * even + (1 - amount) * guided


def guided(
    predict: Predict,
    asked: PyTree,
    unasked: PyTree,
    scale: jax.Array | float,
    *,
    amount: jax.Array | float = 0.0,
    interval: tuple[jax.Array | float, jax.Array | float] | None = None,
) -> Denoise:
    """A net under guidance, as samplers call it: one pass of twice the batch, [unasked, asked].

    Args:
      predict: the net.
      asked, unasked: conditions, trees of (b, ...).
      scale: scalar or (b,); traced, so another one compiles nothing.
      amount: see `rescale`.
      interval: least and most time, in the net's own units, at which to guide; outside, the
        condition alone (Kynkaanniemi et al. 2024). None: always.
    """

    def denoise(x: jax.Array, t: jax.Array) -> jax.Array:
        both = jax.tree.map(lambda u, a: jnp.concatenate([u, a]), unasked, asked)
        out = predict(jnp.concatenate([x, x]), jnp.concatenate([t, t]), both)
        without, with_ = jnp.split(out.astype(x.dtype), 2)
        led = guide(with_, without, per_sample(jnp.asarray(scale, x.dtype), x))
        led = rescale(led, with_, amount)
        if interval is None:
            return led
        least, most = interval
        return jnp.where(per_sample((least <= t) & (t <= most), x), led, with_)

    return denoise
