"""Edits that give a target the source's inner features: MasaCtrl and plug-and-play.

Both are controls of a denoiser (`jaxgen.nn.control`) whose batch is (b * r) rows, or twice that
with the unasked first; of each r rows the first is the source's.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.nn.attention import attention
from jaxgen.nn.control import Control, Layer


def mutual(
    step: jax.Array,
    rows: int,
    *,
    first_step: jax.Array | int,
    first_layer: int,
    masks: tuple[jax.Array, jax.Array] | None = None,
) -> Control:
    """MasaCtrl (Cao et al. 2023): targets ask, in self-attention, among the source's places alone.

    So a pose may change while what is seen stays; words' attention is as it is.

    Args:
      step: of the sampler. first_step: from which on it is done. first_layer: of the layers of
        self-attention, counted from 0.
      masks: (of the source, of the targets) (b, h, w) 0 or 1, of any size: the object's places ask
        among the object's, the others among the others.
    """

    def change(layer: Layer, *arrays):
        # Of a net that attends to a context each second layer is one of self-attention.
        if layer.kind != "self" or _of_kind(layer) < first_layer:
            return None
        q, k, v, mask = arrays
        source_k, source_v = _of_source(k, rows), _of_source(v, rows)
        if masks is None:
            asked = attention(q, source_k, source_v, mask)
        else:
            own, other = (_places(m, layer.size, len(q), rows) for m in masks)
            inside = attention(q, source_k, source_v, own > 0)
            outside = attention(q, source_k, source_v, own <= 0)
            there = other[:, :, None, None].astype(q.dtype)
            asked = inside * there + outside * (1 - there)
        targets = (jnp.arange(len(q)) % rows > 0)[:, None, None, None]
        return jnp.where(targets & (step >= first_step), asked, attention(q, k, v, mask))

    return change


def _of_kind(layer: Layer) -> int:
    return layer.number // 2 if layer.name.endswith("attn1") else layer.number


def _of_source(x: jax.Array, rows: int) -> jax.Array:
    """Each row's own source: (n, ...) -> (n, ...)."""
    return jnp.repeat(x[::rows], rows, axis=0)


def _places(mask: jax.Array, size: tuple[int, int], count: int, rows: int) -> jax.Array:
    """(b, h, w) -> (count, places), by the nearest; the same for all rows of a picture."""
    down, across = (np.arange(n) * m // n for n, m in zip(size, mask.shape[1:], strict=True))
    flat = jnp.asarray(mask)[:, down][:, :, across].reshape(len(mask), -1)
    return flat[np.arange(count) // rows % len(mask)]


def plugged(
    step: jax.Array,
    rows: int,
    *,
    residuals: frozenset[str],
    attentions: frozenset[str],
    residual_steps: jax.Array | int,
    attention_steps: jax.Array | int,
) -> Control:
    """Plug-and-play features (Tumanyan et al. 2023): the source's inner maps, put into the targets.

    Args:
      residuals: names of the layers whose residual branch is the source's, up to the step
        `residual_steps`. attentions: of those whose self-attention looks where the source's does,
        up to `attention_steps`. Their batch is (n * rows), each source first.
    """

    def change(layer: Layer, *arrays):
        if layer.name in residuals:
            (h,) = arrays
            return jnp.where(step < residual_steps, _of_source(h, rows), h)
        if layer.name in attentions:
            q, k, v, mask = arrays
            q, k = (jnp.where(step < attention_steps, _of_source(x, rows), x) for x in (q, k))
            return attention(q, k, v, mask)
        return None

    return change
