"""How often a picture and words find the picture that they ask for, of a run and of any model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.triplets.css import CSS
from jaxgen.data.triplets.examples import open_split
from jaxgen.data.triplets.fashion_iq import FashionIQ
from jaxgen.data.triplets.mit_states import MITStates
from jaxgen.data.triplets.source import Query, Triplets
from jaxgen.errors import UserError
from jaxgen.grid import enlarge
from jaxgen.metrics import retrieval
from jaxgen.task import Evaluation, Nets
from jaxgen.verbs.retrieve.contract import Retrieve
from jaxgen.verbs.retrieve.use import Retriever
from jaxgen.whole import replacing

_SHOWN = 5  # results of a query in the sample grid
_BLOCK = 1024  # pictures that are held at once
SUBMITTED = {"recall": 50, "recall_subset": 3}  # names that CIRR's server takes of each query


class RetrievingModel(Protocol):
    """What is asked of a model; `jaxgen.load` gives such."""

    name: str
    step: int
    config: ConfigDict
    retrieve: Retriever


def evaluate(config: ConfigDict, verb: Retrieve, nets: Nets, frozen: Any, step: int) -> Evaluation:
    """Recall among all pictures of the split that is evaluated on, by its data set's protocol.

    Returns: metrics "recall_at_<k>" and "mean_rank", those of `scores`; on CSS also
      "ceiling_at_1", what an oracle reaches. Each host measures all.
    """
    del frozen, step
    triplets = open_split(config.data, 1)
    use = Retriever(verb, nets, config.family)
    queries = chosen(triplets.queries, config.eval.queries)
    gallery, asked = features(use, triplets, queries)
    metrics = scores(triplets, queries, gallery, asked, config.eval.ks)
    shown = queries[:: max(1, len(queries) // config.eval.pictures)][: config.eval.pictures]
    places = [queries.index(query) for query in shown]
    rows, titles = _rows(triplets, shown, gallery, asked[places])
    return Evaluation(metrics, rows, titles)


def evaluate_model(
    model: RetrievingModel,
    path: str = "",
    source: str = "",
    submission: Path | None = None,
    check: Callable[[], None] | None = None,
    **data: Any,
) -> dict[str, Any]:
    """A model measured on its own data set, or on another.

    Args:
      path, source, data: `data.path`, `data.source` and other keys of `data`; "": the model's own.
      submission: folder for CIRR's two files, where the targets are not published.
      check: called before each block of pictures; what it raises ends the work.

    Returns: {"model", "step", "data", "rules", "gallery", "queries", "scores"}.

    Raises:
      UserError: no such data.
    """
    config = model.config.copy_and_resolve_references()
    with config.unlocked():
        changes = {"path": path, "source": source, **data}
        config.data.update({key: value for key, value in changes.items() if value != ""})
    triplets = open_split(config.data, 2 if submission else 1)
    queries = list(triplets.queries)
    gallery, asked = features(model.retrieve, triplets, queries, check)
    if submission:
        submit(submission, triplets, queries, gallery, asked)
        found: dict[str, float] = {}
    else:
        found = scores(triplets, queries, gallery, asked, config.eval.ks)
    return {
        "model": model.name,
        "step": model.step,
        "data": config.data.source,
        "rules": triplets.rules,
        "gallery": len(gallery),
        "queries": len(queries),
        "scores": found,
    }


def chosen(queries: Sequence[Query], count: int) -> list[Query]:
    """So many of the queries, evenly; 0: all."""
    if not count or count >= len(queries):
        return list(queries)
    return [queries[i * len(queries) // count] for i in range(count)]


def features(
    use: Retriever,
    triplets: Triplets,
    queries: Sequence[Query],
    check: Callable[[], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(features of all pictures, of all queries), in blocks."""

    def blocks(count: int) -> list[range]:
        return [range(at, min(at + _BLOCK, count)) for at in range(0, count, _BLOCK)]

    size, fit = use.verb.size, use.verb.fit
    gallery, asked = [], []
    for block in blocks(len(triplets.captions)):
        if check is not None:
            check()
        gallery.append(use.pictures([fit(triplets.picture(i), size) for i in block]))
    for block in blocks(len(queries)):
        if check is not None:
            check()
        part = [queries[i] for i in block]
        sources = {one.source for one in part}
        seen = {i: fit(triplets.picture(i, source=True), size) for i in sources}
        asked.append(use([seen[one.source] for one in part], [one.text for one in part]))
    if not asked:
        raise UserError("there are no queries to evaluate on")
    return np.concatenate(gallery), np.concatenate(asked)


def scores(
    triplets: Triplets,
    queries: Sequence[Query],
    gallery: np.ndarray,
    asked: np.ndarray,
    ks: Sequence[int],
) -> dict[str, float]:
    """What a data set's protocol tells of features.

    Returns: "recall_at_<k>", "mean_rank"; "<kind>_at_1" of CSS's kinds and FashionIQ's categories;
      of CSS "held_out_at_1" (targets with pairs of colour and shape that were never trained on) and
      "ceiling_at_1"; of MIT-States "adjective_at_<k>" and "noun_at_<k>"; of CIRR
      "subset_at_<k>" for k of 1, 2 and 3.
    """
    if not all(query.target for query in queries):
        raise UserError("the targets of this split are not published: ask for a submission")
    before = ranks(triplets, queries, gallery, asked)
    found = {f"recall_at_{k}": value for k, value in retrieval.recall(before, ks).items()}
    found["mean_rank"] = retrieval.mean_rank(before)
    kinds = [query.kind for query in queries]
    for kind in sorted({*kinds} - {""}):
        own = before[[one == kind for one in kinds]]
        wanted = ks if isinstance(triplets, FashionIQ) else ks[:1]
        found |= {f"{kind}_at_{k}": value for k, value in retrieval.recall(own, wanted).items()}
    if isinstance(triplets, FashionIQ):
        for k in ks:  # the mean over the categories, as is customary
            own_means = [found[f"{kind}_at_{k}"] for kind in sorted({*kinds})]
            found[f"recall_at_{k}"] = float(np.mean(own_means))
    if isinstance(triplets, CSS):
        numbers = {query: number for number, query in enumerate(triplets.queries)}
        shows = triplets.held_out()[[numbers[query] for query in queries]]
        if shows.any():
            found["held_out_at_1"] = retrieval.recall(before[shows], (1,))[1]
        found["ceiling_at_1"] = triplets.ceiling((1,))[1]
    if isinstance(triplets, MITStates):
        found |= _parts(triplets, queries, gallery, asked, ks)
    if any(query.subset for query in queries):
        numbered = {caption: number for number, caption in enumerate(triplets.captions)}
        values = retrieval.subset_recall(
            asked,
            gallery,
            [query.subset for query in queries],
            [numbered[query.target] for query in queries],
            [query.source for query in queries],
            (1, 2, 3),
        )
        found |= {f"subset_at_{k}": value for k, value in values.items()}
    return found


def ranks(
    triplets: Triplets, queries: Sequence[Query], gallery: np.ndarray, asked: np.ndarray
) -> np.ndarray:
    """How many pictures stand before the first right one, of each query, int (n,).

    FashionIQ's categories are galleries of their own.
    """
    captions, targets, _ = retrieval.numbered(triplets.captions, [q.target for q in queries])
    sources = np.array([query.source for query in queries])
    left_out = None if triplets.keep_source else sources
    if not isinstance(triplets, FashionIQ):
        return retrieval.first_right(asked, gallery, captions, targets, left_out)
    before = np.zeros(len(queries), np.int64)
    galleries = np.array(triplets.galleries)
    kinds = np.array([query.kind for query in queries])
    for kind in np.unique(kinds):
        own, there = kinds == kind, galleries == kind
        before[own] = retrieval.first_right(
            asked[own], gallery[there], captions[there], targets[own]
        )
    return before


def retrieval_success(
    use: Retriever,
    drawn: Sequence[np.ndarray],
    queries: Sequence[Query],
    triplets: Triplets,
    gallery: np.ndarray,
    ks: Sequence[int],
) -> dict[int, float]:
    """RS@k of pictures that were drawn for queries (TIM-GAN): drawn as a picture, is it the target?

    Args:
      drawn: uint8 (h, w, 3), one for each query.
      gallery: features of the split's pictures, of `features`.

    Returns: {k: share of queries whose drawn picture has the target among the k nearest}.
    """
    asked = use.pictures(drawn)
    return retrieval.recall(ranks(triplets, queries, gallery, asked), ks)


def _parts(
    triplets: MITStates,
    queries: Sequence[Query],
    gallery: np.ndarray,
    asked: np.ndarray,
    ks: Sequence[int],
) -> dict[str, float]:
    """Recall of the adjective alone and of the noun alone."""
    found: dict[str, float] = {}
    sources = np.array([query.source for query in queries])
    for place, name in enumerate(("adjective", "noun")):
        captions, targets, _ = retrieval.numbered(
            [caption.split()[place] for caption in triplets.captions],
            [query.target.split()[place] for query in queries],
        )
        before = retrieval.first_right(asked, gallery, captions, targets, sources)
        found |= {f"{name}_at_{k}": v for k, v in retrieval.recall(before, ks).items()}
    return found


def submit(
    folder: Path,
    triplets: Triplets,
    queries: Sequence[Query],
    gallery: np.ndarray,
    asked: np.ndarray,
) -> dict[str, Path]:
    """Writes CIRR's files for its server: {"recall": path, "recall_subset": path}.

    Raises:
      UserError: queries without a subset or a name, or the folder can't be written.
    """
    if not all(query.subset and query.name for query in queries):
        raise UserError("a submission is of CIRR: give it as the data")
    sources = np.array([query.source for query in queries])
    lists: Mapping[str, Sequence[Sequence[int]]] = {
        "recall": retrieval.nearest(asked, gallery, SUBMITTED["recall"], sources).tolist(),
        "recall_subset": retrieval.subset_ranking(
            asked, gallery, [query.subset for query in queries], sources.tolist()
        ),
    }
    return {
        metric: write_submission(folder, metric, {
            query.name: [triplets.names[i] for i in found[: SUBMITTED[metric]]]
            for query, found in zip(queries, ranked, strict=True)
        })
        for metric, ranked in lists.items()
    }  # fmt: skip


def write_submission(folder: Path, metric: str, names: Mapping[str, Sequence[str]]) -> Path:
    """One of CIRR's submission files, whole or not at all; keys are sorted as texts.

    Raises:
      UserError: it can't be written.
    """
    held = {"version": "rc2", "metric": metric, **names}
    path = folder / f"{metric}_submission.json"
    with replacing(path) as part:
        folder.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(held, sort_keys=True))
    return path


def _rows(
    triplets: Triplets, queries: Sequence[Query], gallery: np.ndarray, asked: np.ndarray
) -> tuple[list[list[tuple[str, np.ndarray]]], list[str]]:
    """The source, and what was found: right ones are marked."""
    sources = None if triplets.keep_source else np.array([query.source for query in queries])
    found = retrieval.nearest(asked, gallery, _SHOWN, sources)
    rows = []
    for query, own in zip(queries, found, strict=True):
        row = [("asked with", enlarge(triplets.picture(query.source, source=True)))]
        for place, number in enumerate(own.tolist(), start=1):
            mark = " right" if triplets.captions[number] == query.target else ""
            row.append((f"{place}{mark}", enlarge(triplets.picture(number))))
        rows.append(row)
    return rows, [query.text for query in queries]
