"""Edits of captioned shapes, judged by the exact reader: what had to change, and what to stay."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data.captioned.shape_captions import COLOURS, PLACES, SHAPES, SIZES, Thing, captions
from jaxgen.data.captioned.shapes import EXTENT, Scene, draw, make_scene, possible
from jaxgen.metrics.shapes_reader import Found, Reading, read
from jaxgen.verbs.edit.contract import Request
from jaxgen.verbs.edit.use import Changer, Edited

_VALUES = {"colour": COLOURS, "size": SIZES, "shape": SHAPES, "place": PLACES}
WORDS = tuple(_VALUES)  # changes of one word
CHANGES = (*WORDS, "add", "remove", "weight")
WEIGHT = 3.0  # of the size's word, of methods that weigh words
MOVED = 1.02  # by what ratio a radius has to change for that
_AROUND = 2 / 32  # of the picture's side, around an object's box: soft edges


class Edit(NamedTuple):
    """An edit and what is true before and after it.

    change: one of CHANGES. source, target: the objects of both, in the order of their captions.
    number: of the validation scene. picture: where it is real, that of the source.
    """

    change: str
    source: tuple[Thing, ...]
    target: tuple[Thing, ...]
    number: int
    picture: np.ndarray | None

    @property
    def texts(self) -> tuple[str, str]:
        """The captions of both, as the data have them: they name the places, too."""
        return captions(self.source)[0], captions(self.target)[0]

    @property
    def options(self) -> dict[str, Any]:
        """What of a method's options this edit needs."""
        return {"weight": f"{self.source[0].size}:{WEIGHT}"} if self.change == "weight" else {}


def make_edits(
    change: str, count: int, size: int, real: bool, objects: int = 1, seed: int = 0
) -> list[Edit]:
    """Edits of validation scenes; the same ones for all methods.

    Args:
      size: of the pictures.
      real: whether they are the data's, or drawn by the model.
      objects: of the scene of whose one a word is changed. An object is added to one, and removed
        from two; the size's word is weighed of one.
    """
    rng = np.random.default_rng((seed, CHANGES.index(change)))
    whole = objects if change in WORDS else 1 if change == "weight" else 2
    found: list[Edit] = []
    number = -1
    while len(found) < count:
        number += 1
        scene = make_scene("validation", number, (whole, whole))
        which = int(rng.integers(whole)) if whole > 1 else 0
        if change in WORDS:
            targets = _with_another_word(scene.things, which, change)
            if not targets:  # such as a place for a large one beside a large one
                continue
            target = targets[int(rng.integers(len(targets)))]
        elif change == "weight":
            target = scene.things
        else:
            fewer = _without(scene, which)
            scene, target = (fewer, scene.things) if change == "add" else (scene, fewer.things)
        picture = draw(scene, size) if real else None
        found.append(Edit(change, scene.things, target, number, picture))
    return found


def _with_another_word(
    things: tuple[Thing, ...], which: int, change: str
) -> list[tuple[Thing, ...]]:
    """All that the things can become by another word of one of them."""
    changed = [
        dataclasses.replace(things[which], **{change: value})
        for value in _VALUES[change]
        if value != getattr(things[which], change)
    ]
    wholes = [(*things[:which], one, *things[which + 1 :]) for one in changed]
    return [whole for whole in wholes if possible(whole)]


def _without(scene: Scene, which: int) -> Scene:
    left = [i for i in range(len(scene.things)) if i != which]
    return dataclasses.replace(
        scene,
        things=tuple(scene.things[i] for i in left),
        spots=tuple(scene.spots[i] for i in left),
    )


def judge(edit: Edit, edited: Edited) -> dict[str, float] | None:
    """Of one result, by the reader; None where the source is not what its caption says.

    success: the attribute is the wanted one; the added object is there, or the removed one is not;
    a weighed "large" has made the object larger, a weighed "small" smaller.
    kept: no object is there that should not be, and all else of the objects is the source's.
    both: all of that. outside: mean absolute difference, in levels, outside of all objects' boxes.
    """
    before, after = read(edited.source), read(edited.pictures[0])
    if not before.valid or not _same([one.thing for one in before.found], edit.source):
        return None
    if edit.change == "weight":
        success, kept = _weighed(before, after)
    else:
        success, kept = _found(edit, [one.thing for one in after.found])
    difference = np.abs(edited.pictures[0].astype(float) - edited.source).mean(axis=-1)
    boxes = [_box(one, len(difference)) for one in (*before.found, *after.found)]
    outside = ~np.logical_or.reduce(boxes)
    return {
        "success": float(success),
        "kept": float(kept),
        "both": float(success and kept),
        "outside": float(difference[outside].mean()) if outside.any() else 0.0,
    }


def _same(some: Sequence[Thing], others: Sequence[Thing]) -> bool:
    """Whether they are the same things, in whatever order."""
    return sorted(map(repr, some)) == sorted(map(repr, others))


def _found(edit: Edit, things: list[Thing]) -> tuple[bool, bool]:
    """(success, kept) of the things that an edited picture shows."""
    stay = [thing for thing in edit.target if thing in edit.source]
    left = [thing for thing in things if thing not in stay]
    stayed = all(thing in things for thing in stay)
    if edit.change == "add":
        (added,) = (thing for thing in edit.target if thing not in edit.source)
        return added in left, stayed and len(things) <= len(edit.target)
    if edit.change == "remove":
        (removed,) = (thing for thing in edit.source if thing not in edit.target)
        return removed not in left, stayed and left in ([], [removed])
    (source,) = (thing for thing in edit.source if thing not in edit.target)
    (wanted,) = (thing for thing in edit.target if thing not in edit.source)
    # Of several that are left the one most like what is wanted; then nothing is as it was.
    found = max(left, key=lambda thing: _alike(thing, wanted), default=Thing())
    alike = all(
        getattr(found, name) == getattr(source, name) for name in WORDS if name != edit.change
    )
    success = getattr(found, edit.change) == getattr(wanted, edit.change)
    return success, stayed and len(left) == 1 and alike


def _weighed(before: Reading, after: Reading) -> tuple[bool, bool]:
    """(success, kept) of a size's word that counts more."""
    (was,) = before.found
    if len(after.found) != 1:
        return False, False
    (now,) = after.found
    ratio = now.radius / was.radius
    return (ratio if was.thing.size == "large" else 1 / ratio) >= MOVED, now.thing == was.thing


def _alike(one: Thing, other: Thing) -> int:
    return sum(getattr(one, name) == getattr(other, name) for name in WORDS)


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
            one.number, False, method, {**options, **one.options},
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
