"""Numbers of retrieval, from features: where the first right answer stands.

Features are compared by their direction alone. Of equal likeness the lower number comes first, so
that every number is a function of the features. A source that is left out is ranked last, as
google/tirg has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

_LAST = np.float32(-1e11)
_ROWS = 256  # queries that are compared at once


def unit(x: np.ndarray) -> np.ndarray:
    """Rows (n, e) float32 at length 1; a row of zeros stays so."""
    x = np.asarray(x, np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def first_right(
    queries: np.ndarray,
    gallery: np.ndarray,
    captions: np.ndarray,
    targets: np.ndarray,
    sources: np.ndarray | None = None,
) -> np.ndarray:
    """How many pictures stand before the first right one.

    Args:
      queries: (n, e). gallery: (m, e).
      captions: (m,) numbers of the pictures' captions. targets: (n,) that of each query: any
        picture with it is right.
      sources: (n,) each query's own picture, which is left out; None: it stays.

    Returns: int (n,), from 0 to m - 1; m where no picture is right.
    """
    found = np.full(len(queries), len(gallery))
    for rows, likeness in _blocks(queries, gallery, sources):
        right = captions[None, :] == targets[rows, None]
        some = right.any(axis=1)
        masked = np.where(right, likeness, -np.inf)
        best = masked.argmax(axis=1)  # the lowest number of the most alike
        value = np.take_along_axis(likeness, best[:, None], axis=1)
        before = (likeness > value).sum(axis=1)
        level = (likeness == value) & (np.arange(len(gallery)) < best[:, None])
        found[rows] = np.where(some, before + level.sum(axis=1), len(gallery))
    return found


def nearest(
    queries: np.ndarray, gallery: np.ndarray, k: int, sources: np.ndarray | None = None
) -> np.ndarray:
    """The k nearest pictures of each query, int (n, min(k, m)); see `first_right`."""
    k = min(k, len(gallery))
    blocks = (
        np.argsort(-likeness, axis=1, kind="stable")[:, :k]
        for _, likeness in _blocks(queries, gallery, sources)
    )
    return np.concatenate([np.zeros((0, k), np.int64), *blocks])


def _blocks(
    queries: np.ndarray, gallery: np.ndarray, sources: np.ndarray | None
) -> Iterator[tuple[slice, np.ndarray]]:
    queries, gallery = unit(queries), unit(gallery)
    for start in range(0, len(queries), _ROWS):
        rows = slice(start, min(start + _ROWS, len(queries)))
        likeness = queries[rows] @ gallery.T
        if sources is not None:
            own = sources[rows]
            there = own >= 0
            likeness[np.flatnonzero(there), own[there]] = _LAST
        yield rows, likeness


def recall(before: np.ndarray, ks: Sequence[int]) -> dict[int, float]:
    """Recall at each k, shares in [0, 1], from `first_right`."""
    return {k: float((before < k).mean()) if len(before) else 0.0 for k in ks}


def mean_rank(before: np.ndarray) -> float:
    """The mean place of the first right picture, from 1."""
    return float(before.mean()) + 1.0 if len(before) else 0.0


def subset_recall(
    queries: np.ndarray,
    gallery: np.ndarray,
    subsets: Sequence[Sequence[int]],
    targets: Sequence[int],
    sources: Sequence[int],
    ks: Sequence[int],
) -> dict[int, float]:
    """CIRR's: recall of the target among a few pictures alike, the source left out of them.

    Args: subsets: of each query, numbers of pictures. targets: the one that is right.
    """
    lists = subset_ranking(queries, gallery, subsets, sources)
    hits = dict.fromkeys(ks, 0)
    for found, target in zip(lists, targets, strict=True):
        for k in ks:
            hits[k] += target in found[:k]
    return {k: hits[k] / max(len(lists), 1) for k in ks}


def subset_ranking(
    queries: np.ndarray,
    gallery: np.ndarray,
    subsets: Sequence[Sequence[int]],
    sources: Sequence[int],
) -> list[list[int]]:
    """Of each query the pictures of its subset, the nearest first, without its source."""
    queries, gallery = unit(queries), unit(gallery)
    lists = []
    for query, subset, source in zip(queries, subsets, sources, strict=True):
        others = np.array(sorted({*subset} - {source}), np.int64)
        order = np.argsort(-(gallery[others] @ query), kind="stable")
        lists.append(others[order].tolist())
    return lists


def mean_average_precision(
    lists: Sequence[Sequence[str]], truths: Sequence[Sequence[str]], k: int
) -> float:
    """CIRCO's mAP at k: several right answers, the mean over min(k, how many there are)."""
    values = []
    for found, right in zip(lists, truths, strict=True):
        hits = np.isin(np.array(found[:k]), np.array(right))
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        values.append(float((precision * hits).sum()) / min(len(right), k))
    return float(np.mean(values)) if values else 0.0


def numbered(
    captions: Sequence[str], targets: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, Mapping[str, int]]:
    """(numbers of the captions, of the targets (-1 where no picture has it), the numbering)."""
    known: dict[str, int] = {}
    own = np.array([known.setdefault(caption, len(known)) for caption in captions])
    return own, np.array([known.get(target, -1) for target in targets]), known
