"""Reading and writing picture files: any size and mode in, RGB out.

Phone photos are rotated as their EXIF tag says, pictures of more than 8 bits are scaled to 8 (or to
16, where that is wanted), gray, palette and CMYK become RGB. A file that cannot be read is a
`UserError` that names it.
"""

from __future__ import annotations

import contextlib
import io
import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from absl import logging
from PIL import Image, ImageCms

from jaxgen.data import picture_values
from jaxgen.data.picture_about import NOTHING, About, about, is_marked, options, space
from jaxgen.data.picture_open import (
    DAMAGED,
    Source,
    extensions,
    head,
    is_tiff,
    name_of,
    open_picture,
    unsupported,
)
from jaxgen.data.picture_png import write_png
from jaxgen.data.picture_tiff import (
    pixels,
    read_tiff,
    tiff_about,
    tiff_pages,
    tiff_size,
    write_tiff,
)
from jaxgen.errors import UserError
from jaxgen.whole import replacing

# Bytes from which a PNG is deflated in the quickest way.
LARGE = 32 << 20
FORMATS = {
    ".png": "PNG", ".apng": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".jfif": "JPEG",
    ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF", ".gif": "GIF",
}  # fmt: skip
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF", "FLI")
_warned: set[str] = set()  # once for each file, however often it is read
# Files of a folder whose first bytes are looked at in threads.
_MANY = 64
_NAMED = 5  # at most so many files that are left out are listed one by one


class Picture(NamedTuple):
    """A decoded picture, upright.

    rgb: uint8 or uint16 (h, w, 3); under transparent pixels the file's own colours. alpha: (h, w)
    of the same type, or None if the picture is opaque throughout. gray: the file is gray; rgb has
    three equal channels. about: what else the file says.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None
    gray: bool
    about: About = NOTHING


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """(height, width) of a picture as it will be read, from its header only. Raises UserError."""
    try:
        image = open_picture(path)
    except UserError:
        if not is_tiff(head(path)):
            raise
        return tiff_size(path)
    with image:
        width, height = image.size
        if image.format == "TIFF":  # of which Pillow has turned the size already
            return height, width
        try:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # EXIF: turned by 90 degrees
        except DAMAGED:
            turned = False
    return (width, height) if turned else (height, width)


def read_picture(source: Source, deep: bool = False) -> Picture:
    """Reads a picture and keeps what RGB alone would lose.

    Args:
      deep: give uint16 where the file holds more than 8 bits: gray, and colour of PNG and TIFF.

    Raises:
      UserError: missing, empty, damaged, cut short or unsupported; the message names the file.
    """
    return _read(source, deep)[0]


def _read(source: Source, deep: bool) -> tuple[Picture, str]:
    """`read_picture`, and what else the file holds: "an animation", "of several pages" or ""."""
    dtype = np.uint16 if deep else np.uint8
    try:
        opened = open_picture(source)
    except UserError:
        if not is_tiff(head(source)):
            raise
        return Picture(*read_tiff(source, dtype=dtype), tiff_about(source)), _pages(source)
    with opened:
        made = picture_values.origin(opened)
        several = _pages(source) if made.format == "TIFF" else ""
        if made.format in ANIMATED and getattr(opened, "is_animated", False):
            several = "an animation"
        if made.misread:
            return Picture(*read_tiff(source, dtype=dtype), about(opened, opened)), several
        image = _loaded(opened, source)
        picture = Picture(*pixels(image, source, made), about(opened, image))
    return (picture if deep else shallow(picture)), several


def _pages(source: Source) -> str:
    try:
        return "of several pages" if len(tiff_pages(source)) > 1 else ""
    except UserError:  # the first can be read, which is what counts
        return ""


def _loaded(opened: Image.Image, source: Source) -> Image.Image:
    """Fully decoded and upright. Raises UserError."""
    try:
        opened.load()
        return picture_values.upright(opened)
    except DAMAGED as error:
        raise UserError(
            f"{name_of(source)}: damaged or cut short ({error}); remove or replace it"
        ) from None
    except MemoryError:
        raise UserError(f"{name_of(source)}: too large for this machine's memory") from None


def read_image_with_alpha(path: Source) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """(rgb, alpha, gray) of `read_picture`, in 8 bits; of an animation the first frame, of several
    pages the first, and a warning. Raises UserError.
    """
    (rgb, alpha, gray, _), several = _read(path, deep=False)
    if several and (name := name_of(path)) not in _warned:
        _warned.add(name)
        what = "frame" if several == "an animation" else "page"
        logging.warning("%s is %s: its first %s is taken", name, several, what)
    return rgb, alpha, gray


def read_image(path_or_bytes: Source) -> np.ndarray:
    """Reads a picture as uint8 (h, w, 3), transparency laid over white. Raises UserError."""
    rgb, alpha, _ = read_image_with_alpha(path_or_bytes)
    return rgb if alpha is None else over_white(rgb, alpha)


def over_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Composites uint8 (h, w, 3) with uint8 alpha (h, w) over white."""
    weight = alpha[..., None].astype(np.float64) / 255.0
    return np.floor(rgb * weight + 255.0 * (1.0 - weight) + 0.5).astype(np.uint8)


def eight_bits(x: np.ndarray) -> np.ndarray:
    """uint16 to uint8, rounded; uint8 as it is."""
    return x if x.dtype == np.uint8 else ((x.astype(np.uint32) + 128) // 257).astype(np.uint8)


def shallow(picture: Picture) -> Picture:
    """In 8 bits."""
    alpha = None if picture.alpha is None else eight_bits(picture.alpha)
    return picture._replace(rgb=eight_bits(picture.rgb), alpha=alpha)


def to_pillow(picture: Picture, kind: str) -> tuple[Image.Image, About, bool]:
    """A uint8 picture in the mode that a format holds.

    Returns: the image; what is to be said beside it, without a profile that no longer holds; and
      whether transparency had to be given up.
    """
    rgb, alpha, gray, said = picture
    flatten = alpha is not None and kind == "JPEG"
    if flatten and alpha is not None:
        rgb, alpha = over_white(rgb, alpha), None
    image = Image.fromarray(np.ascontiguousarray(rgb))
    gray = gray and kind not in ("WEBP", "GIF")  # which have no gray form
    if gray:
        image = image.convert("L")
    if said.icc:
        fits = "GRAY" if gray else "RGB"
        if kind == "GIF" or space(said.icc) != fits:
            image, said = _without_profile(image, said.icc), said._replace(icc=None)
    if alpha is not None:
        image.putalpha(Image.fromarray(np.ascontiguousarray(alpha)))
    return image, said, flatten


def _without_profile(image: Image.Image, icc: bytes) -> Image.Image:
    """In sRGB, where the profile is one of the picture's colours; else as it is."""
    kinds = {"GRAY": "L", "RGB": "RGB"}
    if image.mode == "L" or space(icc) not in kinds:
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        return picture_values.to_srgb(image.convert(kinds[space(icc)]), profile)
    except ImageCms.PyCMSError:
        return image


def write_image(
    path: str | os.PathLike,
    rgb: np.ndarray,
    alpha: np.ndarray | None = None,
    gray: bool = False,
    quality: int = 95,
    *,
    about: About = NOTHING,
    mark: str = "",
    note: str = "",
) -> None:
    """Writes PNG, JPEG, WebP, TIFF or GIF, by the path's ending; all or nothing.

    The picture goes to a temporary file beside the target and is renamed when complete, so that a
    full disk or a kill leaves neither half a picture nor a lost older one. Missing folders are
    made. JPEG holds no transparency: it is laid over white, with a warning.

    Args:
      rgb: uint8 (h, w, 3); uint16 is kept by PNG and TIFF, and rounded to 8 bits for the others.
      alpha: of the same type, (h, w), or None.
      gray: store one channel (BT.601 luma of `rgb`) where the format can.
      quality: 1..100, of JPEG and WebP.
      about: what else to say, as far as the format holds it.
      mark: what this is, if it is not a picture of its own ("sheet", "masks"): a PNG so marked is
        left out of folders of pictures.
      note: how it was drawn, for `jaxgen.data.picture_drawn.read_note`; a PNG keeps it.

    Raises:
      UserError: unknown ending, no permission, disk full, too large for the format.
    """
    path = Path(path)
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise UserError(
            f"{path}: cannot write {path.suffix or 'a name without ending'}; "
            "use .png, .jpg, .webp, .tif or .gif"
        )
    if rgb.dtype not in (np.uint8, np.uint16) or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(
            f"write_image needs uint8 or uint16 (h, w, 3), not {rgb.dtype} {rgb.shape}"
        )
    if kind == "TIFF" or (kind == "PNG" and rgb.dtype == np.uint16):
        _write_channels(path, kind, Picture(rgb, alpha, gray, about), mark, note)
        return
    alpha = None if alpha is None else eight_bits(alpha)
    image, about, flattened = to_pillow(Picture(eight_bits(rgb), alpha, gray, about), kind)
    if flattened:
        logging.warning("%s: JPEG holds no transparency; laid over white (use .png)", path)
    said = options(kind, about, mark, note)
    if kind == "PNG" and rgb.nbytes >= LARGE:
        pixels = np.atleast_3d(np.asarray(image))
        replace_file(path, kind, lambda file: write_png(file, pixels, said, quick=True))
        return
    how = {**save_options(kind, rgb.nbytes, quality), **said}
    replace_file(path, kind, lambda file: image.save(file, format=kind, **how))


def save_options(kind: str, size: int, quality: int = 95) -> dict[str, Any]:
    """Pillow's options of a format for a picture of so many bytes."""
    # Run lengths alone: of photos, smaller than the quickest search for repetitions and a third
    # quicker.
    quick = {"compress_level": 1, "compress_type": zlib.Z_RLE}
    found: dict[str, Any] = {
        "PNG": quick if size >= LARGE else {},
        "JPEG": {"quality": quality, "subsampling": 0},
        "WEBP": {"quality": quality, "method": 4},
        "GIF": {},
    }[kind]
    return found


def channels(picture: Picture) -> np.ndarray:
    """(h, w, 1..4) of the picture's type: gray or colour, with alpha where there is some."""
    if not picture.gray:
        color = picture.rgb
    elif np.array_equal(picture.rgb[..., 0], picture.rgb[..., 1]):
        color = picture.rgb[..., :1]
    else:
        luma = picture.rgb @ np.array([0.299, 0.587, 0.114])  # BT.601
        color = np.floor(luma + 0.5).astype(picture.rgb.dtype)[..., None]
    return color if picture.alpha is None else np.dstack([color, picture.alpha])


def fitting(said: About, gray: bool) -> About:
    """Without a profile of other colours than the picture's."""
    fits = not said.icc or space(said.icc) == ("GRAY" if gray else "RGB")
    return said if fits else said._replace(icc=None)


def _write_channels(path: Path, kind: str, picture: Picture, mark: str, note: str) -> None:
    said, pixels = fitting(picture.about, picture.gray), channels(picture)
    if kind == "PNG":
        how = options(kind, said, mark, note)
        replace_file(path, kind, lambda file: write_png(file, pixels, how, quick=False))
    else:
        replace_file(path, kind, lambda file: write_tiff(file, [pixels], said, pixels.nbytes))


def replace_file(path: Path, kind: str, write: Callable[[IO[bytes]], Any]) -> None:
    """Writes it whole or not at all; see `write_image`. Raises UserError."""
    try:
        with replacing(path) as part:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "w+b") as file, _encoding(path, kind):
                write(file)
    except ValueError as error:
        raise UserError(f"{path}: {kind} cannot hold this picture ({error}); use .png") from None


@contextlib.contextmanager
def _encoding(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.strerror:
            raise
        # Pillow's encoders raise OSError without errno (for a picture too large, say).
        raise UserError(
            f"cannot write {path}: {kind} cannot hold this picture ({error}); use .png"
        ) from None


def _walk(folder: Path) -> Iterator[Path]:
    """Files below a folder, links followed, each real folder once, hidden names left out."""
    seen: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in files if not name.startswith("."))


def list_images(path: str | os.PathLike) -> list[Path]:
    """Sorted picture files below a folder (by ending, hidden ones left out), or the one file.

    Sheets and masks that our own commands wrote beside pictures are none. Pictures of a kind that
    is not read here are named in a warning.

    Returns an empty list for a folder without pictures. Raises UserError if `path` is missing.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder")
    known, found, left = extensions(), [], []
    for file in _walk(path):
        if file.suffix.lower() in known:
            found.append(file)
        elif why := unsupported(file):
            left.append((file, why))
    _name_left_out(sorted(left))
    return _without_marked(sorted(found))


def _name_left_out(left: list[tuple[Path, str]]) -> None:
    for file, why in left[:_NAMED]:
        logging.warning("left out: %s: %s", file, why)
    if len(left) > _NAMED:
        logging.warning("left out: %d more files like these", len(left) - _NAMED)


def _without_marked(files: list[Path]) -> list[Path]:
    mine = [file for file in files if file.suffix.lower() == ".png"]
    if len(mine) > _MANY:
        with ThreadPoolExecutor(8) as pool:  # many at a time, for file systems far away
            starts = list(pool.map(head, mine, chunksize=64))
    else:
        starts = [head(file) for file in mine]
    marked = {file for file, start in zip(mine, starts, strict=True) if is_marked(start)}
    return [file for file in files if file not in marked]
