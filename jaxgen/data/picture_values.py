"""Pixel values of decoded pictures: every mode and depth to 8 or 16 bits of RGB, alpha apart."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from PIL import Image, ImageCms, ImageOps

from jaxgen.data.picture_open import DAMAGED, Source, name_of, open_picture
from jaxgen.errors import UserError

# Raw modes of 16 bits a channel, of which Pillow keeps the high byte: those that give the low one.
_LOW = {
    "RGB;16B": "RGB;16L", "RGB;16L": "RGB;16B", "RGB;16N": "RGB;16B",
    "RGBA;16B": "RGBA;16L", "RGBA;16L": "RGBA;16B", "RGBA;16N": "RGBA;16B",
}  # fmt: skip
_GRAY = ("1", "L", "LA", "I", "F")
# Of TIFF.
_BITS, _PHOTOMETRIC, _SAMPLES, _PLANAR, _SAMPLE_FORMAT, _SIGNED = 258, 262, 277, 284, 339, 2
Values = tuple[np.ndarray, np.ndarray | None, bool]


class Origin(NamedTuple):
    """What a file says of its numbers, which a turned or copied picture no longer does.

    format: Pillow's name. bits: a channel, of a TIFF. white_is_zero: of a gray TIFF.
    misread: a TIFF of numbers that Pillow would read with a sign, or of whose bytes it would make
    two pixels. raw: how its pixels lie.
    """

    format: str
    bits: int = 8
    white_is_zero: bool = False
    misread: bool = False
    raw: frozenset[Any] = frozenset()


def origin(image: Image.Image) -> Origin:
    """Of a picture as it was opened, before it is loaded."""
    tags = getattr(image, "tag_v2", None)
    raw = frozenset(_raw(tile) for tile in getattr(image, "tile", ()))
    if image.format != "TIFF" or tags is None:
        return Origin(image.format or "", raw=raw)
    bits = tags.get(_BITS, (1,))[0]
    signed = _SIGNED in tags.get(_SAMPLE_FORMAT, (1,))
    unsigned = image.mode == "I" and bits == 32 and not signed
    planes = bits > 8 and tags.get(_SAMPLES, 1) > 1 and tags.get(_PLANAR, 1) == 2
    return Origin("TIFF", bits, tags.get(_PHOTOMETRIC) == 0, unsigned or planes, raw)


def _raw(tile: Any) -> Any:
    if isinstance(tile.args, tuple):
        return tile.args[0] if tile.args else None
    return tile.args


def upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says; a damaged EXIF block does not make the picture unreadable."""
    try:
        return ImageOps.exif_transpose(image)
    except DAMAGED:
        return image.copy()


def is_gray(image: Image.Image) -> bool:
    """Whether a picture's mode has one channel of brightness."""
    return image.mode in _GRAY or image.mode.startswith("I;")


def values(image: Image.Image, name: str) -> Values:
    """A loaded, upright picture as (rgb uint8 (h, w, 3), alpha uint8 (h, w) or None, was gray).

    Of modes up to 8 bits a channel; those of more are `deep_values`'.

    CMYK with a colour profile and CIE Lab come as sRGB.

    Raises:
      UserError: a mode that can't be converted.
    """
    if image.mode == "PA" or "transparency" in image.info:
        image = image.convert("LA" if image.mode in ("1", "L") else "RGBA")
    if image.mode in ("La", "RGBa"):  # premultiplied
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    alpha = None
    if image.mode in ("LA", "RGBA"):
        alpha = np.array(image.getchannel("A"))
        alpha = None if np.all(alpha == 255) else alpha
    try:
        rgb = np.array(_rgb(image, name))
    except DAMAGED as error:
        raise UserError(f"{name}: mode {image.mode} is not supported ({error})") from None
    return rgb, alpha, is_gray(image)


def becomes_srgb(image: Image.Image) -> bool:
    """Whether `values` converts the colours by a profile, which then no longer holds."""
    return image.mode == "LAB" or (image.mode == "CMYK" and bool(image.info.get("icc_profile")))


def _rgb(image: Image.Image, name: str) -> Image.Image:
    if not becomes_srgb(image):
        return image.convert("RGB")
    if image.mode == "LAB":
        return to_srgb(image, ImageCms.createProfile("LAB"))
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        return to_srgb(image, profile)
    except (ImageCms.PyCMSError, *DAMAGED) as error:
        logging.warning("%s: its CMYK profile can't be used (%s); taken without", name, error)
        return image.convert("RGB")


def to_srgb(image: Image.Image, profile: Any) -> Image.Image:
    """The picture in sRGB, "RGB", by a profile of its colours. Raises ImageCms.PyCMSError."""
    made = ImageCms.profileToProfile(
        image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    assert made is not None  # as it is where the picture is changed in place
    return made


# --------------------------------------------------------------------------- more than eight bits


def is_deep_gray(image: Image.Image) -> bool:
    """Whether a picture has one channel of more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;")


def deep_gray(image: Image.Image, made: Origin) -> np.ndarray:
    """Such a picture's brightness, float64 (h, w) in [0, 1]."""
    x = np.asarray(image)
    if image.mode.startswith("I;"):
        bits = made.bits if made.format == "TIFF" else 16
        unit = x / (2.0**bits - 1.0)
    elif image.mode == "I" and made.format in ("PPM", "PNG"):
        unit = x / 65535.0
    else:
        unit = to_unit(x)
    unit = np.clip(unit, 0.0, 1.0)
    return 1.0 - unit if made.white_is_zero else unit


def to_unit(x: np.ndarray) -> np.ndarray:
    """Numbers of any type in [0, 1], float64.

    8 and 16 bits without sign have a range. Other types carry none: it is 1 for floats up to 2
    (highlights may exceed 1), else the smallest of 8, 16 and 32 bits that holds the largest value.
    """
    if x.dtype in (np.uint8, np.uint16):
        return x / float(np.iinfo(x.dtype).max)
    numbers = np.nan_to_num(np.asarray(x, np.float64), posinf=0.0, neginf=0.0)
    largest = numbers.max(initial=0.0)
    ranges = [1.0] if x.dtype.kind == "f" and largest <= 2.0 else []
    ranges += [full for full in (255.0, 65535.0, 2.0**32 - 1.0) if largest <= full]
    return np.clip(numbers / (ranges or [largest])[0], 0.0, 1.0)


def quantised(unit: np.ndarray, dtype: Any) -> np.ndarray:
    """[0, 1] to uint8 or uint16, halves upwards."""
    full = np.iinfo(dtype).max
    return np.clip(np.floor(unit * full + 0.5), 0, full).astype(dtype)


def deep_values(image: Image.Image, source: Source, made: Origin, frame: int = 0) -> Values | None:
    """As `values` in uint16, of a picture that has more than 8 bits; None: it has not, or Pillow
    has no way to all of them.

    `image` is loaded; `source` is opened again for the low bytes, which Pillow drops of colours.
    """
    if is_deep_gray(image):
        gray = quantised(deep_gray(image, made), np.uint16)
        return np.repeat(gray[..., None], 3, axis=2), None, True
    if made.raw != {"LA;16B"} and not (made.raw and made.raw <= _LOW.keys()):
        return None
    with open_picture(source) as opened:
        again: Any = opened  # that it has tiles is known to files alone
        if frame:
            again.seek(frame)
        if made.raw == {"LA;16B"}:
            # The four bytes of a pixel as they lie.
            again.tile = [tile._replace(args="RGBA") for tile in again.tile]
            pixels = np.asarray(upright(again)).astype(np.uint16)
            gray, alpha = pixels[..., 0] << 8 | pixels[..., 1], pixels[..., 2] << 8 | pixels[..., 3]
            return np.repeat(gray[..., None], 3, axis=2), _or_none(alpha), True
        again.tile = [
            tile._replace(
                args=_LOW[tile.args] if isinstance(tile.args, str)
                else (_LOW[tile.args[0]], *tile.args[1:])
            )
            for tile in again.tile
        ]  # fmt: skip
        try:
            again.load()
        except DAMAGED as error:
            raise UserError(f"{name_of(source)}: damaged or cut short ({error})") from None
        low = np.asarray(upright(again))
    both = np.asarray(image).astype(np.uint16) << 8 | low
    if both.shape[2] == 4:
        return np.ascontiguousarray(both[..., :3]), _or_none(both[..., 3]), False
    key = image.info.get("transparency")  # one colour, in 16 bits
    if isinstance(key, tuple) and len(key) == 3:
        hidden = np.all(both == np.array(key, np.uint16), axis=2)
        return both, _or_none(np.where(hidden, 0, 65535).astype(np.uint16)), False
    return both, None, False


def _or_none(alpha: np.ndarray) -> np.ndarray | None:
    return None if np.all(alpha == np.iinfo(alpha.dtype).max) else alpha
