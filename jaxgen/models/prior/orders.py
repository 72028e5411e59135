"""In which order the cells of a grid come in the sequence (taming-transformers' permuters)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from jaxgen.errors import UserError

Grid = tuple[int, int]


def order(name: str, grid: Grid) -> np.ndarray:
    """int32 (cells,): at each place of the sequence, the cell's number row by row.

    Raises:
      UserError: a grid that the order does not know.
    """
    found = ORDERS[name](grid)
    assert sorted(found) == list(range(grid[0] * grid[1])), (name, grid)
    return np.asarray(found, np.int32)


def _rows(grid: Grid) -> np.ndarray:
    return np.arange(grid[0] * grid[1])


def _square(grid: Grid, name: str) -> int:
    size = grid[0]
    if grid[0] != grid[1] or size & (size - 1):
        raise UserError(f"model.order={name} needs a square grid of 2, 4, 8, ... cells, not {grid}")
    return size


def _subsample(grid: Grid) -> np.ndarray:
    """The top left cell of all quarters first, then their others, coarse to fine."""
    size = _square(grid, "subsample")
    cells = _rows(grid).reshape(1, *grid)
    while size > 1:
        size //= 2
        halves = cells.reshape(len(cells), size, 2, size, 2).transpose(0, 2, 4, 1, 3)
        cells = halves.reshape(4 * len(cells), size, size)
    return cells.ravel()


def _zcurve(grid: Grid) -> np.ndarray:
    """Along Morton's curve: the bits of row and column interleaved."""
    i, j = np.divmod(_rows(grid), grid[1])
    code = np.zeros_like(i)
    for bit in range(16):
        code |= ((j >> bit & 1) << 2 * bit) | ((i >> bit & 1) << (2 * bit + 1))
    return np.argsort(code, kind="stable")


def _spiral_out(grid: Grid) -> np.ndarray:
    """From the middle outwards: up, right, down, left, each pair of ways one cell longer."""
    size = _square(grid, "spiral")
    i, j = size // 2, size // 2 - 1
    found, length = [i * size + j], 0
    # The last way ends one cell short, where the square is full.
    ways = [(-1, 0), (0, 1), (1, 0), (0, -1)]
    for turn in range(2 * size - 1):
        length += turn % 2 == 0
        di, dj = ways[turn % 4]
        for _ in range(length):
            i, j = i + di, j + dj
            if len(found) < size * size:
                found.append(i * size + j)
    return np.array(found)


def _random(grid: Grid) -> np.ndarray:
    return np.random.RandomState(1).permutation(grid[0] * grid[1])


def _alternate(grid: Grid) -> np.ndarray:
    """Row by row, every second one from the right."""
    cells = _rows(grid).reshape(grid)
    cells[1::2] = cells[1::2, ::-1].copy()
    return cells.ravel()


ORDERS: Mapping[str, Callable[[Grid], np.ndarray]] = {
    "rows": _rows,
    "subsample": _subsample,
    "zcurve": _zcurve,
    "spiral_out": _spiral_out,
    "spiral_in": lambda grid: _spiral_out(grid)[::-1],
    "random": _random,
    "alternate": _alternate,
}
