"""Low-rank changes (Hu et al. 2021) to a net's dense layers, for fine-tuning in a small file."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.weights.keymap import flatten, unflatten

Change = dict[str, dict[str, jax.Array]]  # {path of a kernel: {"down" (in, r), "up" (r, out)}}


def begin(params: Any, rank: int, rng: jax.Array, within: str = "attn") -> Change:
    """Changes that change nothing yet, of the 2-D kernels whose path the regex `within` finds.

    `up` is zero. With no such layer, of all 2-D kernels.
    """
    chosen = layers(params, within) or layers(params, "")
    found = {}
    for i, (path, leaf) in enumerate(sorted(chosen.items())):
        wide, out = leaf.shape
        key = jax.random.fold_in(rng, i)
        found[path] = {
            "down": jax.random.normal(key, (wide, rank)) / jnp.sqrt(wide),
            "up": jnp.zeros((rank, out)),
        }
    return found


def layers(params: Any, within: str) -> dict[str, Any]:
    """{path: kernel} of the 2-D kernels whose path the regex `within` finds."""
    return {
        path: leaf
        for path, leaf in flatten(params).items()
        if path.endswith("kernel") and leaf.ndim == 2 and re.search(within, path)
    }


def nested(change: Change) -> Any:
    """Changes as a tree with the net's own levels, as files have them."""
    return unflatten(change)


def flat(tree: Any) -> Change:
    """The inverse of `nested`."""
    found: Change = {}
    for path, leaf in flatten(tree).items():
        kernel, _, half = path.rpartition("/")
        found.setdefault(kernel, {})[half] = leaf
    return found


def added(params: Any, change: Change, scale: jax.Array | float = 1.0) -> Any:
    """The parameters with changes; others are the same arrays."""
    leaves = dict(flatten(params))
    for path, one in change.items():
        leaves[path] = leaves[path] + scale * (one["down"] @ one["up"])
    return unflatten(leaves)
