"""TrainState: all that a step changes, one pytree; and its making from a Task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from ml_collections import ConfigDict

from jaxgen.errors import UserError
from jaxgen.task import Nets, PyTree, Task
from jaxgen.train.optimizer import Optimizer, make_optimizer
from jaxgen.weights.averages import WIDTHS, name_of


class TrainState(struct.PyTreeNode):
    """step: () int32, updates done. params{net}, mutable{net}: the nets' variables.
    opt{phase}: optimizer states. ema{net}: averaged variables ("params" and the mutable ones).
    power{net}: {name: variables} of the averages from which any length is made afterwards.
    """

    step: jax.Array
    params: dict[str, PyTree]
    mutable: dict[str, PyTree]
    opt: dict[str, PyTree]
    ema: dict[str, PyTree]
    power: dict[str, PyTree] = struct.field(default_factory=dict)


def phase_updates(phase, step: int) -> int:
    """How many updates `phase` has made after `step` steps of the run."""
    last = step if phase.stop is None else min(step, phase.stop)
    return max(0, -(-(last - phase.start) // phase.every))


def phase_settings(task: Task, config: ConfigDict) -> dict[str, ConfigDict]:
    """`config.optimizer.<phase>` of each phase; a missing one is a UserError."""
    missing = [p.name for p in task.phases if p.name not in config.optimizer]
    if missing:
        raise UserError(f"config.optimizer has no section for the phase(s) {', '.join(missing)}")
    return {p.name: config.optimizer[p.name] for p in task.phases}


def make_optimizers(task: Task, config: ConfigDict) -> dict[str, Optimizer]:
    """One optimizer per phase; its schedule spans the updates that the phase makes in the run."""
    settings = phase_settings(task, config)
    total = config.train.steps
    return {p.name: make_optimizer(settings[p.name], phase_updates(p, total)) for p in task.phases}


def init_state(
    task: Task,
    optimizers: Mapping[str, Optimizer],
    seed: int,
    batch: Mapping[str, Any],
    power: bool = False,
) -> TrainState:
    """The state at step 0; pure, so it runs under `jax.eval_shape` and sharded `jax.jit`.

    Args: power: whether the nets with averages have those of `jaxgen.weights.averages`, too.
    """
    params, mutable = task.init(jax.random.key(seed), batch)
    opt = {
        p.name: optimizers[p.name].rule.init({n: params[n] for n in p.nets}) for p in task.phases
    }

    # Copies: the step donates the state, and a buffer that stands in it twice can't be given twice.
    def copies(net: str) -> PyTree:
        return jax.tree.map(jnp.copy, {"params": params[net], **mutable.get(net, {})})

    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        mutable=mutable,
        opt=opt,
        ema={net: copies(net) for net in task.ema},
        power={net: {name_of(w): copies(net) for w in WIDTHS} for net in task.ema if power},
    )


def variables(state: TrainState, averaged: bool = True) -> dict[str, dict[str, PyTree]]:
    """Each net's variables, ready for `module.apply`; the averages where there are such."""
    nets = {n: {"params": p, **state.mutable.get(n, {})} for n, p in state.params.items()}
    return {**nets, **state.ema} if averaged else nets


def replace_nets(state: TrainState, nets: Nets) -> TrainState:
    """`state` with the given nets' variables (and their averages) put in.

    Raises:
      UserError: a net, key or shape that the state doesn't have; all are listed.
    """
    params, mutable, ema = dict(state.params), dict(state.mutable), dict(state.ema)
    for name, net in nets.items():
        if name not in params:
            raise UserError(f"init_from: this model has no net {name!r}, only {', '.join(params)}")
        have = {"params": params[name], **mutable.get(name, {})}
        check_shapes(f"init_from: net {name!r}", have, net)
        net = jax.tree.map(lambda old, new: jnp.asarray(new, old.dtype), have, dict(net))
        params[name] = net["params"]
        if name in mutable:
            mutable[name] = {k: net[k] for k in mutable[name]}
        if name in ema:
            # A copy: the step donates the state, and a buffer can be donated only once.
            ema[name] = jax.tree.map(jnp.copy, net)
    return state.replace(params=params, mutable=mutable, ema=ema)


def check_shapes(what: str, have: PyTree, given: PyTree) -> None:
    """Raises UserError, all differences named, if `given` has other keys or shapes than `have`."""

    def shapes(tree):
        leaves = jax.tree_util.tree_leaves_with_path(dict(tree))
        return {jax.tree_util.keystr(p, simple=True, separator="/"): x.shape for p, x in leaves}

    a, b = shapes(have), shapes(given)
    problems = [f"missing {k}" for k in sorted(a.keys() - b.keys())]
    problems += [f"unknown {k}" for k in sorted(b.keys() - a.keys())]
    problems += [f"{k} is {b[k]}, not {a[k]}" for k in sorted(a.keys() & b.keys()) if a[k] != b[k]]
    if problems:
        raise UserError(f"{what} does not fit this config: {'; '.join(problems)}")
