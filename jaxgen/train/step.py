"""The training step: a tuple of phases, then averages, as one pure function of the state.

Randomness is `fold_in(fold_in(key(seed), step), phase)`, so a step depends on nothing but the
state and the batch. Numbers for the log are summed on the device in a small `Tally` that travels
beside the state; the host fetches it once per log interval and never waits within one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from jaxgen.devices import in_loop
from jaxgen.task import Due, LossFn, Phase, PyTree, Task
from jaxgen.train.optimizer import Optimizer
from jaxgen.train.state import TrainState
from jaxgen.weights.averages import WIDTHS, gamma_of, name_of, ramp


class Tally(struct.PyTreeNode):
    """Sums over the steps of a log interval.

    sums: metric -> float32 sum. counts: phase -> int32 updates. bad: "phase/loss" or
    "phase/grad/net" -> first step at which it was not finite, -1 if none. skipped: int32 updates
    left out because of that.
    """

    sums: dict[str, jax.Array]
    counts: dict[str, jax.Array]
    bad: dict[str, jax.Array]
    skipped: jax.Array

    @classmethod
    def zeros(cls, like: Tally) -> Tally:
        """An empty tally with the entries of `like` (arrays or shapes)."""
        return cls(
            sums={k: jnp.zeros((), jnp.float32) for k in like.sums},
            counts={k: jnp.zeros((), jnp.int32) for k in like.counts},
            bad={k: jnp.full((), -1, jnp.int32) for k in like.bad},
            skipped=jnp.zeros((), jnp.int32),
        )

    def add(self, other: Tally) -> Tally:
        """Sums; `bad` keeps the earlier step."""
        first = {k: jnp.where(v >= 0, v, other.bad[k]) for k, v in self.bad.items()}
        return Tally(
            sums={k: v + other.sums[k] for k, v in self.sums.items()},
            counts={k: v + other.counts[k] for k, v in self.counts.items()},
            bad=first,
            skipped=self.skipped + other.skipped,
        )


def make_step(
    task: Task,
    optimizers: Mapping[str, Optimizer],
    config: ConfigDict,
    due: Due,
) -> Callable[[TrainState, Mapping[str, jax.Array], PyTree], tuple[TrainState, Tally]]:
    """(state, batch, frozen) -> (state, tally) with the phases that are due.

    What is due is known before the step runs, so the trainer compiles one step for each set of
    phases: pre-training pays nothing for the discriminator that comes later, and XLA sees through
    from phase to phase and computes shared forward passes once. A choice on the device would make
    a branch, and in branches XLA's convolutions are up to sixty times as slow on a CPU.
    """
    phases = [(i, p) for i, p in enumerate(task.phases) if p.name in due.phases]
    base_key = config.train.seed

    def step(state, batch, frozen):
        key = jax.random.fold_in(jax.random.key(base_key), state.step)
        tally = Tally(sums={}, counts={}, bad={}, skipped=jnp.zeros((), jnp.int32))
        for index, phase in phases:
            rng = jax.random.fold_in(key, index)
            loss = phase.loss
            if phase.name in due.lazy:
                assert phase.lazy is not None  # Due.at names no other
                loss = phase.lazy.loss
            state, part = _update(
                phase, loss, optimizers[phase.name], state, frozen, batch, rng, config.train
            )
            tally = Tally(
                sums={**tally.sums, **part.sums},
                counts={**tally.counts, **part.counts},
                bad={**tally.bad, **part.bad},
                skipped=tally.skipped + part.skipped,
            )
        averages = _averages(task.ema, state)
        state = state.replace(ema=averages, power=_powers(state), step=state.step + 1)
        return state, tally

    return step


def _update(
    phase: Phase,
    loss_fn: LossFn,
    optimizer: Optimizer,
    state: TrainState,
    frozen: PyTree,
    batch: Mapping[str, jax.Array],
    rng: jax.Array,
    train: ConfigDict,
) -> tuple[TrainState, Tally]:
    """One phase: gradients of its loss for its nets, then its optimizer."""
    own = {n: state.params[n] for n in phase.nets}

    def loss(own, mutable, batch, rng):
        value, (changed, metrics) = loss_fn(
            {**state.params, **own}, mutable, frozen, batch, rng, state.step
        )
        metrics = {k: jnp.asarray(v, jnp.float32) for k, v in metrics.items()}
        return value.astype(jnp.float32), ({**mutable, **changed}, metrics)

    gradient = jax.value_and_grad(loss, has_aux=True)
    if train.accumulate == 1:
        (value, (mutable, metrics)), grads = gradient(own, state.mutable, batch, rng)
    else:
        value, mutable, metrics, grads = _accumulate(
            gradient, own, state.mutable, batch, rng, train.accumulate
        )
    norms = {n: optax.global_norm(grads[n]) for n in phase.nets}
    updates, opt = optimizer.rule.update(grads, state.opt[phase.name], own)
    own_new = optax.apply_updates(own, updates)

    checks = {"loss": value, **{f"grad/{n}": norm for n, norm in norms.items()}}
    finite = {k: jnp.isfinite(v) for k, v in checks.items()}
    fine = jnp.stack(list(finite.values())).all()
    skipped = jnp.zeros((), jnp.int32)
    new = (own_new, mutable, opt)
    if train.max_skips > 0:
        old = (own, state.mutable, state.opt[phase.name])
        new = jax.tree.map(lambda a, b: jnp.where(fine, a, b), new, old)
        skipped = (~fine).astype(jnp.int32)
    own_new, mutable, opt = new

    state = state.replace(
        params={**state.params, **own_new},
        mutable=mutable,
        opt={**state.opt, phase.name: opt},
    )
    rate = optimizer.rate((state.step - phase.start) // phase.every)
    logged = {"loss": value, **metrics, "lr": jnp.asarray(rate, jnp.float32)}
    logged |= {f"grad_norm/{n}": norm for n, norm in norms.items()}
    if train.max_skips > 0:  # a skipped update's numbers must not spoil the interval's means
        logged = {k: jnp.where(fine, v, 0.0) for k, v in logged.items()}
    counted = fine.astype(jnp.int32) if train.max_skips > 0 else jnp.ones((), jnp.int32)
    tally = Tally(
        sums={f"{phase.name}/{k}": v for k, v in logged.items()},
        counts={phase.name: counted},
        bad={f"{phase.name}/{k}": jnp.where(ok, -1, state.step) for k, ok in finite.items()},
        skipped=skipped,
    )
    return state, tally


def _accumulate(gradient, own, mutable, batch, rng, count):
    """Mean gradient over `count` micro-batches, one after the other.

    Micro-batch i takes the rows i::count, so that each holds a share of every device's rows and
    no row moves between devices.
    """
    micro = jax.tree.map(
        lambda x: x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1), batch
    )

    def body(carry, xs):
        mutable, total = carry
        index, rows = xs
        with in_loop():
            (value, (mutable, metrics)), grads = gradient(
                own, mutable, rows, jax.random.fold_in(rng, index)
            )
        total = jax.tree.map(jnp.add, total, (value, metrics, grads))
        return (mutable, total), None

    rows = jax.tree.map(lambda x: x[0], micro)
    (value, (_, metrics)), grads = jax.eval_shape(gradient, own, mutable, rows, rng)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (value, metrics, grads))
    (mutable, total), _ = jax.lax.scan(body, (mutable, zeros), (jnp.arange(count), micro))
    value, metrics, grads = jax.tree.map(lambda x: x / count, total)
    return value, mutable, metrics, grads


def _averages(decays: Mapping[str, float], state: TrainState) -> dict[str, Any]:
    """Exponential moving averages, of BatchNorm's statistics too.

    The decay rises as (1 + t) / (10 + t) to its value, so that the random start is forgotten in
    the first steps of a short run.
    """
    t = state.step.astype(jnp.float32)
    averages = {}
    for net, decay in decays.items():
        d = jnp.minimum(decay, ramp(t))
        now = {"params": state.params[net], **state.mutable.get(net, {})}
        averages[net] = jax.tree.map(
            lambda old, new, d=d: (d * old + (1.0 - d) * new).astype(old.dtype),
            state.ema[net],
            now,
        )
    return averages


def _powers(state: TrainState) -> dict[str, Any]:
    """Averages whose length grows with training (`jaxgen.weights.averages`), of the nets that have.

    Update n weighs (1 - 1/n)^(gamma + 1) of the old, all of the new at the first. What the new one
    weighs is computed as it is: as 1 minus the old one's share, float32 had lost a tenth of it by
    a million steps.
    """
    n = (state.step + 1).astype(jnp.float32)
    powers: dict[str, Any] = {}
    for net, averages in state.power.items():
        now = {"params": state.params[net], **state.mutable.get(net, {})}
        for width in WIDTHS:
            share = -jnp.expm1((gamma_of(width) + 1) * jnp.log1p(-1 / n))
            powers.setdefault(net, {})[name_of(width)] = jax.tree.map(
                lambda old, new, s=share: (old + s * (new - old)).astype(old.dtype),
                averages[name_of(width)],
                now,
            )
    return powers
