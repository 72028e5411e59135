"""From a picture to the noise that it would have been drawn from: a table of ways."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.diffusion import sampling
from jaxgen.diffusion.plans import make_plan
from jaxgen.diffusion.sampling import State
from jaxgen.diffusion.table import Plan
from jaxgen.models.ldm.edit.editing import Asked, Editing


class Inverted(NamedTuple):
    """What an inversion found of pictures x0 (b, ...).

    Attributes:
      noise: (b, ...), from which the plan's steps begin.
      path: (rows, b, ...): where the source shall be after each of the plan's steps; None: wherever
        the steps bring it.
      unasked: what guidance leads away from in each step, arrays (rows, b, ...); None: as asked.
    """

    noise: jax.Array
    path: jax.Array | None = None
    unasked: Asked | None = None


# (editing, nets, shared, x0 (b, ...), what the source asks for (b, ...)) -> Inverted. Pure.
Invert = Callable[[Editing, Any, Mapping[str, Any], jax.Array, Asked], Inverted]


def inverse(plan: Plan, editing: Editing, steps: int) -> Plan:
    """The calls of a sampler's plan backwards; as published the net is told the time that x goes
    to."""
    if not editing.schedule.flow:
        return make_plan(editing.schedule, editing.config.model.target, "inverse-ddim", steps)
    calls = int(plan.calls)
    times, factors = np.array(plan.times), np.array(plan.factors)
    scale, part = factors[:calls, :, 0], factors[:calls, :, 1]
    factors[:calls, :, 0], factors[:calls, :, 1] = (1 / scale)[::-1], (-part / scale)[::-1]
    times[:calls] = times[:calls][::-1].copy()
    return dataclasses.replace(plan, times=times, factors=factors)


def ddim(editing: Editing, nets: Any, shared: Any, x0: jax.Array, asked: Asked) -> Inverted:
    """DDIM backwards (Dhariwal & Nichol 2021), without guidance."""
    return _walked(editing, nets, shared, x0, asked)._replace(path=None)


def direct(editing: Editing, nets: Any, shared: Any, x0: jax.Array, asked: Asked) -> Inverted:
    """The same, and the source is held on the path back (Ju et al. 2023, PnP Inversion)."""
    return _walked(editing, nets, shared, x0, asked)


INVERSIONS: dict[str, Invert] = {"direct": direct, "ddim": ddim}


def _walked(editing: Editing, nets: Any, shared: Any, x0: jax.Array, asked: Asked) -> Inverted:
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
