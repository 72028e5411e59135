"""Imagic with a diffusion model: one picture is learnt, then drawn between it and the words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.diffusion.guidance import guide
from jaxgen.edit import low_rank
from jaxgen.edit.imagic import between, fit_picture
from jaxgen.edit.path import descend
from jaxgen.errors import UserError
from jaxgen.models.ldm.edit.editing import Asked, Editing
from jaxgen.models.ldm.edit.pair import make_pair, outcome, settled
from jaxgen.verbs import Option
from jaxgen.verbs.edit.contract import Method, Outcome, Prepared, Request

OPTIONS = {
    "eta": Option(0.7, "between the picture, 0, and the words, 1; beyond is more of them",
                  least=0.0, most=2.0),
    "learn_steps": Option(100, "in which the words come near the picture", least=1,
                          most=1_000_000),
    "learn_rate": Option(1e-3, "of these", least=0.0, most=1000.0),
    "tune_steps": Option(300, "in which the net learns the picture", least=1, most=1_000_000),
    "tune_rate": Option(1e-3, "of these; published 2e-6 of whole weights", least=0.0,
                        most=1000.0),
    "rank": Option(4, "of the changes to the net's weights; 0: all of them change", least=0,
                   most=4096),
    "times": Option(8, "of noise that each of these steps looks at", least=1, most=4096),
}  # fmt: skip


def method(editing: Editing) -> Method:
    """See `jaxgen.verbs.edit.contract.Method`."""
    says = "Imagic: the picture is learnt, and drawn anew on the way to the words"
    kinds = {
        "captioned": False, "draws": False, "refusal": lambda: editing.crosses, "finds": "imagic",
        "finds_by": lambda settings: tuple(name for name in OPTIONS if name != "eta"),
    }  # fmt: skip
    return editing.method(says, prepare, run, OPTIONS, **kinds)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Form:
    """What of a request makes another program: the rank of the changes, whether they are asked
    for."""

    rank: int
    keep: bool


def prepare(editing: Editing, request: Request, settings: Mapping[str, Any]) -> Prepared:
    """See `Method.prepare`."""
    if request.keep and len(request.targets) > 1:
        raise UserError("what Imagic learns is of one target: give one to keep it")
    shared = settled(editing, settings)
    shared["eta"] = np.float32(settings["eta"])
    shared["form"] = Form(int(settings["rank"]), request.keep)
    if request.found is not None:  # nothing is learnt
        return Prepared(shared, editing.request(request))
    rng, total = np.random.default_rng(request.seed), editing.schedule.steps
    for stage in ("learn", "tune"):
        times = rng.uniform(0, total, (settings[f"{stage}_steps"], settings["times"]))
        times = times if editing.schedule.flow else np.floor(times)
        shared[f"{stage}_times"] = times.astype(np.float32)
        shared[f"{stage}_rate"] = np.float32(settings[f"{stage}_rate"])
    return Prepared(shared, editing.request(request))


def run(editing: Editing, nets: Any, shared: Any, each: Any) -> Outcome:
    """See `Method.run`; the reconstruction is drawn with what was learnt of the picture alone."""
    pair = make_pair(editing, nets, shared, each)
    noise = pair.draw(jnp.int32(0))
    keys = jnp.repeat(jax.random.key_data(editing.keys(each)), pair.rows[1], axis=0)
    form: Form = shared["form"]
    learnt = jax.tree.map(lambda a: jnp.repeat(a, pair.rows[1], axis=0), each.get("found"))

    def one(given: Any) -> Any:
        x, asked, noise, numbers, learnt = given
        asked = {name: a[None] for name, a in asked.items()}
        if learnt is None:
            learnt = learn(editing, nets, shared, x, asked, numbers)
        drawn = draw(editing, nets, shared, asked, learnt, noise)
        return *drawn, learnt if form.keep else None

    back, edits, learnt = jax.lax.map(one, (pair.x, pair.asked[1], noise, keys, learnt))
    found = outcome(editing, nets, each, pair, back, edits)
    return found | {"found": learnt} if form.keep else found


def say(
    editing: Editing, nets: Any, params: Any, x: jax.Array, t: jax.Array, asked: Asked
) -> jax.Array:
    """What the net says with other parameters; asked: arrays (1, ...)."""
    rows = {name: jnp.broadcast_to(a, (len(x), *a.shape[1:])) for name, a in asked.items()}
    said: jax.Array = editing.net.apply({**nets["g"], "params": params}, x, t, **rows)
    return said


def tuned(form: Form, params: Any, learnt: Mapping[str, Any]) -> Any:
    """The net's parameters with what was learnt."""
    change = learnt["change"]
    return low_rank.added(params, low_rank.flat(change)) if form.rank else change


def learn(
    editing: Editing,
    nets: Any,
    shared: Mapping[str, Any],
    x: jax.Array,
    asked: Asked,
    numbers: jax.Array,
) -> dict[str, Any]:
    """Of one picture x {"context": its embedding (1, l, width), "change": to the weights, or all
    of them where the rank is 0}."""
    key, count = jax.random.wrap_key_data(numbers), shared["learn_times"].shape[1]
    target, levels = editing.config.model.target, editing.schedule.levels
    form: Form = shared["form"]

    def draws(stage: int) -> Any:
        own = jax.random.fold_in(key, 2**31 + stage)
        return lambda i: jax.random.normal(jax.random.fold_in(own, i), (count, *x.shape))

    params = nets["g"]["params"]
    context, _ = fit_picture(
        lambda e, x, t: say(editing, nets, params, x, t, {**asked, "context": e}),
        asked["context"], levels, target, x[None], shared["learn_times"], draws(0),
        shared["learn_rate"],
    )  # fmt: skip
    near = {**asked, "context": context}
    change, _ = fit_picture(
        lambda c, x, t: say(editing, nets, tuned(form, params, {"change": c}), x, t, near),
        low_rank.nested(low_rank.begin(params, form.rank, key)) if form.rank else params,
        levels, target, x[None], shared["tune_times"], draws(1), shared["tune_rate"],
    )  # fmt: skip
    return {"context": context, "change": change}


def draw(
    editing: Editing,
    nets: Any,
    shared: Mapping[str, Any],
    asked: Asked,
    learnt: Mapping[str, Any],
    noise: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """(reconstruction, edit) of one picture, both as x, from its noise."""
    params = tuned(shared["form"], nets["g"]["params"], learnt)
    free = editing.unasked(nets, shared, 1)

    def at(share: jax.Array | float) -> jax.Array:
        words = {**asked, "context": between(asked["context"], learnt["context"], share)}

        def denoise(x: jax.Array, t: jax.Array) -> jax.Array:
            led = say(editing, nets, params, x, t, words)
            if free is None:
                return led
            return guide(led, say(editing, nets, params, x, t, free), shared["guidance"])

        return descend(denoise, shared["path"], noise[None])[0]

    return at(0.0), at(shared["eta"])
