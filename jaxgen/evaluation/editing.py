"""Edits of captioned shapes, judged by the exact reader: what had to change, and what to stay."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data.captioned.shape_captions import COLOURS, PLACES, SHAPES, SIZES, Thing, captions
from jaxgen.data.captioned.shapes import EXTENT, draw, make_scene
from jaxgen.metrics.shapes_reader import Found, read
from jaxgen.verbs.edit.contract import Request
from jaxgen.verbs.edit.use import Changer, Edited

_VALUES = {"colour": COLOURS, "size": SIZES, "shape": SHAPES, "place": PLACES}
CHANGES = tuple(_VALUES)
_AROUND = 2 / 32  # of the picture's side, around an object's box: soft edges


class Edit(NamedTuple):
    """An edit of one word: what changes, of which thing to which; where it is real, its picture."""

    change: str
    source: Thing
    target: Thing
    number: int
    picture: np.ndarray | None

    @property
    def texts(self) -> tuple[str, str]:
        """The captions of both, as the data have them: they name the place, too."""
        return captions((self.source,))[0], captions((self.target,))[0]


def make_edits(change: str, count: int, size: int, real: bool, seed: int = 0) -> list[Edit]:
    """Edits of validation scenes of one object; the same ones for all methods.

    Args: size: of the pictures. real: whether they are the data's, or drawn by the model.
    """
    rng = np.random.default_rng((seed, CHANGES.index(change)))
    found = []
    for number in range(count):
        scene = make_scene("validation", number)
        (thing,) = scene.things
        others = [value for value in _VALUES[change] if value != getattr(thing, change)]
        target = dataclasses.replace(thing, **{change: others[int(rng.integers(len(others)))]})
        found.append(Edit(change, thing, target, number, draw(scene, size) if real else None))
    return found


def judge(edit: Edit, edited: Edited) -> dict[str, float] | None:
    """Of one result, by the reader; None where the source is not what its caption says.

    success: the attribute is the wanted one. kept: there is one object as before, and its other
    attributes and its place are the source's. both: all of that. outside: mean absolute difference,
    in levels, outside of the boxes of both objects.
    """
    before, after = read(edited.source), read(edited.pictures[0])
    if len(before.found) != 1 or not before.valid:
        return None
    source = before.found[0].thing
    if any(getattr(source, name) != getattr(edit.source, name) for name in _VALUES):
        return None
    one = len(after.found) == 1
    found = after.found[0].thing if one else Thing()
    success = getattr(found, edit.change) == getattr(edit.target, edit.change)
    kept = one and all(
        getattr(found, name) == getattr(source, name) for name in _VALUES if name != edit.change
    )
    difference = np.abs(edited.pictures[0].astype(float) - edited.source).mean(axis=-1)
    outside = ~np.logical_or.reduce(
        [_box(one, len(difference)) for one in (*before.found, *after.found)]
    )
    return {
        "success": float(success),
        "kept": float(kept),
        "both": float(success and kept),
        "outside": float(difference[outside].mean()) if outside.any() else 0.0,
    }


def _box(found: Found, size: int) -> np.ndarray:
    reach = found.radius * EXTENT[found.thing.shape or "circle"] + _AROUND
    at = (np.arange(size) + 0.5) / size
    inside = [np.abs(at - centre) <= reach for centre in (found.y, found.x)]
    return np.asarray(inside[0][:, None] & inside[1][None, :])


def evaluate(
    use: Changer, edits: Sequence[Edit], method: str, options: Mapping[str, Any], seed: int = 0
) -> tuple[dict[str, float], list[Edited]]:
    """Means of `judge` over the edits whose sources are as they say, their number "sources", the
    mean squared error "reconstruction" where there is one; and the results."""
    captioned = use.method(method).captioned
    requests = [
        Request(
            one.texts[0] if captioned else "", (one.texts[1],), one.picture, None, seed,
            one.number, False, method, options,
        )
        for one in edits
    ]  # fmt: skip
    results = list(use.each(requests))
    judged = [judge(one, result) for one, result in zip(edits, results, strict=True)]
    told = [one for one in judged if one is not None]
    found = {"sources": float(len(told))}
    if told:
        found |= {name: float(np.mean([one[name] for one in told])) for name in told[0]}
    errors = [result.error for result in results if result.error is not None]
    if errors:
        found["reconstruction"] = float(np.mean(errors))
    return found, results
