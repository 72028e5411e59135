"""TIFF: reading those whose numbers Pillow does not read right (floats, 10, 12 and 32 bits a
channel), and writing."""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Callable, Iterable
from typing import IO, Any

import numpy as np
from PIL import Image

from jaxgen.data.picture_about import NOTHING, About
from jaxgen.data.picture_open import Source, check_pixels, name_of
from jaxgen.data.picture_values import (
    Origin,
    Values,
    deep_values,
    quantised,
    to_unit,
    values,
)
from jaxgen.errors import UserError

_TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False), 7: (1, True),
          8: (1, False)}  # fmt: skip
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_BIG = 4_000_000_000  # bytes from which a file needs offsets of 64 bits
_TEXT_TAGS = (270, 271, 272, 306, 315, 33432)


def pixels(image: Image.Image, source: Source, made: Origin, frame: int = 0) -> Values:
    """(rgb (h, w, 3), alpha (h, w) or None, was gray) of a loaded, upright picture, uint16 where it
    has more than 8 bits and they can be had, else uint8. Of one that Pillow misreads: `read_tiff`.

    Args: source: the file, of which some kinds are read again. frame: which of its pictures.

    Raises:
      UserError: a kind that is not read here.
    """
    found = deep_values(image, source, made, frame)
    if found is None and made.format == "TIFF" and made.bits > 8:
        with contextlib.suppress(UserError):  # then the high bytes remain
            return read_tiff(source, frame)
    return found or values(image, name_of(source))


def read_tiff(source: Source, page: int = 0, dtype: Any = np.uint16) -> Values:
    """One page as (rgb (h, w, 3), alpha (h, w) or None, was gray), uint8 or uint16.

    Raises:
      UserError: a kind that is not read here; the message says which.
    """
    import tifffile

    name = name_of(source)
    try:
        with tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            return _values(file.pages[page], name, dtype)
    except UserError:
        raise
    except Exception as error:  # tifffile raises what its codecs raise
        raise UserError(f"{name}: this kind of TIFF is not supported ({error})") from None


def _values(page: Any, name: str, dtype: Any) -> Values:
    photometric, extra = int(page.photometric), len(page.extrasamples)
    check_pixels(int(page.imagelength) * int(page.imagewidth), name)
    bits = page.bitspersample
    form = getattr(page.photometric, "name", page.photometric)
    kind = f"{bits} bits of {page.samplesperpixel} channels, {form}"
    if photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB) or page.imagedepth > 1:
        raise UserError(
            f"{name}: a TIFF of {kind} is not supported; convert it to 16-bit RGB or gray"
        )
    if bits in (8, 16, 32, 64):
        x = page.asarray()
        if page.samplesperpixel == 1:
            x = x.reshape(*x.shape[:2], 1)
        elif page.planarconfig == 2:
            x = np.moveaxis(x, 0, -1)
        unit = to_unit(x)
    else:
        unit = _unpacked(page, name, kind) / (2.0**bits - 1.0)
    turns, mirrored = _TURNS.get(int(page.tags.valueof(274, 1)), (0, False))
    if turns or mirrored:
        unit = np.rot90(unit, turns)
        unit = unit[:, ::-1] if mirrored else unit
    colors = unit.shape[2] - extra
    color, alpha = unit[..., :colors], None
    if extra and int(page.extrasamples[0]) in (1, 2):
        alpha = unit[..., colors]
        if int(page.extrasamples[0]) == 1:  # premultiplied
            color = color / np.where(alpha > 0, alpha, 1.0)[..., None]
        alpha = None if np.all(alpha == 1.0) else quantised(alpha, dtype)
    if colors not in (1, 3):
        raise UserError(f"{name}: a TIFF of {kind} is not supported; convert it to RGB or gray")
    if photometric == _WHITE_IS_ZERO:
        color = 1.0 - color
    rgb = quantised(np.repeat(color, 3, axis=2) if colors == 1 else color, dtype)
    return np.ascontiguousarray(rgb), alpha, colors == 1


def _unpacked(page: Any, name: str, kind: str) -> np.ndarray:
    """Numbers of a width between those of types, high bits first, rows from whole bytes on."""
    height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel
    inflates: dict[int, Callable[[bytes], bytes]] = {
        1: bytes, 8: zlib.decompress, 32946: zlib.decompress,
    }  # fmt: skip
    inflate = inflates.get(int(page.compression))
    if inflate is None or page.planarconfig != 1 or page.is_tiled or page.predictor != 1:
        raise UserError(
            f"{name}: a TIFF of {kind}, packed so, is not supported; save it as 16 bits"
        )
    parts = []
    file = page.parent.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        file.seek(offset)
        parts.append(inflate(file.read(count)))
    stride = -(-width * samples * page.bitspersample // 8)
    rows = np.frombuffer(b"".join(parts), np.uint8)[: height * stride].reshape(height, stride)
    bits = np.unpackbits(rows, axis=1)[:, : width * samples * page.bitspersample]
    powers = 1 << np.arange(page.bitspersample)[::-1]
    return (bits.reshape(height, width, samples, -1) @ powers).astype(np.float64)


def tiff_size(path: Any, page: int = 0) -> tuple[int, int]:
    """(height, width) of a page, upright. Raises UserError."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            found: Any = file.pages[page]
            turned = found.tags.valueof(274, 1) in (5, 6, 7, 8)
            size = int(found.imagelength), int(found.imagewidth)
    except Exception as error:  # see above
        raise UserError(f"{path}: damaged, or no TIFF that can be read ({error})") from None
    return size[::-1] if turned else size


def tiff_about(source: Source, page: int = 0) -> About:
    """Profile and resolution; NOTHING where they can't be read."""
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            first: Any = file.pages[page]
            tags = first.tags
            icc, per = tags.valueof(34675), {2: 1.0, 3: 2.54}.get(int(tags.valueof(296, 1)))
            across, down = (tags.valueof(tag, (0, 1)) for tag in (282, 283))
            dpi = (per * across[0] / across[1], per * down[0] / down[1]) if per else None
            return About(icc=icc, dpi=dpi if dpi and min(dpi) > 1 else None)
    except Exception:  # see above; the pixels are what counts
        return NOTHING


def tiff_pages(source: Source) -> tuple[int, ...]:
    """The pages that are pictures: no reduced copies, no masks. Raises UserError."""
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            pages: Any = file.pages
            kinds = [int(page.tags.valueof(254, 0)) for page in pages]
    except Exception as error:  # see above
        raise UserError(
            f"{name_of(source)}: damaged, or no TIFF that can be read ({error})"
        ) from None
    return tuple(index for index, kind in enumerate(kinds) if not kind & 0b101)


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
