"""Two captions, each the net under it: what methods without attention controls work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.diffusion import sampling
from jaxgen.diffusion.sampling import Denoise
from jaxgen.edit.path import make_path
from jaxgen.models.ldm.edit.editing import SOURCE_GUIDANCE, Asked, Editing
from jaxgen.verbs import Option
from jaxgen.verbs.edit.contract import Outcome, Prepared, Request


class Pair(NamedTuple):
    """Of b pictures with k targets each, n = b k rows.

    Attributes:
      rows: (b, k). x: (n, ...) the pictures. mask: (n, h, w, 1) of x, None: everywhere.
      source, target: the net under the caption and under the target. asked: (source, target).
      draw: (number) -> (n, ...) noise, of each picture by its seed.
    """

    rows: tuple[int, int]
    x: jax.Array
    mask: jax.Array | None
    source: Denoise
    target: Denoise
    asked: tuple[Asked, Asked]
    draw: Callable[[jax.Array], jax.Array]


def make_pair(editing: Editing, nets: Any, shared: Mapping[str, Any], each: Any) -> Pair:
    """Within a program, of what `settled` and `Editing.request` prepared."""
    b, r = each["tokens"].shape[:2]
    n = b * (r - 1)
    asked = jax.tree.map(
        lambda a: a.reshape(b, r, *a.shape[1:]),
        editing.embed(nets, each["tokens"], each["mask"]),
    )
    before = jax.tree.map(lambda a: jnp.repeat(a[:, 0], r - 1, axis=0), asked)
    after = jax.tree.map(lambda a: a[:, 1:].reshape(n, *a.shape[2:]), asked)
    unasked = editing.unasked(nets, shared, n)

    def under(asked: Asked, scale: jax.Array | float) -> Denoise:
        return lambda x, t: editing.predict(nets, x, t[0], asked, unasked, scale)[0]

    noise = sampling.noise_of(editing.keys(each), editing.shape)
    where = editing.where(each)
    mask = None if where is None else jnp.repeat(where[:, 0], r - 1, axis=0)
    scale = shared.get("guidance", 1.0)
    return Pair(
        (b, r - 1),
        jnp.repeat(editing.clean(nets, each), r - 1, axis=0),
        mask,
        under(before, shared.get(SOURCE_GUIDANCE, scale)),
        under(after, scale),
        (before, after),
        lambda i: jnp.repeat(noise(i), r - 1, axis=0),
    )


def source_option(editing: Editing, default: float) -> dict[str, Option]:
    """Of the source's guidance, where the model is guided at all."""
    if not editing.guided:
        return {}
    says = "how much the source's caption counts"
    return {SOURCE_GUIDANCE: Option(default, says, least=0.0, most=1000.0)}


STRENGTH = Option(
    0.7, "how far towards noise the picture goes, and comes back", least=0.0, most=1.0
)


def prepare(editing: Editing, request: Request, settings: Mapping[str, Any]) -> Prepared:
    """See `Method.prepare`."""
    return Prepared(settled(editing, settings), editing.request(request))


def settled(editing: Editing, settings: Mapping[str, Any]) -> dict[str, Any]:
    """`shared` of a method's settings: its guidance, and its path where it has steps."""
    found = editing.steps(settings)
    del found["plan"]
    target = editing.config.model.target
    strength = settings.get("strength", 1.0)
    found["path"] = make_path(editing.schedule, target, settings["steps"], strength)
    return found


def outcome(
    editing: Editing, nets: Any, each: Any, pair: Pair, back: jax.Array, edits: jax.Array
) -> Outcome:
    """Pictures of what came back without a change and of the edits, both (n, ...)."""
    b, k = pair.rows
    rows = [back.reshape(b, k, *back.shape[1:])[:, :1], edits.reshape(b, k, *edits.shape[1:])]
    return editing.finished(nets, jnp.concatenate(rows, axis=1), each)
