"""MasaCtrl with a diffusion model: poses change, what is seen stays."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.edit.prompt_to_prompt import blended
from jaxgen.edit.source_features import mutual
from jaxgen.models.ldm.edit import inversion
from jaxgen.models.ldm.edit.editing import Asked, Editing, walk
from jaxgen.models.ldm.edit.inversion import finds, prepared, start
from jaxgen.models.ldm.edit.inverted import Inverted
from jaxgen.verbs import Option
from jaxgen.verbs.edit.contract import Method, Outcome, Prepared, Request

OPTIONS = {
    "from_step": Option(0.08, "after this share of the steps; published 4 of 50", least=0.0,
                        most=1.0),
    "from_layer": Option(0.625, "from this share of the layers of self-attention on; published 10 "
                         "of 16", least=0.0, most=1.0),
    **inversion.OPTIONS,
}  # fmt: skip


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Form:
    """What of a request makes another program: the first layer of self-attention that is changed,
    how a picture is inverted ("": it is drawn), whether what is found of it is asked for."""

    first_layer: int
    inversion: str
    keep: bool


def method(editing: Editing) -> Method:
    """See `jaxgen.verbs.edit.contract.Method`."""
    says = "MasaCtrl: the target looks among the source's places, so that poses may change"
    return editing.method(says, prepare, run, OPTIONS, finds="inversion", finds_by=finds)


def prepare(editing: Editing, request: Request, settings: Mapping[str, Any]) -> Prepared:
    """See `Method.prepare`."""
    shared, name = prepared(editing, request, settings)
    count = sum(layer.kind == "self" for layer in editing.layers)
    shared["form"] = Form(int(settings["from_layer"] * count), name, request.keep)
    shared["first_step"] = np.int32(settings["from_step"] * int(shared["plan"].calls) + 1e-9)
    return Prepared(shared, editing.request(request))


def run(editing: Editing, nets: Any, shared: Any, each: Any) -> Outcome:
    """See `Method.run`."""
    form: Form = shared["form"]
    b, r = each["tokens"].shape[:2]
    asked = editing.embed(nets, each["tokens"], each["mask"])
    found = start(editing, nets, shared, each, asked, form.inversion, r)
    x = edit(
        editing, nets, shared, found, asked, (b, r), first_step=shared["first_step"],
        first_layer=form.first_layer, where=editing.where(each),
    )  # fmt: skip
    outcome = editing.finished(nets, x, each)
    return outcome | {"found": found.each()} if form.keep else outcome


def edit(
    editing: Editing,
    nets: Any,
    shared: Any,
    found: Inverted,
    asked: Asked,
    rows: tuple[int, int],
    *,
    first_step: jax.Array | int,
    first_layer: int,
    masks: tuple[jax.Array, jax.Array] | None = None,
    where: jax.Array | None = None,
) -> jax.Array:
    """x (b, r, ...) after all steps; see `mutual` and Prompt-to-Prompt's `edit`."""
    b, r = rows
    unasked = editing.unasked(nets, shared, b * r)

    def call(i: jax.Array, x: jax.Array, t: jax.Array, carry: Any) -> tuple[jax.Array, Any]:
        control = mutual(i, r, first_step=first_step, first_layer=first_layer, masks=masks)
        flat, free = x.reshape(b * r, *x.shape[2:]), found.away_from(i, r, unasked)
        scale = shared.get("guidance", 1.0)
        out, _ = editing.predict(nets, flat, t, asked, free, scale, control)
        return out.reshape(x.shape), carry

    def then(i: jax.Array, x: jax.Array, carry: Any) -> tuple[jax.Array, Any]:
        x = found.held(i, x)
        return (x if where is None else blended(x, where)), carry

    x = jnp.repeat(found.noise[:, None], r, axis=1)
    return walk(shared["plan"], x, call, then, None, found.noises)[0]
