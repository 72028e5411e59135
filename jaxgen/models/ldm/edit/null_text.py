"""Inversions that change what guidance leads away from: null-text and negative-prompt."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen import devices
from jaxgen.diffusion.sampling import Denoise
from jaxgen.edit.null_text import null_text as learn
from jaxgen.edit.path import Path, ascend, told
from jaxgen.edit.proximal import slerp
from jaxgen.models.ldm.edit.editing import Asked, Editing
from jaxgen.models.ldm.edit.inverted import Inverted

# What the net holds for its gradients at most, its weights among it. Where that would be more it
# computes its blocks anew: a third pass beside two. The same on every machine: what is free must
# not change a picture's last bits.
HELD = 2 << 30


def null_text(
    editing: Editing, nets: Any, shared: Mapping[str, Any], each: Any, x0: jax.Array, asked: Asked
) -> Inverted:
    """An empty prompt learnt for each step and picture (Mokady et al. 2023)."""
    del each
    path: Path = shared["path"]
    free = editing.unasked(nets, shared, len(x0))
    assert free is not None  # `prepared` made sure
    states = ascend(_under(editing, nets, asked), path, x0)
    lean = _lean(editing, nets, path, x0, free)

    def one(states: jax.Array, asked: Asked, free: Asked) -> jax.Array:
        asked, free = (jax.tree.map(lambda a: a[None], tree) for tree in (asked, free))

        def unasked(x: jax.Array, t: jax.Array, context: jax.Array) -> jax.Array:
            return _under(lean, nets, {**free, "context": context})(x, t)

        return learn(
            _under(lean, nets, asked), unasked, path, states[:, None], free["context"],
            shared["guidance"],
        ).embeddings[:, 0]  # fmt: skip

    learnt = jax.vmap(one, in_axes=(1, 0, 0), out_axes=1)(states, asked, free)
    whole = _each_step(free, len(path))
    return Inverted(states[-1], None, {**whole, "context": learnt})


def _lean(editing: Editing, nets: Any, path: Path, x: jax.Array, free: Asked) -> Editing:
    """As it is, or with a net that holds less for the gradients of all rows of x."""

    def said(context: jax.Array) -> jax.Array:
        return _under(editing, nets, {**free, "context": context})(x, told(path.times[0], x))

    if devices.held(said, free["context"]) <= HELD:
        return editing
    lean = copy.copy(editing)
    lean.net = editing.net.clone(remat=True)
    return lean


def negative(
    editing: Editing, nets: Any, shared: Mapping[str, Any], each: Any, x0: jax.Array, asked: Asked
) -> Inverted:
    """The caption takes the empty prompt's place (Miyake et al. 2023): nothing is learnt.

    `negative_slerp` goes back to the empty prompt by that share.
    """
    del each
    path: Path = shared["path"]
    states = ascend(_under(editing, nets, asked), path, x0)
    free, share = editing.unasked(nets, shared, len(x0)), shared["negative_slerp"]
    assert free is not None  # `prepared` made sure
    asked = {**asked, "context": slerp(asked["context"], free["context"], share)}
    return Inverted(states[-1], None, _each_step(asked, len(path)))


def _under(editing: Editing, nets: Any, asked: Asked) -> Denoise:
    return lambda x, t: editing.predict(nets, x, t[0], asked)[0]


def _each_step(asked: Asked, steps: int) -> Asked:
    return jax.tree.map(lambda a: jnp.broadcast_to(a, (steps, *a.shape)), asked)
