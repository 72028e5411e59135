"""Edit-friendly DDPM inversion and DiffEdit with a diffusion model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.edit.diffedit import difference_mask
from jaxgen.edit.edit_friendly import noises_of, redraw
from jaxgen.edit.path import ascend, check_ascent, descend
from jaxgen.models.ldm.edit.editing import Editing
from jaxgen.models.ldm.edit.pair import STRENGTH, make_pair, outcome, prepare, source_option
from jaxgen.verbs.edit.contract import Method, Outcome, Prepared, Request

_DRAWS = 10  # of noise, for DiffEdit's mask


def ddpm(editing: Editing) -> Method:
    """See `jaxgen.verbs.edit.contract.Method`."""
    flow = "it is a flow, and this needs a model of eps, v or x0; take flowedit"
    return editing.method(
        "Edit-friendly DDPM inversion: the noise of every step is the picture's",
        prepare,
        run_ddpm,
        {**source_option(editing, 3.5), "strength": STRENGTH},
        draws=False,
        refusal=lambda: editing.texts or (flow if editing.schedule.flow else ""),
    )


def diffedit(editing: Editing) -> Method:
    """See `jaxgen.verbs.edit.contract.Method`."""
    return editing.method(
        "DiffEdit: the mask is where the two captions see different noise",
        prepare_diffedit,
        run_diffedit,
        {"strength": STRENGTH},
        draws=False,
    )


def prepare_diffedit(editing: Editing, request: Request, settings: Mapping[str, Any]) -> Prepared:
    """See `Method.prepare`."""
    check_ascent(editing.schedule, editing.config.model.target)
    return prepare(editing, request, settings)


def run_ddpm(editing: Editing, nets: Any, shared: Any, each: Any) -> Outcome:
    """See `Method.run`."""
    pair, path = make_pair(editing, nets, shared, each), shared["path"]
    draws = jax.vmap(pair.draw)(jnp.arange(len(path)))
    states, noises = noises_of(pair.source, path, pair.x, draws)
    back = redraw(pair.source, path, states[-1], noises)
    return outcome(
        editing, nets, each, pair, back, redraw(pair.target, path, states[-1], noises)
    )  # fmt: skip


def run_diffedit(editing: Editing, nets: Any, shared: Any, each: Any) -> Outcome:
    """See `Method.run`; outside of the mask every step is the inversion's own state."""
    pair, path = make_pair(editing, nets, shared, each), shared["path"]
    schedule, target = editing.schedule, editing.config.model.target
    # Published: half of the way to noise, whatever the strength.
    time = jnp.full(len(pair.x), float(schedule.steps // 2))
    mask = pair.mask
    if mask is None:
        draws = jax.vmap(pair.draw)(jnp.arange(_DRAWS))
        mask = difference_mask(
            pair.source, pair.target, schedule.levels, target, pair.x, time, draws
        )
    states = ascend(lambda x, t: editing.predict(nets, x, t[0], pair.asked[0])[0], path, pair.x)

    def step(x: jax.Array, given: Any) -> tuple[jax.Array, None]:
        row, back = given
        x = descend(pair.target, jax.tree.map(lambda a: a[None], row), x)
        return mask * x + (1 - mask) * back, None

    edits = jax.lax.scan(step, states[-1], (path, states[-2::-1]))[0]
    return outcome(editing, nets, each, pair, pair.x, edits)
