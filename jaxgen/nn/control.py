"""A denoiser's layers laid open: what an edit reads, and what it puts in their place.

A denoiser takes `control`, a function that it calls at each of its layers while it is traced:

    def control(layer, q, k, v, mask):                 # kind "self" or "cross"
        if layer.kind == "self" or layer.size[0] > 16:
            return None                                # as it is, by the fused kernel
        weights = probabilities(q, k, mask)            # (b, heads, n, m)
        weights = edit(weights, step)                  # step may be traced
        return mixed(weights, v), weights              # the output, and what is to be kept

    def control(layer, h):                             # kind "residual"
        return h.at[1].set(h[0])                       # what the block adds to its input

    noise, state = net.apply(variables, x, t, context, control=control, mutable=[KEPT])
    maps = kept(state)                                 # {"up_1_attn_0/block_0/attn2": weights}

Which layer is touched is known before anything runs, so that one compiled program holds the whole
edit, and only the layers touched hold their probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import flax.linen as nn
import jax

from jaxgen.nn.attention import attention
from jaxgen.weights.keymap import flatten

KEPT = "kept"  # the collection of what controls keep


class Layer(NamedTuple):
    """Which layer a control is called at.

    name: the layer's path among the parameters. number: among the layers of its own sort (attention
      of both kinds, or residual), in the order of their calls.
    kind: "self": attention of places to places, "cross": to the context, "residual": what a block
      adds to its input. place: "down", "mid" or "up". size: (h, w) of the map.
    """

    name: str
    number: int
    kind: str
    place: str
    size: tuple[int, int]


# (layer, q, k, v, mask) or (layer, h) -> None: as it is; the layer's output; or (output, kept).
Control: TypeAlias = Callable[..., Any]


def attend(
    module: nn.Module,
    control: Control | None,
    layer: Layer,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array | None = None,
) -> jax.Array:
    """`attention`, or what the control makes of it; within a module, which sows what is kept.

    q (b, n, heads, d), k and v (b, m, heads, d), mask (b, m) -> (b, n, heads, d).
    """
    found = None if control is None else control(layer, q, k, v, mask)
    return attention(q, k, v, mask) if found is None else _taken(module, found)


def residual(module: nn.Module, control: Control | None, layer: Layer, h: jax.Array) -> jax.Array:
    """What a block adds to its input, (b, h, w, c), or what the control makes of it."""
    found = None if control is None else control(layer, h)
    return h if found is None else _taken(module, found)


def kept(state: Mapping[str, Any]) -> dict[str, Any]:
    """{layer's name: what its control kept} of the collections that `apply` changed."""
    return {path.removesuffix(f"/{KEPT}"): x for path, x in flatten(state.get(KEPT, {})).items()}


def _taken(module: nn.Module, found: Any) -> jax.Array:
    if not isinstance(found, tuple):
        output: jax.Array = found
        return output
    output, value = found
    module.sow(KEPT, KEPT, value, reduce_fn=lambda _, new: new, init_fn=lambda: None)
    return output
