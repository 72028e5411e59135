"""What captioned shapes say: captions of scenes, the claim that a caption makes, and its truth.

A caption is read in a closed world: it names all objects that there are. "Above" and "left of" hold
between neighbours in one column or one row of the 3x3 places, whatever the gap. So a chain of
relations that joins all objects fixes their arrangement up to gaps and shifts, and `meaning` is
that arrangement; where objects can't be joined, captions name every place, and `meaning` too.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Sequence

from jaxgen.data.text.tokens import split_words

SHAPES = ("circle", "square", "triangle")
COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan", "brown", "gray")
SIZES = ("small", "large")
# By rows, from the top left.
PLACES = (
    "top left", "top", "top right", "left", "center", "right", "bottom left", "bottom",
    "bottom right",
)  # fmt: skip
ATTRIBUTES = ("shape", "colour", "size", "place")
# The other word for it in captions.
_SYNONYMS = {"small": "little", "large": "big", "gray": "grey"}
_WHERE = {
    "top left": ("at the top left", "in the top left corner"),
    "top": ("at the top", "in the top middle"),
    "top right": ("at the top right", "in the top right corner"),
    "left": ("on the left", "in the middle left"),
    "center": ("in the center", "in the middle"),
    "right": ("on the right", "in the middle right"),
    "bottom left": ("at the bottom left", "in the bottom left corner"),
    "bottom": ("at the bottom", "in the bottom middle"),
    "bottom right": ("at the bottom right", "in the bottom right corner"),
}
# (usual, other) words of a relation and of its inverse.
_RELATIONS = {
    "above": (("above", "over"), ("below", "under")),
    "left of": (("left of", "to the left of"), ("right of", "to the right of")),
}
# Words of captions besides those of the tables.
_OTHER_WORDS = "a the there is and which ,"

# What users may say too.
_SAID = {
    **{word: ("shape", word) for word in SHAPES},
    **dict.fromkeys(("disc", "disk"), ("shape", "circle")),
    **{word: ("colour", word) for word in COLOURS},
    **{"grey": ("colour", "gray"), "violet": ("colour", "purple")},
    **dict.fromkeys(("small", "little", "tiny"), ("size", "small")),
    **dict.fromkeys(("large", "big", "huge"), ("size", "large")),
}
_ROWS = {"top": 0, "upper": 0, "bottom": 2, "lower": 2}
_COLUMNS = {"left": 0, "right": 2}
_MIDDLE = ("center", "centre", "middle")
_SPATIAL = {"above": "above", "over": "above", "below": "below", "under": "below"} | {
    "beneath": "below", "underneath": "below", "left-of": "left of", "right-of": "right of",
}  # fmt: skip

Relation = tuple[int, str, int]


@dataclasses.dataclass(frozen=True)
class Thing:
    """An object's attributes; None where a claim does not name one."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    place: str | None = None


@dataclasses.dataclass(frozen=True)
class Claim:
    """What a caption says: its things, and relations (index, "above" or "left of", index)."""

    things: tuple[Thing, ...]
    relations: tuple[Relation, ...] = ()


def cell(place: str) -> tuple[int, int]:
    """(row, column) of a place, each 0 to 2."""
    return divmod(PLACES.index(place), 3)


def relations(cells: Sequence[tuple[int, int]]) -> tuple[Relation, ...]:
    """All that hold between objects at these (row, column)."""
    found: list[Relation] = []
    for (i, (row, column)), (j, (other_row, other_column)) in itertools.permutations(
        enumerate(cells), 2
    ):
        if column == other_column and row < other_row:
            found.append((i, "above", j))
        if row == other_row and column < other_column:
            found.append((i, "left of", j))
    return tuple(found)


def true_of(claim: Claim, things: Sequence[Thing]) -> bool:
    """Whether the claim holds of a scene of these things (attributes all given)."""
    if len(claim.things) != len(things):
        return False
    held = set(relations([cell(thing.place or "") for thing in things]))
    for order in itertools.permutations(range(len(things))):
        fits = all(
            getattr(said, name) in (None, getattr(things[i], name))
            for said, i in zip(claim.things, order, strict=True)
            for name in ATTRIBUTES
        )
        if fits and all((order[i], kind, order[j]) in held for i, kind, j in claim.relations):
            return True
    return False


def meaning(things: Sequence[Thing]) -> int:
    """A number below 2**31: where two differ, no caption of one scene is true of the other."""
    cells = [cell(thing.place or "") for thing in things]
    if len(things) > 1 and _joined(cells):
        # Gaps and shifts don't matter: rows and columns are counted among those in use.
        rows = sorted({row for row, _ in cells})
        columns = sorted({column for _, column in cells})
        cells = [(rows.index(row), columns.index(column)) for row, column in cells]
    number = 0
    kinds = sorted(
        (((COLOURS.index(t.colour or "") * 3 + SHAPES.index(t.shape or "")) * 2)
         + SIZES.index(t.size or "")) * 9 + row * 3 + column + 1
        for t, (row, column) in zip(things, cells, strict=True)
    )  # fmt: skip
    for kind in kinds:
        number = number * (8 * 3 * 2 * 9 + 1) + kind
    return number


def _joined(cells: Sequence[tuple[int, int]]) -> bool:
    """Whether relations link all objects."""
    links = relations(cells)
    reached = {0}
    for _ in cells:
        reached |= {k for i, _, j in links if {i, j} & reached for k in (i, j)}
    return len(reached) == len(cells)


# ---- captions ------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1 << 16)
def captions(things: tuple[Thing, ...]) -> tuple[str, ...]:
    """Texts that are true of the scene, in a fixed order; every text names all objects."""
    if len(things) == 1:
        return _one(things[0])
    plain, other = [_name(t) for t in things], [_name(t, other=True) for t in things]
    where = [_WHERE[t.place or ""] for t in things]
    at = [f"a {name} {w[0]}" for name, w in zip(plain, where, strict=True)]
    in_ = [f"a {name} {w[1]}" for name, w in zip(other, where, strict=True)]
    first = [f"{w[0]} a {name}" for name, w in zip(plain, where, strict=True)]
    short = [f"{name} {t.place}" for name, t in zip(plain, things, strict=True)]
    texts = [
        _list(at),
        f"there is {_list(in_)}",
        ", ".join(first),
        ", ".join(short),
        _list(at[::-1]),
    ]
    cells = [cell(t.place or "") for t in things]
    if _joined(cells):
        texts += _related(relations(cells), plain, other)
    return tuple(texts)


@functools.lru_cache(maxsize=1 << 16)
def related(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Those of a scene's captions that say a relation, in their order."""
    claims = [parse(text) for text in texts]
    return tuple(t for t, claim in zip(texts, claims, strict=True) if claim and claim.relations)


def _one(thing: Thing) -> tuple[str, ...]:
    plain, other = _name(thing), _name(thing, other=True)
    at, in_ = _WHERE[thing.place or ""]
    return (
        f"a {plain} {at}",
        f"there is a {other} {in_}",
        f"{at}, a {plain}",
        f"{in_} there is a {other}",
        f"the {thing.shape} {at} is {thing.size} and {thing.colour}",
        f"{plain} {thing.place}",
        f"a {other} {at}",
        f"a {plain} {in_}",
    )


def _name(thing: Thing, other: bool = False) -> str:
    words = [thing.size or "", thing.colour or "", thing.shape or ""]
    return " ".join(_SYNONYMS.get(word, word) if other else word for word in words)


def _list(texts: Sequence[str]) -> str:
    return ", ".join(texts[:-1]) + f" and {texts[-1]}"


def _related(
    links: Sequence[Relation], plain: Sequence[str], other: Sequence[str]
) -> tuple[str, ...]:
    """Chains of relations through all objects, from either end, and from the middle one."""
    said = {(i, j): _RELATIONS[kind][0] for i, kind, j in links}
    said |= {(j, i): _RELATIONS[kind][1] for i, kind, j in links}
    paths = [
        path
        for path in itertools.permutations(range(len(plain)))
        if all(pair in said for pair in itertools.pairwise(path))
        # Two that are both left of a third: their own order would stay open.
        and (len(path) < 3 or said[path[1], path[0]] != said[path[1], path[2]])
    ]
    texts = []
    for path in paths:
        for names, form in ((plain, 0), (other, 1)):
            steps = [said[pair][form] for pair in itertools.pairwise(path)]
            links_text = [f"{step} a {names[i]}" for step, i in zip(steps, path[1:], strict=True)]
            texts.append(f"a {names[path[0]]} " + ", which is ".join(links_text))
        if len(path) == 3:
            start, middle, end = path
            texts.append(
                f"a {plain[middle]} {said[middle, start][0]} a {plain[start]} and "
                f"{said[middle, end][0]} a {plain[end]}"
            )
    return tuple(texts)


def vocabulary() -> tuple[str, ...]:
    """Every word that captions use, in a fixed order."""
    phrases = [*SHAPES, *COLOURS, *SIZES, *_SYNONYMS.values(), *PLACES]
    phrases += itertools.chain(*_WHERE.values())
    phrases += itertools.chain(*itertools.chain(*_RELATIONS.values()))
    return tuple(dict.fromkeys(" ".join([*phrases, _OTHER_WORDS]).split()))


# ---- reading a caption ---------------------------------------------------------------------------


def parse(caption: str) -> Claim | None:
    """The claim of a caption, or of a user's words such as "a large red circle"; None if it names
    no shape. The inverse of `captions`; words that it does not know are passed over."""
    words = " ".join(split_words(caption))
    words = re.sub(
        r"\b(left|right|top|bottom|middle|center) of the (picture|image)\b", r"\1", words
    )
    words = re.sub(r"\b(?:(?:to|on) the )?(left|right) of\b", r"\1-of", words)
    things: list[dict[str, str]] = []
    links: list[Relation] = []
    pending: dict[str, str] = {}  # of the thing that comes next
    relation: tuple[int, str] | None = None  # (subject, kind) that waits for its object
    fresh = True  # after a comma or "and": a place or relation is not the last thing's
    of_last = False  # after "is": attributes are the last thing's
    tokens = words.split()
    for at, word in enumerate(tokens):
        before = tokens[at - 1] if at else ""
        if word in _SPATIAL and things:
            subject = len(things) - 1
            if fresh and links and "which" not in tokens[max(at - 2, 0) : at]:
                subject = _subject(links[-1], len(things) - 1)
            relation, fresh = (subject, _SPATIAL[word]), False
        elif word in _SAID:
            kind, value = _SAID[word]
            if kind != "shape":
                (things[-1] if of_last and things else pending).setdefault(kind, value)
                continue
            things.append(pending | {"shape": value})
            pending, fresh, of_last = {}, False, False
            if relation:
                links.append(_link(*relation, len(things) - 1))
                relation = None
        elif word in _ROWS or word in _COLUMNS or word in _MIDDLE:
            target = pending if fresh or not things else things[-1]
            target["place"] = _place(target.get("place"), word)
        elif word == "is":
            of_last = before != "there" and at + 1 < len(tokens) and tokens[at + 1] in _SAID
        elif word in (",", "and"):
            fresh = not of_last
        elif word in ("a", "an", "the"):
            of_last = False
    if not things:
        return None
    for kind, value in pending.items():  # "a circle, large and red, at the top"
        things[-1].setdefault(kind, value)
    return Claim(tuple(Thing(**thing) for thing in things), tuple(links))


def _place(known: str | None, word: str) -> str:
    """The place after one more word of its name, such as ("top", "left") -> "top left"."""
    row, column = cell(known) if known else (1, 1)
    return PLACES[_ROWS.get(word, row) * 3 + _COLUMNS.get(word, column)]


def _link(subject: int, kind: str, target: int) -> Relation:
    if kind == "below":
        return target, "above", subject
    if kind == "right of":
        return target, "left of", subject
    return subject, kind, target


def _subject(link: Relation, last: int) -> int:
    """Of the relation that "and" goes on from: the end that was named before the last thing."""
    return link[0] if link[2] == last else link[2]
