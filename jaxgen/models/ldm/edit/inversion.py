"""From a picture to the noise that it would have been drawn from: a table of ways."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.diffusion import sampling
from jaxgen.diffusion.plans import make_plan
from jaxgen.diffusion.sampling import State
from jaxgen.diffusion.table import Plan
from jaxgen.edit.edit_friendly import noises_of
from jaxgen.edit.path import Path, check_ascent, make_path
from jaxgen.errors import UserError
from jaxgen.models.ldm.edit.editing import Asked, Editing
from jaxgen.models.ldm.edit.inverted import Inverted
from jaxgen.models.ldm.edit.null_text import negative, null_text
from jaxgen.verbs import Option
from jaxgen.verbs.edit.contract import Request

# (editing, nets, shared, each, x0 (b, ...), what the source asks for (b, ...)) -> Inverted. Pure.
Invert = Callable[[Editing, Any, Mapping[str, Any], Any, jax.Array, Asked], Inverted]


def inverse(plan: Plan, editing: Editing, steps: int) -> Plan:
    """The calls of a sampler's plan backwards; as published the net is told the time that x goes
    to. Raises UserError where there is no way back."""
    check_ascent(editing.schedule, editing.config.model.target)
    if not editing.schedule.flow:
        return make_plan(editing.schedule, editing.config.model.target, "inverse-ddim", steps)
    calls = int(plan.calls)
    times, factors = np.array(plan.times), np.array(plan.factors)
    scale, part = factors[:calls, :, 0], factors[:calls, :, 1]
    factors[:calls, :, 0], factors[:calls, :, 1] = (1 / scale)[::-1], (-part / scale)[::-1]
    times[:calls] = times[:calls][::-1].copy()
    return dataclasses.replace(plan, times=times, factors=factors)


def ddim(
    editing: Editing, nets: Any, shared: Any, each: Any, x0: jax.Array, asked: Asked
) -> Inverted:
    """DDIM backwards (Dhariwal & Nichol 2021), without guidance."""
    return direct(editing, nets, shared, each, x0, asked)._replace(path=None)


def direct(
    editing: Editing, nets: Any, shared: Any, each: Any, x0: jax.Array, asked: Asked
) -> Inverted:
    """The same, and the source is held on the path back (Ju et al. 2023, PnP Inversion)."""
    del each
    plan: Plan = shared["inverse"]
    times, calls = jnp.asarray(plan.times), jnp.asarray(plan.calls)
    path = jnp.zeros((len(times), *x0.shape), x0.dtype)

    def step(i: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, path = now
        path = path.at[calls - 1 - i].set(x)
        out, _ = editing.predict(nets, x, times[i], asked)
        return sampling.after(plan, i, State(x, (), x), out.astype(x.dtype)).x, path

    noise, path = jax.lax.fori_loop(0, calls, step, (x0, path))
    return Inverted(noise, path)


def ddpm(
    editing: Editing, nets: Any, shared: Any, each: Any, x0: jax.Array, asked: Asked
) -> Inverted:
    """Edit-friendly DDPM inversion: independent noise at each time, and DDPM's own noise between,
    under the guidance of the edit; the source is held on its path."""
    path: Path = shared["path"]
    free, scale = editing.unasked(nets, shared, len(x0)), shared.get("guidance", 1.0)
    states, noises = noises_of(
        lambda x, t: editing.predict(nets, x, t[0], asked, free, scale)[0], path, x0,
        jax.vmap(sampling.noise_of(editing.keys(each), editing.shape))(jnp.arange(len(path))),
    )  # fmt: skip
    return Inverted(states[-1], states[-2::-1], noises=noises)


INVERSIONS: dict[str, Invert] = {
    "direct": direct,
    "null-text": null_text,
    "negative": negative,
    "ddim": ddim,
    "ddpm": ddpm,
}
_BY_GUIDANCE = ("null-text", "negative")
# What is found depends on, beside the way and its steps.
_ON: dict[str, tuple[str, ...]] = {
    "null-text": ("guidance", "negative"),
    "negative": ("negative", "negative_slerp"),
    "ddpm": ("guidance", "negative"),
}
INVERSION = Option("direct", "how a picture's noise is found", choices=tuple(INVERSIONS))
SLERP = Option(0.0, "inversion=negative: from the caption, 0, back to the empty prompt, 1",
               least=0.0, most=1.0)  # fmt: skip
OPTIONS = {"inversion": INVERSION, "negative_slerp": SLERP}


def finds(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """See `Method.finds_by`."""
    more = (name for name in _ON.get(settings["inversion"], ()) if name in settings)
    return ("inversion", "steps", *more)


def prepared(
    editing: Editing, request: Request, settings: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    """(`shared` of the steps and the inversion, its name; "" where the source is drawn).

    Raises:
      UserError: it acts by guidance, and there is none; null-text or ddpm of a flow; see
        `check_ascent`; what was found before is of another size.
    """
    shared = editing.steps(settings)
    if request.picture is None:
        return shared, ""
    name, steps = settings["inversion"], settings["steps"]
    target = editing.config.model.target
    if name == "ddpm":
        if editing.schedule.flow:
            raise UserError(
                "inversion=ddpm needs a model of eps, v or x0, and this one is a flow: take "
                "inversion=direct"
            )
        shared["plan"] = make_plan(editing.schedule, target, "ddim", steps, eta=1.0)
    if request.found is not None:
        if np.shape(request.found.arrays["noise"]) != editing.shape:
            raise UserError("the inversion is of a picture of another size: invert it anew")
        return shared, name
    if name == "ddpm":
        return {**shared, "path": make_path(editing.schedule, target, steps)}, name
    if name not in _BY_GUIDANCE:
        return {**shared, "inverse": inverse(shared["plan"], editing, steps)}, name
    if name == "null-text" and editing.schedule.flow:
        # Its ten steps a time do not bring the path of a flow back (MSE 4,900 of a drawn scene).
        raise UserError(
            "inversion=null-text needs a model of eps or v, and this one is a flow: take "
            "inversion=direct"
        )
    if "guidance" not in shared:
        raise UserError(
            f"inversion={name} changes what guidance leads away from: set guidance to another "
            "than 1, or take inversion=direct"
        )
    check_ascent(editing.schedule, target)
    shared["negative_slerp"] = np.float32(settings["negative_slerp"])
    return {**shared, "path": make_path(editing.schedule, target, steps)}, name


def start(
    editing: Editing, nets: Any, shared: Any, each: Any, asked: Asked, inversion: str, rows: int
) -> Inverted:
    """The noise of b pictures, asked for by the first of each `rows` rows: of a drawn source, or
    of one that is inverted."""
    if "found" in each:
        return Inverted.of_each(each["found"])
    if not inversion:
        return Inverted(jnp.asarray(shared["plan"].pure) * editing.first_noise(each))
    first = jax.tree.map(lambda a: a.reshape(-1, rows, *a.shape[1:])[:, 0], asked)
    return INVERSIONS[inversion](editing, nets, shared, each, editing.clean(nets, each), first)
