"""CSS's scenes and the changes of them: what the published set was made by, as far as is known.

Objects stand on a 3x3 grid, at most one in a cell. Scenes of "train" and "test" show different
pairs of colour and shape (`PAIRS`); each colour and shape is seen in training. A change adds an
object, removes one, or gives one another colour or size:

    add object · add red cube · add big red cube to middle-center
    remove yellow sphere · remove bottom-center cyan object
    make bottom-right gray object purple · make brown sphere yellow

What `remove` and `make` name is one object of the scene alone; what `add` leaves unsaid is
anything, so that such a text has many right answers of which one is asked for (see `ceiling`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxgen.data.triplets.css2d import COLOURS, SHAPES

SIZES = ("small", "large")
CALLED = {"rectangle": "cube", "circle": "sphere", "triangle": "cylinder"}
CELLS = tuple(f"{y}-{x}" for y in ("top", "middle", "bottom") for x in ("left", "center", "right"))
_ALL = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
# Each of four colours and all shapes: never seen in training; and four seen there alone.
HELD_OUT = (
    ("gray", "circle"), ("green", "rectangle"), ("purple", "triangle"), ("yellow", "rectangle"),
)  # fmt: skip
SEEN_ALONE = (
    ("red", "triangle"), ("blue", "circle"), ("brown", "rectangle"), ("cyan", "triangle"),
)  # fmt: skip
PAIRS = {
    "train": tuple(pair for pair in _ALL if pair not in HELD_OUT),
    "test": tuple(pair for pair in _ALL if pair not in SEEN_ALONE),
}
KINDS = ("add", "remove", "change")


class Thing(NamedTuple):
    """An object of a scene; cell: 0 to 8, by rows."""

    cell: int
    colour: str
    shape: str
    size: str


Scene = tuple[Thing, ...]  # by cells


class Change(NamedTuple):
    """What a text says and the scene that it leads to."""

    kind: str
    text: str
    scene: Scene


def objects(scene: Scene) -> list[dict[str, Any]]:
    """The scene as CSS's file holds it."""
    return [
        {
            "color": thing.colour,
            "shape": thing.shape,
            "size": thing.size,
            "pos": [(2 * (thing.cell // 3) + 1) / 6, (2 * (thing.cell % 3) + 1) / 6],
        }
        for thing in scene
    ]


def scene_of(held: list[dict[str, Any]]) -> Scene:
    """The scene of CSS's objects; each in the cell where its centre lies."""
    return tuple(
        sorted(
            Thing(
                3 * min(int(3 * float(one["pos"][0])), 2) + min(int(3 * float(one["pos"][1])), 2),
                one["color"],
                one["shape"],
                one["size"],
            )
            for one in held
        )
    )


def make_scene(rng: np.random.Generator, split: str, least: int, most: int) -> Scene:
    """A random scene of so many objects."""
    count = least + int(rng.random() * (most - least + 1))
    cells = rng.permutation(9)[:count]
    return tuple(sorted(_thing(rng, split, int(cell)) for cell in cells))


def make_change(rng: np.random.Generator, split: str, scene: Scene, kind: str) -> Change | None:
    """A random change of this kind; None where the scene allows none, or the words drawn don't."""
    return _MAKE[kind](rng, split, scene)


def _thing(rng: np.random.Generator, split: str, cell: int) -> Thing:
    pairs = PAIRS[split]
    colour, shape = pairs[int(rng.random() * len(pairs))]
    return Thing(cell, colour, shape, SIZES[int(rng.random() * 2)])


def _add(rng: np.random.Generator, split: str, scene: Scene) -> Change | None:
    free = sorted(set(range(9)) - {thing.cell for thing in scene})
    if not free:
        return None
    new = _thing(rng, split, free[int(rng.random() * len(free))])
    named, placed = int(rng.random() * 8), rng.random() < 0.5
    words = ["add"]
    if named & 1:
        words.append("big" if new.size == "large" else "small")
    if named & 2:
        words.append(new.colour)
    words.append(CALLED[new.shape] if named & 4 else "object")
    if placed:
        words += ["to", CELLS[new.cell]]
    return Change("add", " ".join(words), tuple(sorted((*scene, new))))


def _remove(rng: np.random.Generator, split: str, scene: Scene) -> Change | None:
    del split
    found = _named(rng, scene)
    if found is None:
        return None
    thing, name = found
    return Change("remove", f"remove {name}", tuple(one for one in scene if one is not thing))


def _change(rng: np.random.Generator, split: str, scene: Scene) -> Change | None:
    found = _named(rng, scene)
    if found is None:
        return None
    thing, name = found
    if rng.random() < 0.5:
        size = SIZES[1 - SIZES.index(thing.size)]
        new, said = thing._replace(size=size), size
    else:
        colours = [c for c, s in PAIRS[split] if s == thing.shape and c != thing.colour]
        said = colours[int(rng.random() * len(colours))]
        new = thing._replace(colour=said)
    changed = tuple(sorted(new if one is thing else one for one in scene))
    return Change("change", f"make {name} {said}", changed)


_MAKE = {"add": _add, "remove": _remove, "change": _change}


def _named(rng: np.random.Generator, scene: Scene) -> tuple[Thing, str] | None:
    """An object and words that are true of it alone; None where those drawn are not."""
    if not scene:
        return None
    thing = scene[int(rng.random() * len(scene))]
    said = int(rng.random() * 16)
    marks = [
        (said & 1, "cell", CELLS[thing.cell]),
        (said & 2, "size", thing.size),
        (said & 4, "colour", thing.colour),
        (said & 8, "shape", CALLED[thing.shape]),
    ]
    fields = [field for on, field, _ in marks if on]
    alike = [one for one in scene if all(getattr(one, f) == getattr(thing, f) for f in fields)]
    if len(alike) > 1 or not fields:
        return None
    words = [word for on, _, word in marks if on]
    return thing, " ".join(words if said & 8 else [*words, "object"])


# ---- what a text may mean ------------------------------------------------------------------------


class Meaning(NamedTuple):
    """A text read again. named: what is said of the object; set: what it becomes."""

    kind: str
    named: dict[str, Any]
    set: dict[str, Any]


def read(text: str) -> Meaning | None:
    """The meaning of a text in these forms; None of another."""
    words = text.split()
    if not words or words[0] not in ("add", "remove", "make"):
        return None
    becomes: dict[str, Any] = {}
    if words[0] == "make":
        last = words.pop()
        becomes["size" if last in SIZES else "colour"] = last
    shapes = {called: shape for shape, called in CALLED.items()}
    named: dict[str, Any] = {}
    for word in words[1:]:
        if word in CELLS:
            named["cell"] = CELLS.index(word)
        elif word in (*SIZES, "big"):
            named["size"] = "large" if word == "big" else word
        elif word in COLOURS:
            named["colour"] = word
        elif word in shapes:
            named["shape"] = shapes[word]
        elif word not in ("object", "to"):
            return None
    return Meaning({"add": "add", "remove": "remove", "make": "change"}[words[0]], named, becomes)


def answers(scene: Scene, text: str, split: str) -> set[Scene]:
    """All scenes that a text may lead to from a scene, with the split's pairs."""
    meaning = read(text)
    if meaning is None:
        return set()
    if meaning.kind == "add":
        free = set(range(9)) - {thing.cell for thing in scene}
        every = (
            Thing(cell, colour, shape, size)
            for cell in free
            for colour, shape in PAIRS[split]
            for size in SIZES
        )
        return {tuple(sorted((*scene, new))) for new in every if _fits(new, meaning.named)}
    found = [thing for thing in scene if _fits(thing, meaning.named)]
    changed = set()
    for thing in found:
        rest = [one for one in scene if one is not thing]
        new = [] if meaning.kind == "remove" else [thing._replace(**meaning.set)]
        changed.add(tuple(sorted((*rest, *new))))
    return changed


def _fits(thing: Thing, named: dict[str, Any]) -> bool:
    return all(getattr(thing, field) == value for field, value in named.items())
