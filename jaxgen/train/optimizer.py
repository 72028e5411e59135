"""Optimizers and learning-rate schedules from config (`jaxgen.config.optimizer`)."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from jaxgen.errors import UserError


class Optimizer(NamedTuple):
    """rule: the update; rate: its learning rate by update count, for the log."""

    rule: optax.GradientTransformation
    rate: optax.Schedule


def schedule(settings: ConfigDict, updates: int) -> optax.Schedule:
    """Learning rate as a function of this phase's update count.

    Args:
      settings: see `jaxgen.config.optimizer`.
      updates: how many updates the phase makes in the whole run; a cosine ends there.
    """
    lr, warmup = settings.lr, int(settings.warmup)
    rest = max(updates - warmup, 1)
    if settings.schedule == "constant":
        main = optax.constant_schedule(lr)
    elif settings.schedule == "cosine":
        main = optax.cosine_decay_schedule(lr, rest, alpha=settings.final)
    elif settings.schedule == "multistep":
        # Milestones count from the phase's first update; the joined schedule counts from warm-up.
        main = optax.piecewise_constant_schedule(
            lr, {int(m) - warmup: settings.gamma for m in settings.milestones}
        )
    else:
        raise UserError(
            f"unknown schedule {settings.schedule!r}; there are constant, cosine and multistep"
        )
    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, lr, warmup), main], [warmup])


def make_optimizer(settings: ConfigDict, updates: int) -> Optimizer:
    """The phase's optimizer: clipping by global norm (if asked for), then the update rule."""
    rate = schedule(settings, updates)
    # fmt: off
    rules = {
        "adam": lambda: optax.adam(rate, settings.b1, settings.b2, settings.eps),
        "adamw": lambda: optax.adamw(
            rate, settings.b1, settings.b2, settings.eps, weight_decay=settings.weight_decay,
            mask=_kernels if settings.get("decays", "all") == "kernels" else None,
        ),
        "sgd": lambda: optax.sgd(rate, momentum=settings.b1),
        "rmsprop": lambda: optax.rmsprop(rate, decay=settings.b2, eps=settings.eps),
    }
    # fmt: on
    if settings.name not in rules:
        raise UserError(f"unknown optimizer {settings.name!r}; there are {', '.join(rules)}")
    rule = rules[settings.name]()
    if settings.name == "sgd" and settings.weight_decay > 0:
        rule = optax.chain(optax.add_decayed_weights(settings.weight_decay), rule)
    if settings.clip_norm > 0:
        rule = optax.chain(optax.clip_by_global_norm(settings.clip_norm), rule)
    if factors := settings.get("factors", ()):
        rule = optax.chain(rule, _scale_by_path(tuple(factors)))
    return Optimizer(rule, rate)


def _scale_by_path(factors: tuple[tuple[str, float], ...]) -> optax.GradientTransformation:
    """Updates times the first factor whose regex is found in their path, "g/image/fc/kernel"."""

    def scaled(path: Any, update: jax.Array) -> jax.Array:
        name = "/".join(str(getattr(part, "key", part)) for part in path)
        factor = next((f for pattern, f in factors if re.search(pattern, name)), 1.0)
        return update * jnp.asarray(factor, update.dtype)

    return optax.stateless(
        lambda updates, params: jax.tree_util.tree_map_with_path(scaled, updates)
    )


def _kernels(params: Any) -> Any:
    """True for the kernels of dense and convolution layers, by their name."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: getattr(path[-1], "key", "") == "kernel", params
    )
