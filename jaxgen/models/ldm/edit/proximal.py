"""Proximal guidance in an edit of an inverted picture: its options, and what it does in a step."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgen.edit.path import Path, make_path
from jaxgen.edit.proximal import shrunk
from jaxgen.errors import UserError
from jaxgen.models.ldm.edit.editing import Editing
from jaxgen.verbs import Option
from jaxgen.verbs.edit.contract import Request

OPTIONS = {
    "proximal": Option(
        "", "inversion=negative: guidance leaves out what is small of the difference, all of it "
        "(l0), or so much of every value (l1)", choices=("", "l0", "l1"),
    ),
    "quantile": Option(0.7, "proximal: below which it is small", least=0.0, most=1.0),
    "pull": Option(0.1, "proximal: back to the source where nothing is left, late in the path",
                   least=0.0, most=1.0),
}  # fmt: skip
_LATE = 0.4  # published: below time 400 of 1000


@dataclasses.dataclass
class Lead:
    """(asked, unasked) -> guided; then `still` is where nothing of the difference is left."""

    near: Proximal
    rows: tuple[int, int]
    scale: jax.Array | float
    still: jax.Array | None = None

    def __call__(self, asked: jax.Array, unasked: jax.Array) -> jax.Array:
        delta = (asked - unasked).reshape(*self.rows, *asked.shape[1:])
        near = self.near
        small = shrunk(delta, near.quantile, near.kind, near.original)
        self.still = small.still
        led: jax.Array = unasked + self.scale * small.delta.reshape(asked.shape)
        return led


class Proximal(NamedTuple):
    """Of b pictures.

    Attributes:
      x0: (b, ...) of them. quantile, pull: (b,). kind, original: see `jaxgen.edit.proximal.shrunk`.
    """

    x0: jax.Array
    quantile: jax.Array
    pull: jax.Array
    kind: str
    original: bool = False

    def lead(self, rows: tuple[int, int], scale: jax.Array | float) -> Lead:
        """The guidance of one step, of (b, rows of each)."""
        return Lead(self, rows, scale)

    def pulled(
        self, row: Path, x: jax.Array, out: jax.Array, still: jax.Array, steps: int
    ) -> jax.Array:
        """What a step of the path adds to x (b, r, ...) after it; out: what the net said of x.

        Args: still: of `Lead`. steps: of the schedule.
        """
        seen, _ = row.seen(x, out, row.above)
        pull = self.pull.reshape(-1, 1, 1, 1, 1) * (row.times < _LATE * steps)
        return row.below[0] * pull * still * (self.x0[:, None] - seen)


def prepared(
    editing: Editing, request: Request, settings: Mapping[str, Any], shared: dict[str, Any]
) -> tuple[dict[str, Any], tuple[str, bool]]:
    """(what each request holds of it, (kind, as published) for the program); kind "": none.

    Raises:
      UserError: another inversion than negative, or no guidance.
    """
    kind = settings["proximal"]
    if not kind:
        return {}, ("", False)
    if request.picture is None or settings["inversion"] != "negative":
        raise UserError(
            f"proximal={kind} shrinks the difference of two captions: give a picture, and "
            "inversion=negative"
        )
    if "guidance" not in shared:
        raise UserError(f"proximal={kind} acts by guidance: set guidance to another than 1")
    target = editing.config.model.target
    shared["path"] = make_path(editing.schedule, target, settings["steps"])
    each = {name: np.float32(settings[name]) for name in ("quantile", "pull")}
    return each, (kind, bool(settings["original"]))
