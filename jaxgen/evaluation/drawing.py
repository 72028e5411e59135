"""How much of what a picture and words ask for is in the picture that is drawn of them.

On CSS's flat scenes pictures are read exactly (`jaxgen.metrics.scene_reader`), and beside what was
drawn stand two baselines: the source as it is, and the picture that retrieval finds. On other data
there is the distance to the target alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.picture_files import write_image
from jaxgen.data.triplets.css import CSS
from jaxgen.data.triplets.examples import open_split
from jaxgen.data.triplets.source import Query, Triplets
from jaxgen.errors import UserError
from jaxgen.evaluation.retrieval import chosen, features
from jaxgen.grid import captioned_grid, enlarge
from jaxgen.metrics import retrieval as ranking
from jaxgen.metrics import scene_reader
from jaxgen.verbs.edit.contract import Request
from jaxgen.verbs.edit.use import Changer
from jaxgen.verbs.retrieve.use import Retriever


class DrawingModel(Protocol):
    """What is asked of a model; `jaxgen.load` gives such."""

    name: str
    step: int
    config: ConfigDict
    verbs: dict[str, Any]
    edit: Changer
    retrieve: Retriever


# (pictures, texts) -> what is drawn of each, uint8 (n, n, 3).
Draw = Callable[[Sequence[np.ndarray], Sequence[str]], Sequence[np.ndarray]]
_BLOCK = 256  # queries that are held at once


class Asked(NamedTuple):
    """A query with its pictures, as the model looks at them."""

    query: Query
    source: np.ndarray
    target: np.ndarray


def asked_of(
    config: ConfigDict, count: int, fit: Callable[[np.ndarray, int], np.ndarray], size: int
) -> tuple[Triplets, list[Query], Callable[[Query], Asked]]:
    """(the split that is evaluated on, so many of its queries evenly, query -> `Asked`)."""
    triplets = open_split(config.data, 1)
    queries = [query for query in chosen(triplets.queries, count) if query.target]
    numbers: dict[str, int] = {}
    for number, caption in enumerate(triplets.captions):
        numbers.setdefault(caption, number)

    def pictures(query: Query) -> Asked:
        source = fit(triplets.picture(query.source, source=True), size)
        return Asked(query, source, fit(triplets.picture(numbers[query.target]), size))

    return triplets, queries, pictures


def measure(
    draw: Draw,
    triplets: Triplets,
    queries: Sequence[Query],
    pictures: Callable[[Query], Asked],
    check: Callable[[], None] | None = None,
) -> dict[str, float]:
    """What is drawn for queries, measured.

    Returns: "l1", the mean difference from the target in levels; where scenes are read, shares:
      "objects" of the objects that are there or should be, "edited" of what the texts change,
      "whole" of the pictures, "<kind>_edited" of CSS's kinds, "held_out_edited" of targets with
      pairs of colour and shape that were never trained on.
    """
    read = is_read(triplets)
    apart: list[float] = []
    judged: list[scene_reader.Judged] = []
    for start in range(0, len(queries), _BLOCK):
        if check is not None:
            check()
        block = [pictures(query) for query in queries[start : start + _BLOCK]]
        drawn = draw([one.source for one in block], [one.query.text for one in block])
        for one, picture in zip(block, drawn, strict=True):
            apart.append(float(np.abs(picture.astype(int) - one.target).mean()))
            if read:
                assert isinstance(triplets, CSS)
                scene = triplets.scene(one.query.source)
                judged.append(scene_reader.judge(scene_reader.read(picture), scene, one.query.text))
    found = {"l1": float(np.mean(apart))} if apart else {}
    if not judged:
        return found
    assert isinstance(triplets, CSS)
    found |= {
        "objects": sum(one.right for one in judged) / max(sum(one.cells for one in judged), 1),
        "edited": float(np.mean([one.edited for one in judged])),
        "whole": float(np.mean([one.whole for one in judged])),
    }
    kinds = np.array([query.kind for query in queries])
    edited = np.array([one.edited for one in judged])
    for kind in np.unique(kinds[kinds != ""]).tolist():
        found[f"{kind}_edited"] = float(edited[kinds == kind].mean())
    numbers = {query: number for number, query in enumerate(triplets.queries)}
    held_out = triplets.held_out()[[numbers[query] for query in queries]]
    if held_out.any():
        found["held_out_edited"] = float(edited[held_out].mean())
    return found


def sheet(
    draw: Draw,
    queries: Sequence[Query],
    pictures: Callable[[Query], Asked],
    count: int,
    across: int = 1,
) -> tuple[list[list[tuple[str, np.ndarray]]], list[str]]:
    """(rows of source, drawn and target, their texts) of so many queries, evenly chosen.

    Args: across: queries in a row.
    """
    shown = [pictures(one) for one in chosen(queries, count)]
    made = draw([one.source for one in shown], [one.query.text for one in shown])
    rows: list[list[tuple[str, np.ndarray]]] = []
    titles: list[str] = []
    for number, (one, picture) in enumerate(zip(shown, made, strict=True)):
        if number % across:
            titles[-1] += f" | {one.query.text}"
        else:
            rows.append([])
            titles.append(one.query.text)
        found = (("source", one.source), ("drawn", picture), ("target", one.target))
        rows[-1] += [(said, enlarge(cell)) for said, cell in found]
    return rows, titles


def drawn_by(use: Changer, seed: int = 0) -> Draw:
    """What a model draws; a query's noise is that of its place among them."""
    count = itertools.count()

    def draw(pictures: Sequence[np.ndarray], texts: Sequence[str]) -> Sequence[np.ndarray]:
        requests = [
            Request("", (text,), picture, seed=seed, number=next(count))
            for picture, text in zip(pictures, texts, strict=True)
        ]
        return [edited.pictures[0] for edited in use.each(requests)]

    return draw


def evaluate_model(
    model: DrawingModel,
    count: int = 0,
    seed: int = 0,
    check: Callable[[], None] | None = None,
    sheet_file: Path | None = None,
) -> dict[str, Any]:
    """A model measured beside its baselines, on the data set that it was trained on.

    Args:
      count: test queries, evenly chosen; 0: all. seed: of the noise.
      check: called before each block of pictures; what it raises ends the work.
      sheet_file: where twelve of the queries are to be shown.

    Returns: {"model", "step", "data", "rules", "queries", "scores"}; scores: of "drawn",
      "retrieved" and "source" each what `measure` gives.

    Raises:
      UserError: a model that does not draw composed features, or no such data.
    """
    if "retrieve" not in model.verbs:
        raise UserError(
            f"{model.name} draws no composed features: give a run of family tirg_decoder"
        )
    verb = model.retrieve.verb
    triplets, queries, pictures = asked_of(model.config, count, verb.fit, verb.size)
    if not queries:
        raise UserError("there are no queries with a target to evaluate on")
    if sheet_file is not None:
        rows, titles = sheet(drawn_by(model.edit, seed), queries, pictures, 12, across=3)
        write_image(sheet_file, np.asarray(captioned_grid(rows, titles=titles)), mark="sheet")
    ways = {
        "drawn": drawn_by(model.edit, seed),
        "retrieved": retrieved(model.retrieve, triplets, queries, check),
        "source": unchanged,
    }
    return {
        "model": model.name,
        "step": model.step,
        "data": model.config.data.source,
        "rules": triplets.rules,
        "queries": len(queries),
        "scores": {
            name: measure(draw, triplets, queries, pictures, check) for name, draw in ways.items()
        },
    }


def is_read(triplets: Triplets) -> bool:
    """Whether pictures of a split can be read exactly."""
    return isinstance(triplets, CSS) and triplets.render == "2d"


def unchanged(sources: Sequence[np.ndarray], texts: Sequence[str]) -> Sequence[np.ndarray]:
    """The baseline that changes nothing."""
    del texts
    return sources


def retrieved(
    use: Retriever,
    triplets: Triplets,
    queries: Sequence[Query],
    check: Callable[[], None] | None = None,
) -> Draw:
    """The baseline that shows what is found in the gallery, the sources left out.

    It is to be called with the sources and texts of `queries`, in their order.
    """
    gallery, asked = features(use, triplets, queries, check)
    sources = None if triplets.keep_source else np.array([query.source for query in queries])
    found = iter(ranking.nearest(asked, gallery, 1, sources)[:, 0].tolist())
    size, fit = use.verb.size, use.verb.fit

    def draw(pictures: Sequence[np.ndarray], texts: Sequence[str]) -> Sequence[np.ndarray]:
        del texts
        return [fit(triplets.picture(next(found)), size) for _ in pictures]

    return draw
