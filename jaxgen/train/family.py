"""From a config to its family's Task, by the folder's name: the trainer imports no family."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from jaxgen import keys
from jaxgen.config import SHARED
from jaxgen.errors import UserError, near
from jaxgen.task import LossFn, Phase, Task
from jaxgen.train.state import check_shapes
from jaxgen.weights import parts
from jaxgen.weights.parts import Part, Wanted


def load_task(config: ConfigDict, made_of: Mapping[str, Part] = MappingProxyType({})) -> Task:
    """The family's Task for this config, with the parts' nets in `frozen`.

    Args:
      made_of: what `jaxgen.train.start.find_parts` found.

    Raises:
      UserError: no such family.
    """
    task = _family(config).make_task(parts.filled(config, made_of))
    return _with_parts(task, parts.arrays(made_of)) if made_of else task


def _with_parts(task: Task, found: Mapping[str, Mapping[str, Any]]) -> Task:
    """`task` with parts in `frozen`, whose nets its evaluation, and those with the part's name its
    losses, have among their own.

    Args:
      found: {part: {net: variables}}.
    """
    fixed = tuple(parts.given(found))

    def init(rng, batch):
        params, mutable = task.init(rng, batch)
        for net in fixed:
            if net not in params:
                raise UserError(f"parts.{net}: this model has no net {net!r} of its own")
            own = {"params": params[net], **mutable.get(net, {})}
            check_shapes(f"parts.{net}", own, found[net][net])
        return _without(params, fixed), _without(mutable, fixed)

    def completed(loss: LossFn) -> LossFn:
        def complete(params, mutable, frozen, batch, rng, step):
            nets = parts.given({net: frozen[net] for net in fixed})
            params = {**params, **{net: tree["params"] for net, tree in nets.items()}}
            rest = {n: {k: v for k, v in t.items() if k != "params"} for n, t in nets.items()}
            mutable = {**mutable, **{net: tree for net, tree in rest.items() if tree}}
            value, (changed, metrics) = loss(params, mutable, frozen, batch, rng, step)
            return value, (_without(changed, fixed), metrics)

        return complete

    def complete_phase(phase: Phase) -> Phase:
        if taken := [net for net in fixed if net in phase.nets]:
            raise UserError(f"parts.{taken[0]} fixes a net that the phase '{phase.name}' trains")
        lazy = phase.lazy and phase.lazy._replace(loss=completed(phase.lazy.loss))
        return dataclasses.replace(phase, loss=completed(phase.loss), lazy=lazy)

    def evaluate(nets, frozen, step):
        assert task.evaluate is not None
        more = parts.named({name: frozen[name] for name in found})
        return task.evaluate({**nets, **more}, frozen, step)

    eval_nets = tuple(net for net in task.eval_nets if net not in parts.named(found))
    return dataclasses.replace(
        task,
        init=init,
        phases=tuple(complete_phase(phase) for phase in task.phases),
        frozen={**task.frozen, **found},
        ema=_without(task.ema, fixed),
        evaluate=task.evaluate and evaluate,
        eval_nets=eval_nets,
    )


def _without(nets: Mapping[str, Any], left_out: tuple[str, ...]) -> dict[str, Any]:
    return {net: tree for net, tree in nets.items() if net not in left_out}


def wanted_parts(config: ConfigDict) -> dict[str, Wanted]:
    """What trained models the family takes as `config.parts`, by name; {} for most families.

    A family that takes some has a function `parts(config)` that says so.

    Raises:
      UserError: no such family.
    """
    ask = getattr(_family(config), "parts", None)
    return {} if ask is None else dict(ask(config))


def check(config: ConfigDict) -> None:
    """Refuses unknown keys and impossible values in the family's own sections.

    A family says by a function `keys(config)` what `model`, `data` and `eval` hold.

    Raises:
      UserError: naming the key; or no such family.
    """
    for name, table in own_keys(config).items():
        keys.check(config[name], table, name, start=f"a config of {config.family} in configs/")


def own_keys(config: ConfigDict) -> keys.Table:
    """What the family says that its own sections hold; {} where it says nothing.

    Raises:
      UserError: no such family, or a form of a network that there is not.
    """
    ask = getattr(_family(config), "keys", None)
    return {} if ask is None else ask(config)


def completed(before: ConfigDict, config: ConfigDict) -> ConfigDict:
    """A run's config with the keys that came later, at their defaults.

    Args:
      before: of the run. config: a resolved one, whose family says what keys there are.
    """
    return keys.completed(before, {**SHARED, **own_keys(config)})


def resolve(config: ConfigDict) -> ConfigDict:
    """The config with what the training data decide filled in, where the family has such.

    A text-to-image family fills in the tokenizer. A run's config.json is thus all that it takes to
    use its weights.
    """
    check(config)
    fill = getattr(_family(config), "resolve", None)
    return config if fill is None else fill(config)


def _family(config: ConfigDict) -> Any:
    name = f"jaxgen.models.{config.family}"
    if not str(config.family).isidentifier() or importlib.util.find_spec(name) is None:
        folder = importlib.import_module("jaxgen.models").__path__
        known = [one.name for one in pkgutil.iter_modules(folder)]
        raise UserError(
            f"unknown family {config.family!r}; there are {', '.join(known)}"
            f"{near(str(config.family), known)}"
        )
    return importlib.import_module(name)
