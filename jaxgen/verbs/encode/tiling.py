"""Encoding and decoding pictures of any size: whole where the network asks for it, else by windows.

As in `jaxgen.verbs.upscale.tiling`: windows lie inside the picture, and of each result only the
part is kept that no cut can have changed, so that tiled equals whole. Networks with attention or
normalisation over the picture can't be tiled; then it must fit in memory at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxgen import devices
from jaxgen.errors import UserError
from jaxgen.task import Nets
from jaxgen.verbs.encode.contract import Encode
from jaxgen.verbs.memory import LIVE
from jaxgen.verbs.upscale.windows import fitting_window, round_up, spans


def padded(verb: Encode, x: np.ndarray) -> np.ndarray:
    """A picture (h, w, c) mirrored below and on the right to multiples of the factor."""
    rows, columns = (round_up(n, verb.factor) - n for n in x.shape[:2])
    if not rows and not columns:
        return x
    return np.pad(x, ((0, rows), (0, columns), (0, 0)), mode="reflect")


def encode(verb: Encode, nets: Nets, x: np.ndarray, tile: int | None = None) -> np.ndarray:
    """A picture (h, w, channels) float32, multiples of the factor -> its latents.

    Args: tile: side in pixels of what one window contributes; None: as large as memory allows.

    Raises:
      UserError: it needs more memory than there is, or can't be tiled.
    """
    reach = None if verb.radius is None else verb.radius[0]
    return _run(verb, nets, verb.encode, verb.encode_program, reach, x, (verb.factor, 1), tile)


def decode(verb: Encode, nets: Nets, latents: np.ndarray, tile: int | None = None) -> np.ndarray:
    """Latents (h, w) or (h, w, d) -> the picture, float32 (h * factor, w * factor, channels).

    Args, Raises: as `encode`.
    """
    reach = None if verb.radius is None else verb.radius[1]
    return _run(
        verb, nets, verb.decode, verb.decode_program, reach, latents, (1, verb.factor), tile
    )


def _run(
    verb: Encode,
    nets: Nets,
    function: Callable[..., Any],
    program: Callable[..., Any],
    reach: int | None,
    source: np.ndarray,
    sides: tuple[int, int],
    tile: int | None,
) -> np.ndarray:
    """`program` of `source`, window by window.

    Args: sides: of a cell in the source and in the result.
    """
    nets = {net: nets[net] for net in verb.nets}
    into, out_of = sides
    cells = source.shape[0] // into, source.shape[1] // into
    pad = 0 if reach is None else math.ceil(reach / verb.factor)
    window = _window(verb, nets, function, source, into, reach, pad, tile)
    result: np.ndarray | None = None
    for row in spans(cells[0], window[0], pad):
        for column in spans(cells[1], window[1], pad):
            part = source[
                row.start * into : (row.start + window[0]) * into,
                column.start * into : (column.start + window[1]) * into,
            ]
            made = np.asarray(program(nets, part[None]))[0]
            if result is None:
                shape = (cells[0] * out_of, cells[1] * out_of, *made.shape[2:])
                result = np.empty(shape, made.dtype)
            result[
                row.low * out_of : row.high * out_of, column.low * out_of : column.high * out_of
            ] = made[
                (row.low - row.start) * out_of : (row.high - row.start) * out_of,
                (column.low - column.start) * out_of : (column.high - column.start) * out_of,
            ]
    assert result is not None  # a picture has a cell
    return result


def _window(verb, nets, function, source, into, reach, pad, tile) -> tuple[int, int]:
    """(height, width) of the windows, in cells."""
    cells = source.shape[0] // into, source.shape[1] // into
    if tile is not None:
        side = math.ceil(tile / verb.factor)
        if reach is None and side < max(cells):
            raise UserError(
                "this model looks at the whole picture at once (attention or normalisation over "
                "it), so that no tiling is exact: leave the tile out"
            )
        return min(side + 2 * pad, cells[0]), min(side + 2 * pad, cells[1])
    if reach is None:
        needed = LIVE * _largest(function, nets, source.shape, source.dtype)
        height, width = (n * verb.factor for n in cells)
        devices.check_room(
            needed,
            f"this model takes pictures whole, and one of {width}x{height} pixels needs",
            "take a smaller picture",
        )
        return cells
    side = 8
    shape = (side * into, side * into, *source.shape[2:])
    each = LIVE * _largest(function, nets, shape, source.dtype) / side**2
    return fitting_window(cells, int(devices.memory() / each), pad)


def _largest(function: Callable[..., Any], nets: Any, shape: tuple[int, ...], dtype: Any) -> int:
    abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(np.shape(a), a.dtype), nets)
    return devices.largest_activation(function, abstract, jax.ShapeDtypeStruct((1, *shape), dtype))
