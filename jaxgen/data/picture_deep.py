"""Writing what Pillow does not: PNG of 16 bits a channel, TIFF of 8 or 16 with all it can say."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any

import numpy as np
from PIL import Image

from jaxgen.data.picture_about import About, options

_BAND = 64  # rows that are filtered together
_BIG = 4_000_000_000  # bytes from which a TIFF needs offsets of 64 bits
_TEXT_TAGS = (270, 271, 272, 306, 315, 33432)


def write_png16(file: IO[bytes], pixels: np.ndarray, said: About) -> None:
    """Writes uint16 (h, w, c): c 1 gray, 2 with alpha, 3 colour, 4 with alpha."""
    height, width, channels = pixels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    # Pillow orders what stands before the pixels: taken from a PNG of one pixel.
    small = io.BytesIO()
    form = Image.new("RGB" if channels > 2 else "L", (1, 1))
    form.save(small, format="PNG", **options("PNG", said))
    file.write(b"\x89PNG\r\n\x1a\n")
    for name, body in _chunks(small.getvalue()):
        if name == b"IHDR":
            _write_chunk(file, name, header)
        elif name == b"IDAT":
            for part in _deflated(pixels):
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
    check = zlib.crc32(name + body)
    file.write(struct.pack(">I", len(body)) + name + body + struct.pack(">I", check))


def _deflated(pixels: np.ndarray) -> Iterator[bytes]:
    """The rows, each less its left neighbour ("Sub"), deflated."""
    press = zlib.compressobj(6)
    step = 2 * pixels.shape[2]  # bytes of a pixel
    for top in range(0, len(pixels), _BAND):
        band = pixels[top : top + _BAND].astype(">u2")
        rows = np.frombuffer(band.tobytes(), np.uint8).reshape(len(band), -1)
        filtered = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
        filtered[:, 0] = 1
        filtered[:, 1 : step + 1] = rows[:, :step]
        filtered[:, step + 1 :] = rows[:, step:] - rows[:, :-step]
        if part := press.compress(filtered.tobytes()):
            yield part
    yield press.flush()


def write_tiff(file: IO[bytes], pages: Iterable[np.ndarray], said: About, size: int) -> None:
    """Writes (h, w, c) pages of 8 or 16 bits, deflated.

    Profile, resolution and the texts of EXIF's first part are kept.

    Args: size: bytes of all pages.
    """
    import tifffile

    tags = Image.Exif()
    if said.exif:
        tags.load(said.exif)
    texts = [(tag, 2, 0, str(tags[tag]), True) for tag in _TEXT_TAGS if tag in tags]
    resolution: dict[str, Any] = {}
    if said.dpi:
        resolution = {"resolution": said.dpi, "resolutionunit": 2}
    with tifffile.TiffWriter(file, bigtiff=size >= _BIG) as writer:
        for pixels in pages:
            channels = pixels.shape[2]
            writer.write(
                pixels[..., 0] if channels == 1 else pixels,
                photometric="rgb" if channels > 2 else "minisblack",
                planarconfig=None if channels == 1 else "contig",
                extrasamples=["unassalpha"] if channels in (2, 4) else None,
                compression="zlib",
                metadata=None,
                software=False,
                iccprofile=said.icc,
                extratags=texts,
                **resolution,
            )
