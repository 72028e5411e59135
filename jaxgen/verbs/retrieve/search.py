"""Searching an index: the nearest pictures, exactly, with equal ones folded."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data.picture_files import read_image
from jaxgen.errors import UserError
from jaxgen.grid import captioned_grid, enlarge
from jaxgen.verbs.retrieve.engines import Engine, Exact
from jaxgen.verbs.retrieve.index import Index

_COLUMNS = 5  # of the sheet


class Found(NamedTuple):
    """A result.

    path: below the index's folder. score: the cosine. twins: paths of files of the same content.
    """

    path: str
    score: float
    twins: tuple[str, ...] = ()


def search(
    index: Index,
    query: np.ndarray,
    k: int = 20,
    *,
    left_out: Sequence[str] = (),
    where: str = "",
    least: float = -1.0,
    engine: Engine | None = None,
) -> list[Found]:
    """The nearest pictures, the most alike first, of equal ones the one that was indexed first.

    Args:
      query: (width,), of length 1.
      k: at most so many; fewer where the index has no more.
      left_out: contents (SHA-256 in hex) that are no results, such as the source's.
      where: a pattern that the path must match, such as "2024/*"; "": any.
      least: results below this score are none.
      engine: None: exact.

    Raises:
      UserError: nothing matches `where`, k below 1, or a least score that is no number.
    """
    if k < 1:
        raise UserError(f"-k must be 1 or more, not {k}")
    if math.isnan(least):
        raise UserError("the least score must be a number: cosines are from -1 to 1")
    k = min(k, len(index.vectors) or 1)
    paths, rows = index.contents.paths, index.contents.rows
    if where:
        fit = set(fnmatch.filter(index.entries, where))
        kept = ((row, [path for path in paths[row] if path in fit]) for row in paths)
        paths = {row: some for row, some in kept if some}
        rows = np.fromiter(paths, np.int64, len(paths))
        if not paths:
            raise UserError(f"no picture of the index matches --where {where}")
    allowed = np.zeros(len(index.vectors), bool)
    allowed[rows] = True
    row_of = index.contents.row_of
    allowed[[row_of[content] for content in left_out if content in row_of]] = False
    rows, scores = (engine or Exact(index.vectors)).search(query, k, allowed)
    return [
        Found(paths[row][0], score, tuple(paths[row][1:]))
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
        if score >= least
    ]


def sheet(folder: Path, results: Sequence[Found], asked: Sequence[tuple[str, Any]] = ()) -> Any:
    """A PIL picture of what was asked with and what was found; lost files are passed over."""
    cells = [(text, enlarge(image)) for text, image in asked]
    for number, found in enumerate(results, start=1):
        try:
            image = read_image(folder / found.path)
        except UserError:
            continue
        cells.append((f"{number}: {found.score:.3f}", enlarge(image)))
    if not cells:
        raise UserError("there is nothing to show: no results")
    return captioned_grid(list(_rows(cells)), max_side=256)


def _rows(cells: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(cells), _COLUMNS):
        yield cells[start : start + _COLUMNS]
