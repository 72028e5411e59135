"""Plug-and-play features with a diffusion model: an inverted source's inner maps in the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.diffusion.guidance import guide
from jaxgen.edit.prompt_to_prompt import blended
from jaxgen.edit.source_features import plugged
from jaxgen.models.ldm.edit.editing import Asked, Editing, walk
from jaxgen.models.ldm.edit.inversion import inverse, start
from jaxgen.models.ldm.edit.inverted import Inverted
from jaxgen.verbs import Option
from jaxgen.verbs.edit.contract import Method, Outcome, Prepared, Request

OPTIONS = {
    "features": Option(0.8, "share of the steps with the source's features", least=0.0, most=1.0),
    "attention": Option(0.5, "share of the steps that look where the source does", least=0.0,
                        most=1.0),
}  # fmt: skip


def method(editing: Editing) -> Method:
    """See `jaxgen.verbs.edit.contract.Method`."""

    def refusal() -> str:
        if editing.texts or plugged_layers(editing)[0]:
            return editing.texts
        return "it has no residual blocks on a way up, as a UNet has; take p2p or masactrl"

    says = "Plug-and-play: the source's inner features, other words"
    kinds = {"captioned": False, "draws": False, "refusal": refusal}
    return editing.method(says, prepare, run, OPTIONS, **kinds)


def plugged_layers(editing: Editing) -> tuple[frozenset[str], frozenset[str]]:
    """Names of (residual branches, self-attentions) that are the source's.

    Published, of Stable Diffusion: block 1 of level 1 on the way up, and all self-attention on it
    but the first. Of shallower nets the levels that there are.
    """
    up = [layer for layer in editing.layers if layer.place == "up"]
    residuals = [layer.name for layer in up if layer.kind == "residual"]
    attentions = [layer.name for layer in up if layer.kind == "self"]
    chosen = [name for name in residuals if name == "up_1_resnet_1"] or residuals[1:2]
    return frozenset(chosen), frozenset(attentions[1:] or attentions)


def prepare(editing: Editing, request: Request, settings: Mapping[str, Any]) -> Prepared:
    """See `Method.prepare`. The source is inverted without words, as published."""
    shared = editing.steps(settings)
    shared["inverse"] = inverse(shared["plan"], editing, settings["steps"])
    calls = int(shared["plan"].calls)
    for name in OPTIONS:
        shared[name] = np.int32(settings[name] * calls + 1e-9)
    return Prepared(shared, editing.request(request._replace(source="")))


def run(editing: Editing, nets: Any, shared: Any, each: Any) -> Outcome:
    """See `Method.run`."""
    b, r = each["tokens"].shape[:2]
    asked = editing.embed(nets, each["tokens"], each["mask"])
    found = start(editing, nets, shared, each, asked, "direct", r)
    x = edit(
        editing, nets, shared, found, asked, (b, r),
        steps=(shared["features"], shared["attention"]), where=editing.where(each),
    )  # fmt: skip
    return editing.finished(nets, x, each)


def edit(
    editing: Editing,
    nets: Any,
    shared: Any,
    found: Inverted,
    asked: Asked,
    rows: tuple[int, int],
    *,
    steps: tuple[jax.Array | int, jax.Array | int],
    where: jax.Array | None = None,
) -> jax.Array:
    """x (b, r, ...) after all steps; the first rows go as they were inverted, asked for by
    their own words alone; targets are guided.

    Args: asked: of b * r rows. steps: up to which (features, attention) are the source's.
    """
    b, r = rows
    unasked = editing.unasked(nets, shared, b * (r - 1))
    residuals, attentions = plugged_layers(editing)
    scale = shared.get("guidance", 1.0)

    def grouped(tree: Any) -> Any:
        return jax.tree.map(lambda a: a.reshape(b, -1, *a.shape[1:]), tree)

    # Of each picture the source, its targets unasked, its targets asked.
    parts = [grouped(asked)]
    if unasked is not None:
        parts = [
            jax.tree.map(lambda a: a[:, :1], parts[0]),
            grouped(unasked),
            jax.tree.map(lambda a: a[:, 1:], parts[0]),
        ]
    words = jax.tree.map(lambda *a: jnp.concatenate(a, axis=1).reshape(-1, *a[0].shape[2:]), *parts)

    def call(i: jax.Array, x: jax.Array, t: jax.Array, carry: Any) -> tuple[jax.Array, Any]:
        seen = x if unasked is None else jnp.concatenate([x, x[:, 1:]], axis=1)
        control = plugged(
            i, seen.shape[1], residuals=residuals, attentions=attentions,
            residual_steps=steps[0], attention_steps=steps[1],
        )  # fmt: skip
        flat = seen.reshape(-1, *x.shape[2:])
        out, _ = editing.predict(nets, flat, t, words, control=control)
        out = out.reshape(seen.shape)
        if unasked is not None:
            free, led = out[:, 1:r], out[:, r:]
            out = jnp.concatenate([out[:, :1], guide(led, free, scale)], axis=1)
        return out, carry

    def then(i: jax.Array, x: jax.Array, carry: Any) -> tuple[jax.Array, Any]:
        x = found.held(i, x)
        return (x if where is None else blended(x, where)), carry

    return walk(shared["plan"], jnp.repeat(found.noise[:, None], r, axis=1), call, then, None)[0]
