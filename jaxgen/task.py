"""What a family tells the trainer: Phase, Lazy, Due, Evaluation, Task.

This module imports no other part of jaxgen, so families and the trainer share these types without
knowing each other; and JAX for its type checker alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import jax

PyTree = Any
# Variables by net name: {"g": {"params": ..., "batch_stats": ...}, ...}.
Nets = Mapping[str, Mapping[str, PyTree]]
# (params, mutable, frozen, batch, rng, step) -> (loss, (mutable, metrics)).
# `params` and `mutable` are dicts keyed by net name, of all nets; `mutable` holds each net's
# non-parameter collections ({"g": {"batch_stats": ...}}). The returned `mutable` may leave out
# nets that did not change. `loss` is a float32 scalar, `metrics` a flat dict of scalars.
LossFn = Callable[..., "tuple[jax.Array, tuple[Mapping[str, PyTree], Mapping[str, jax.Array]]]"]


class Lazy(NamedTuple):
    """At a phase's first update and every `every`-th after it, `loss` takes the place of its own.

    Made for costly regularisation (StyleGAN2, section 4.1). Metrics are means over all updates.
    """

    every: int
    loss: LossFn


@dataclasses.dataclass(frozen=True)
class Phase:
    """One update inside the training step: which nets it touches, by which loss, and when.

    The phase is active at the steps `start <= step < stop` (`stop=None`: to the end), and there
    at every `every`-th step counted from `start`. Its optimizer is `config.optimizer.<name>`.
    """

    name: str
    nets: tuple[str, ...]
    loss: LossFn
    every: int = 1
    start: int = 0
    stop: int | None = None
    lazy: Lazy | None = None

    def active(self, step: int) -> bool:
        """True if `step` lies in the phase's window (`every` not considered)."""
        return self.start <= step and (self.stop is None or step < self.stop)


class Due(NamedTuple):
    """What one step does: names of the phases that run, and of those whose lazy loss is due."""

    phases: tuple[str, ...]
    lazy: tuple[str, ...] = ()

    @classmethod
    def at(cls, phases: tuple[Phase, ...], step: int) -> Due:
        """Of step `step`, counted from 0."""
        now = [p for p in phases if p.active(step) and (step - p.start) % p.every == 0]
        lazy = [p for p in now if p.lazy and (step - p.start) // p.every % p.lazy.every == 0]
        return cls(tuple(p.name for p in now), tuple(p.name for p in lazy))


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Metrics (flat, floats) and captioned pictures (uint8 (h, w, 3)) of one evaluation.

    `pictures` is a list of rows; each row is a list of (caption, image). `titles` stand above the
    rows; none, or one for each.
    """

    metrics: Mapping[str, float]
    pictures: list[list[tuple[str, np.ndarray]]] = dataclasses.field(default_factory=list)
    titles: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Task:
    """All that the trainer needs to know of a family, for one config.

    init: (rng, batch) -> (params, mutable), dicts keyed by net name; `batch` is device-shaped
      (abstract shapes suffice: the trainer calls it under `jax.eval_shape` and `jax.jit`).
    phases: run in this order inside one step; each sees its predecessors' updates.
    train_data: () -> (records, transform). `records` is a random-access source, `transform` maps
      a `grain.MapDataset` of records to one of examples (dicts of NumPy arrays of fixed shape).
      Keys that start with "_" stay on the host.
    frozen: pytree of arrays passed to jit as an argument: never donated, never checkpointed.
    ema: decay by net name; nets left out have no average.
    evaluate: (nets, frozen, step) -> Evaluation; gets averaged weights where there are such, as
      arrays on one local device; on several hosts each calls it on its share of the records.
    eval_nets: the nets that `evaluate` needs; empty: all.
    validates: () -> how many records `evaluate` looks at; None: nobody says. May raise UserError.
    begin: (the nets' initial variables) -> {net: variables} of those that begin with what others
      have trained; called where a run begins, not where it goes on, before `train.init_from`.
    """

    init: Callable[[jax.Array, Mapping[str, Any]], tuple[dict[str, PyTree], dict[str, PyTree]]]
    phases: tuple[Phase, ...]
    train_data: Callable[[], tuple[Any, Callable[[Any], Any]]]
    frozen: PyTree = dataclasses.field(default_factory=dict)
    ema: Mapping[str, float] = dataclasses.field(default_factory=dict)
    evaluate: Callable[[Nets, PyTree, int], Evaluation] | None = None
    eval_nets: tuple[str, ...] = ()
    begin: Callable[[Nets], Nets] | None = None
    validates: Callable[[], int] | None = None
