"""Files of several pictures: animations (GIF, WebP, APNG) and pages (TIFF), read and written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxgen.data import picture_values
from jaxgen.data.picture_about import about, options
from jaxgen.data.picture_files import (
    ANIMATED,
    FORMATS,
    Picture,
    channels,
    fitting,
    read_picture,
    replace_file,
    save_options,
    shallow,
    to_pillow,
)
from jaxgen.data.picture_open import DAMAGED, head, is_tiff, name_of, open_picture
from jaxgen.data.picture_tiff import pixels, read_tiff, tiff_about, tiff_pages, write_tiff
from jaxgen.errors import UserError

# Endings whose files may hold several frames, and keep their format if nobody names another.
KEPT = {".gif": ".gif", ".webp": ".webp", ".tif": ".tif", ".tiff": ".tif"}
_OPAQUE = 128  # GIF: a pixel is seen or not


class Frames(NamedTuple):
    """What a file of several frames says of them.

    at: their places in the file. pages: they are pictures of their own, not of one animation.
    plays: how often an animation is shown; 0: for ever.
    """

    at: tuple[int, ...]
    pages: bool
    plays: int = 1

    def says(self) -> str:
        """ "3 frames" or "2 pages"."""
        return f"{len(self.at)} {'pages' if self.pages else 'frames'}"


class Frame(NamedTuple):
    """One of them; `milliseconds` that it is shown, 0 where nothing is said."""

    picture: Picture
    milliseconds: float = 0.0


def frames_of(source: str | os.PathLike) -> Frames | None:
    """Of a file that holds several frames or pages; None for one picture.

    A TIFF's reduced copies and masks are not counted; of kinds that hold other pictures beside the
    main one (MPO of phones, layers of PSD, HEIC), that one is the picture.

    Raises:
      UserError: the file can't be read.
    """
    image = _opened(source)
    if image is None:
        pages = tiff_pages(source)
        return Frames(pages, True) if len(pages) > 1 else None
    with image:
        try:
            if not getattr(image, "is_animated", False):
                return None
            if image.format == "TIFF":
                pages = tiff_pages(source)
                return Frames(pages, True) if len(pages) > 1 else None
            count = int(getattr(image, "n_frames", 1))
        except DAMAGED as error:
            raise UserError(f"{name_of(source)}: damaged or cut short ({error})") from None
        if image.format not in ANIMATED:
            return None
        first = 1 if getattr(image, "default_image", False) else 0  # shown by who can't animate
        at = tuple(range(first, count))
        return Frames(at, False, _plays(image)) if len(at) > 1 else None


def beside(source: str | os.PathLike) -> int:
    """How many pictures an MPO or HEIC file holds beside its main one."""
    image = _opened(source)
    if image is None:
        return 0
    with image:
        if image.format not in ("MPO", "HEIF"):
            return 0
        return int(getattr(image, "n_frames", 1)) - 1


def _opened(source: str | os.PathLike) -> Image.Image | None:
    """The file, opened; None for a TIFF of a kind that Pillow doesn't know. Raises UserError."""
    try:
        return open_picture(source)
    except UserError:
        if not is_tiff(head(source)):
            raise
        return None


def _plays(image: Image.Image) -> int:
    loop = image.info.get("loop")
    if image.format == "GIF":  # says how often it is shown again
        return 1 if loop is None else 0 if loop == 0 else int(loop) + 1
    return int(loop or 0)


def read_frames(source: str | os.PathLike, frames: Frames, deep: bool = False) -> Iterator[Frame]:
    """Each of a file's frames, as it is seen: whole, and upright.

    Args: deep: as for `read_picture`; of pages.

    Raises:
      UserError: a damaged frame.
    """
    dtype = np.uint16 if deep else np.uint8
    image = _opened(source)
    if image is None:
        for page in frames.at:
            yield Frame(Picture(*read_tiff(source, page, dtype), tiff_about(source, page)))
        return
    with image:
        for index in frames.at:
            try:
                picture = _frame(image, source, index)
            except DAMAGED as error:
                if not frames.pages:
                    raise UserError(
                        f"{name_of(source)}: frame {index + 1} is damaged ({error})"
                    ) from None
                # A kind that Pillow doesn't know.
                picture = Picture(*read_tiff(source, index, dtype), tiff_about(source, index))
            milliseconds = float(image.info.get("duration", 0) or 0)
            yield Frame(picture if deep else shallow(picture), milliseconds)


def _frame(image: Image.Image, source: str | os.PathLike, index: int) -> Picture:
    image.seek(index)
    made = picture_values.origin(image)
    if made.misread:
        return Picture(*read_tiff(source, index), about(image, image))
    image.load()
    whole = picture_values.upright(image)
    return Picture(*pixels(whole, source, made, index), about(image, whole))


def read_single(source: str | os.PathLike) -> Picture:
    """A file of one picture, in as many bits as it has.

    Raises:
      UserError: it can't be read, or holds several frames.
    """
    if frames := frames_of(source):
        raise UserError(f"{source} holds {frames.says()}: `jaxgen upscale` does them all")
    return read_picture(source, deep=True)


def check_frames(source: Path, target: Path, frames: Frames) -> None:
    """Raises UserError if the target's format does not hold what the source has."""
    kind = FORMATS[target.suffix.lower()]
    if frames.pages and kind != "TIFF":
        raise UserError(f"{source} holds {frames.says()}, which only TIFF keeps: use --format tif")
    if not frames.pages and kind not in ("GIF", "WEBP", "PNG"):
        raise UserError(
            f"{source} holds {frames.says()}, which {kind} does not: use --format png, webp or gif"
        )


def write_frames(path: str | os.PathLike, shown: Sequence[Frame], frames: Frames) -> None:
    """Writes an animation, or a TIFF's pages; all or nothing, as `write_image` does.

    GIF has 256 colours a frame, and pixels that are seen or not; WebP is lossy, APNG is exact.

    Raises:
      UserError: it can't be written.
    """
    path = Path(path)
    kind = FORMATS[path.suffix.lower()]
    pictures = [frame.picture for frame in shown]
    if kind == "TIFF":
        if any(picture.rgb.dtype == np.uint16 for picture in pictures):
            pictures = [_sixteen(picture) for picture in pictures]
        said, size = (
            fitting(pictures[0].about, pictures[0].gray),
            sum(p.rgb.nbytes for p in pictures),
        )
        pages = map(channels, pictures)
        replace_file(path, kind, lambda file: write_tiff(file, pages, said, size))
        return
    images = []
    see_through = any(picture.alpha is not None for picture in pictures)
    for picture in pictures:
        image, said, _ = to_pillow(_eight(picture, kind), kind)
        if not all(p.gray for p in pictures):
            image = image.convert("RGBA" if see_through else "RGB")
        images.append(image)
    said = to_pillow(_eight(pictures[0], kind), kind)[1]
    how: dict[str, Any] = save_options(kind, sum(p.rgb.nbytes for p in pictures))
    how |= options(kind, said) | {"save_all": True, "append_images": images[1:]}
    how["duration"] = [_duration(frame.milliseconds, kind) for frame in shown]
    if kind == "GIF":
        if see_through:
            how["disposal"] = 2  # each frame is whole: nothing of the one before shines through
        if frames.plays != 1:
            how["loop"] = max(frames.plays - 1, 0)
    else:
        how["loop"] = frames.plays
    replace_file(path, kind, lambda file: images[0].save(file, format=kind, **how))


def _duration(milliseconds: float, kind: str) -> float:
    return milliseconds if kind == "PNG" else round(milliseconds)


def _eight(picture: Picture, kind: str) -> Picture:
    picture = shallow(picture)
    if picture.alpha is None or kind != "GIF":
        return picture
    return picture._replace(alpha=np.where(picture.alpha >= _OPAQUE, 255, 0).astype(np.uint8))


def _sixteen(picture: Picture) -> Picture:
    if picture.rgb.dtype == np.uint16:
        return picture
    alpha = None if picture.alpha is None else picture.alpha.astype(np.uint16) * 257
    return picture._replace(rgb=picture.rgb.astype(np.uint16) * 257, alpha=alpha)
