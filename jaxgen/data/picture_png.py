"""Writing PNG where Pillow can't or is slow: 16 bits a channel, and large ones by several threads.

A PNG's pixels are one zlib stream of rows, each less what its neighbours let expect. Bands of rows
are deflated apart, as pigz does it: each ends at a whole byte and refers to nothing before it, so
they follow each other in the stream.
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

import numpy as np
from PIL import Image

_THREADS = 4  # numpy and zlib let others run
_BAND = 1 << 20  # bytes that are filtered and deflated at once, about
_LEFT, _AVERAGE = 1, 3  # filters: less the left neighbour, less the mean of it and the upper one


def write_png(file: IO[bytes], pixels: np.ndarray, said: dict[str, Any], quick: bool) -> None:
    """Writes uint8 or uint16 (h, w, c): c 1 gray, 2 with alpha, 3 colour, 4 with alpha.

    Args:
      said: Pillow's options to save a PNG, of what is to stand beside the pixels.
      quick: run lengths alone are looked for, not repetitions: for photos of 8 bits about as small,
        and five times quicker.
    """
    height, width, channels = pixels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, kind, 0, 0, 0)
    # Pillow orders what stands before the pixels: taken from a PNG of one pixel.
    small = io.BytesIO()
    form = Image.new("RGB" if channels > 2 else "L", (1, 1))
    form.save(small, format="PNG", **said)
    file.write(b"\x89PNG\r\n\x1a\n")
    for name, body in _chunks(small.getvalue()):
        if name == b"IHDR":
            _write_chunk(file, name, header)
        elif name == b"IDAT":
            for part in _stream(pixels, quick):
                _write_chunk(file, name, part)
        else:
            _write_chunk(file, name, body)


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length


def _write_chunk(file: IO[bytes], name: bytes, body: bytes) -> None:
    check = zlib.crc32(body, zlib.crc32(name))
    file.write(struct.pack(">I", len(body)) + name)
    file.write(body)
    file.write(struct.pack(">I", check))


def _stream(pixels: np.ndarray, quick: bool) -> Iterator[bytes]:
    """The parts of the zlib stream (RFC 1950) of all rows."""
    rows = max(1, _BAND // pixels[0].nbytes)
    tops = iter(range(0, len(pixels), rows))
    check = zlib.adler32(b"")
    yield b"\x78\x01"  # deflate, window of 32 KiB
    with ThreadPoolExecutor(_THREADS, "jaxgen-png") as pool:

        def begin(top: int) -> Any:
            return pool.submit(_deflated, pixels, top, min(top + rows, len(pixels)), quick)

        # So many bands wait at most, whatever the picture's size.
        waiting = deque(begin(top) for top in itertools.islice(tops, 2 * _THREADS))
        while waiting:
            filtered, part = waiting.popleft().result()
            if (top := next(tops, None)) is not None:
                waiting.append(begin(top))
            check = zlib.adler32(filtered.data, check)
            yield part
    yield struct.pack(">I", check)


def _deflated(pixels: np.ndarray, top: int, bottom: int, quick: bool) -> tuple[np.ndarray, bytes]:
    """Filtered rows (h, 1 + bytes of a row), and what they are in the stream."""
    filtered = _filtered(pixels, top, bottom, _AVERAGE if quick else _LEFT)
    level, strategy = (1, zlib.Z_RLE) if quick else (6, zlib.Z_DEFAULT_STRATEGY)
    press = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, strategy=strategy)
    last = bottom == len(pixels)
    part = press.compress(filtered.data)
    return filtered, part + press.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)


def _filtered(pixels: np.ndarray, top: int, bottom: int, kind: int) -> np.ndarray:
    """Rows of bytes, the first of each the filter's kind, the others less what it expects."""
    above = max(top - 1, 0)
    band = np.ascontiguousarray(pixels[above:bottom])
    rows = band.astype(band.dtype.newbyteorder(">"), copy=False).view(np.uint8)
    rows = rows.reshape(len(band), -1)
    step = pixels.itemsize * pixels.shape[2]  # bytes of a pixel
    expected = np.zeros((bottom - top, rows.shape[1]), np.uint16)
    expected[:, step:] = rows[top - above :, :-step]
    if kind == _AVERAGE:
        expected[above + 1 - top :] += rows[: bottom - above - 1]
        expected >>= 1
    found = np.empty((bottom - top, rows.shape[1] + 1), np.uint8)
    found[:, 0] = kind
    np.subtract(rows[top - above :], expected, out=found[:, 1:], casting="unsafe")
    return found
