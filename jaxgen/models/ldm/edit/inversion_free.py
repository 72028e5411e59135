"""FlowEdit and DDCM, SDEdit, DDS with a diffusion model: no noise is sought for the picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.edit.delta import delta_denoise
from jaxgen.edit.inversion_free import shift_path
from jaxgen.edit.path import descend
from jaxgen.models.ldm.edit.editing import Editing
from jaxgen.models.ldm.edit.pair import (
    STRENGTH,
    make_pair,
    outcome,
    prepare,
    settled,
    source_option,
)
from jaxgen.verbs import Option
from jaxgen.verbs.edit.contract import Method, Outcome, Prepared, Request

AVERAGE = Option(1, "draws of noise at each step", least=1, most=1000)
TAIL = Option(0.0, "share of the steps, at the end, that are ordinary sampling", least=0.0,
              most=1.0)  # fmt: skip


def flowedit(editing: Editing) -> Method:
    """See `jaxgen.verbs.edit.contract.Method`."""
    return _shifted(editing, 0.0, "FlowEdit: from picture to picture, without inversion")


def ddcm(editing: Editing) -> Method:
    """See `jaxgen.verbs.edit.contract.Method`."""
    return _shifted(editing, 1.0, "DDCM (InfEdit): the same with fresh noise at each step")


def _shifted(editing: Editing, eta: float, says: str) -> Method:
    fresh = Option(eta, "share of the noise that is fresh at each step", least=0.0, most=1.0)
    return editing.method(
        says,
        prepare_shifted,
        run_shifted,
        {
            **source_option(editing, 1.5),
            "strength": STRENGTH,
            "average": AVERAGE,
            "tail": TAIL,
            "eta": fresh,
        },
        draws=False,
    )


def prepare_shifted(editing: Editing, request: Request, settings: Mapping[str, Any]) -> Prepared:
    """See `Method.prepare`."""
    found = prepare(editing, request, settings)
    tail = int(settings["tail"] * len(found.shared["path"]))
    # Arrays of such lengths, as whatever shapes a program is part of its kind.
    found.shared.update(average=np.zeros(settings["average"]), tail=np.zeros(tail))
    found.shared["eta"] = np.float32(settings["eta"])
    return found


def run_shifted(editing: Editing, nets: Any, shared: Any, each: Any) -> Outcome:
    """See `Method.run`."""
    pair = make_pair(editing, nets, shared, each)
    edits = shift_path(
        pair.source, pair.target, shared["path"], pair.x, pair.draw, eta=shared["eta"],
        average=len(shared["average"]), tail=len(shared["tail"]), mask=pair.mask,
    )  # fmt: skip
    return outcome(editing, nets, each, pair, pair.x, edits)


def sdedit(editing: Editing) -> Method:
    """SDEdit (Meng et al. 2022): noise on the picture, and away under the target."""
    says = "SDEdit: noise on the picture, and sampled from there"
    options = {"strength": STRENGTH}
    return editing.method(says, prepare, run_sdedit, options, captioned=False, draws=False)


def run_sdedit(editing: Editing, nets: Any, shared: Any, each: Any) -> Outcome:
    """See `Method.run`; with a mask what lies outside follows the picture at every step."""
    pair, path = make_pair(editing, nets, shared, each), shared["path"]
    noise, mask = pair.draw(jnp.int32(0)), pair.mask
    level = jnp.asarray(path.above)[0]
    x = level[0] * pair.x + level[1] * noise
    if mask is None:
        edits = descend(pair.target, path, x)
    else:

        def step(x: jax.Array, row: Any) -> tuple[jax.Array, None]:
            x = descend(pair.target, jax.tree.map(lambda a: a[None], row), x)
            known = row.below[0] * pair.x + row.below[1] * noise
            return mask * x + (1 - mask) * known, None

        edits = jax.lax.scan(step, x, path)[0]
    found = outcome(editing, nets, each, pair, pair.x, edits)
    return {"edits": found["edits"]}  # nothing was inverted, so that nothing comes back


def dds(editing: Editing) -> Method:
    """See `jaxgen.verbs.edit.contract.Method`."""
    options = {
        "steps": Option(200, "of gradient descent", least=1, most=1_000_000),
        "rate": Option(0.1, "of gradient descent", least=0.0, most=1000.0),
    }
    says = "DDS: the picture moved by the difference of what two captions see"
    return editing.method(says, prepare_dds, run_dds, options, draws=False)


def prepare_dds(editing: Editing, request: Request, settings: Mapping[str, Any]) -> Prepared:
    """See `Method.prepare`; times are uniform between a 20th of the schedule and its end."""
    shared = settled(editing, {**settings, "steps": 1})
    del shared["path"]
    total = editing.schedule.steps
    times = np.random.default_rng(request.seed).uniform(0.05, 0.95, settings["steps"]) * total
    shared |= {"times": times.astype(np.float32), "rate": np.float32(settings["rate"])}
    return Prepared(shared, editing.request(request))


def run_dds(editing: Editing, nets: Any, shared: Any, each: Any) -> Outcome:
    """See `Method.run`."""
    pair = make_pair(editing, nets, shared, each)
    states = delta_denoise(
        pair.source, pair.target, editing.schedule.levels, editing.config.model.target, pair.x,
        shared["times"], pair.draw, shared["rate"], pair.mask,
    )  # fmt: skip
    return outcome(editing, nets, each, pair, pair.x, states[-1])
