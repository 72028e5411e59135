"""Imagic with a diffusion model: one picture is learnt, then drawn between it and the words."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.diffusion.guidance import guide
from jaxgen.edit import low_rank
from jaxgen.edit.imagic import between, fit_picture
from jaxgen.edit.path import descend
from jaxgen.models.ldm.edit.editing import Asked, Editing
from jaxgen.models.ldm.edit.pair import make_pair, outcome, settled
from jaxgen.verbs import Option
from jaxgen.verbs.edit.contract import Method, Outcome, Prepared, Request

OPTIONS = {
    "eta": Option(0.7, "between the picture, 0, and the words, 1; beyond is more of them",
                  least=0.0, most=2.0),
    "learn_steps": Option(100, "in which the words come near the picture", least=1),
    "learn_rate": Option(1e-3, "of these", least=0.0),
    "tune_steps": Option(300, "in which the net learns the picture", least=1),
    "tune_rate": Option(1e-3, "of these; published 2e-6 of whole weights", least=0.0),
    "rank": Option(4, "of the changes to the net's weights; 0: all of them change", least=0),
    "times": Option(8, "of noise that each of these steps looks at", least=1),
}  # fmt: skip


def method(editing: Editing) -> Method:
    """See `jaxgen.verbs.edit.contract.Method`."""
    says = "Imagic: the picture is learnt, and drawn anew on the way to the words"
    kinds = {"captioned": False, "draws": False, "refusal": lambda: editing.crosses}
    return editing.method(says, prepare, run, OPTIONS, **kinds)


def prepare(editing: Editing, request: Request, settings: Mapping[str, Any]) -> Prepared:
    """See `Method.prepare`."""
    shared = settled(editing, settings)
    rng, total = np.random.default_rng(request.seed), editing.schedule.steps
    for stage in ("learn", "tune"):
        times = rng.uniform(0, total, (settings[f"{stage}_steps"], settings["times"]))
        times = times if editing.schedule.flow else np.floor(times)
        shared[f"{stage}_times"] = times.astype(np.float32)
        shared[f"{stage}_rate"] = np.float32(settings[f"{stage}_rate"])
    shared |= {"eta": np.float32(settings["eta"]), "rank": np.zeros(settings["rank"])}
    return Prepared(shared, editing.request(request))


def run(editing: Editing, nets: Any, shared: Any, each: Any) -> Outcome:
    """See `Method.run`; the reconstruction is drawn with what was learnt of the picture alone."""
    pair = make_pair(editing, nets, shared, each)
    noise = pair.draw(jnp.int32(0))
    keys = jnp.repeat(jax.random.key_data(editing.keys(each)), pair.rows[1], axis=0)
    one = functools.partial(_one, editing, nets, shared)
    back, edits = jax.lax.map(lambda given: one(*given), (pair.x, pair.asked[1], noise, keys))
    return outcome(editing, nets, each, pair, back, edits)


def _one(
    editing: Editing,
    nets: Any,
    shared: Mapping[str, Any],
    x: jax.Array,
    asked: Asked,
    noise: jax.Array,
    numbers: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """(reconstruction, edit) of one picture x, both as x."""
    key, count = jax.random.wrap_key_data(numbers), shared["learn_times"].shape[1]
    target, levels = editing.config.model.target, editing.schedule.levels

    def say(params: Any, x: jax.Array, t: jax.Array, asked: Asked) -> jax.Array:
        rows = {name: jnp.broadcast_to(a, (len(x), *a.shape[1:])) for name, a in asked.items()}
        said: jax.Array = editing.net.apply({**nets["g"], "params": params}, x, t, **rows)
        return said

    def draws(stage: int) -> Any:
        own = jax.random.fold_in(key, 2**31 + stage)
        return lambda i: jax.random.normal(jax.random.fold_in(own, i), (count, *x.shape))

    asked = {name: a[None] for name, a in asked.items()}
    params, context = nets["g"]["params"], asked["context"]
    learnt, _ = fit_picture(
        lambda e, x, t: say(params, x, t, {**asked, "context": e}), context, levels, target,
        x[None], shared["learn_times"], draws(0), shared["learn_rate"],
    )  # fmt: skip
    near, rank = {**asked, "context": learnt}, len(shared["rank"])
    if rank:
        change, _ = fit_picture(
            lambda c, x, t: say(low_rank.added(params, c), x, t, near),
            low_rank.begin(params, rank, key), levels, target, x[None], shared["tune_times"],
            draws(1), shared["tune_rate"],
        )  # fmt: skip
        tuned = low_rank.added(params, change)
    else:
        tuned, _ = fit_picture(
            lambda p, x, t: say(p, x, t, near), params, levels, target, x[None],
            shared["tune_times"], draws(1), shared["tune_rate"],
        )  # fmt: skip
    free = editing.unasked(nets, shared, 1)

    def draw(share: jax.Array | float) -> jax.Array:
        words = {**asked, "context": between(context, learnt, share)}

        def denoise(x: jax.Array, t: jax.Array) -> jax.Array:
            led = say(tuned, x, t, words)
            return led if free is None else guide(led, say(tuned, x, t, free), shared["guidance"])

        return descend(denoise, shared["path"], noise[None])[0]

    return draw(0.0), draw(shared["eta"])
