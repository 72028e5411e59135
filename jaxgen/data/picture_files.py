"""Reading and writing picture files: any size and mode in, uint8 RGB out.

Phone photos are rotated as their EXIF tag says, 16-bit and float pictures are scaled to 8 bits,
gray, palette and CMYK become RGB. A file that cannot be read is a `UserError` that names it.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from absl import logging
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from jaxgen.errors import UserError

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
# Bytes from which a PNG is deflated in the quickest way.
LARGE = 32 << 20
NOTE = "jaxgen"  # a PNG's key of a note
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
# What Pillow raises on damaged files, format by format.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    TypeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
Source = str | os.PathLike | bytes


def _name(source: Source) -> str:
    return "the given bytes" if isinstance(source, bytes) else os.fspath(source)


def _open(source: Source) -> Image.Image:
    """Opens lazily: the header only. Raises UserError."""
    name = _name(source)
    try:
        with warnings.catch_warnings():
            # Large panoramas are welcome; Pillow's hard limit (180 megapixels) still holds.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if isinstance(source, bytes):
                return Image.open(io.BytesIO(source))
            return Image.open(source)
    except FileNotFoundError:
        raise UserError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{name} is a folder, not a picture") from None
    except PermissionError:
        raise UserError(f"{name}: no permission to read it") from None
    except UnidentifiedImageError:
        empty = not source if isinstance(source, bytes) else os.path.getsize(source) == 0
        what = "the file is empty" if empty else "not a picture that can be read, or damaged"
        raise UserError(f"{name}: {what}; remove or replace it") from None
    except _DAMAGED as error:
        raise UserError(f"{name}: cannot be read as a picture ({error})") from None


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """(height, width) of a picture as it will be read, from its header only. Raises UserError."""
    with _open(path) as image:
        width, height = image.size
        try:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # EXIF: turned by 90 degrees
        except _DAMAGED:
            turned = False
    return (width, height) if turned else (height, width)


def _decode(source: Source) -> Image.Image:
    """Fully decoded and upright. Raises UserError."""
    with _open(source) as image:
        try:
            image.load()
            try:
                return ImageOps.exif_transpose(image)
            except _DAMAGED:  # a damaged EXIF block does not make the picture unreadable
                return image.copy()
        except _DAMAGED as error:
            raise UserError(
                f"{_name(source)}: damaged or cut short ({error}); remove or replace it"
            ) from None
        except MemoryError:
            raise UserError(f"{_name(source)}: too large for this machine's memory") from None


def _deep_to_uint8(image: Image.Image) -> np.ndarray:
    """Modes of more than 8 bits, all of one channel: (h, w) uint8."""
    x = np.asarray(image).astype(np.float64)
    if image.mode == "F":
        # Float pictures carry no range: 0..1 by custom, or 0..255 if anything exceeds 1.
        x = np.nan_to_num(x)
        x = x * 255.0 if x.max(initial=0.0) <= 1.0 else x
    elif image.mode == "I" and x.min(initial=0.0) >= 0 and x.max(initial=0.0) <= 255:
        pass  # 8-bit values in 32-bit pixels
    else:
        x = x * (255.0 / 65535.0)
    return np.clip(np.floor(x + 0.5), 0, 255).astype(np.uint8)


def read_image_with_alpha(path: Source) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """Reads a picture and keeps what RGB alone would lose.

    Returns:
      rgb: uint8 (h, w, 3); under transparent pixels the file's own colours.
      alpha: uint8 (h, w), or None if the picture is opaque throughout.
      was_gray: True if the file is gray (three equal channels are returned).

    Raises:
      UserError: missing, empty, damaged or cut short; the message names the file.
    """
    image = _decode(path)
    alpha = None
    if image.mode == "PA" or "transparency" in image.info:
        image = image.convert("LA" if image.mode in ("1", "L") else "RGBA")
    if image.mode in ("La", "RGBa"):  # premultiplied
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    if image.mode in ("LA", "RGBA"):
        alpha = np.array(image.getchannel("A"))
        alpha = None if np.all(alpha == 255) else alpha
    was_gray = image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;")
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        gray = _deep_to_uint8(image)
        return np.repeat(gray[..., None], 3, axis=2), alpha, was_gray
    try:
        rgb = np.array(image.convert("RGB"))
    except _DAMAGED as error:
        raise UserError(f"{_name(path)}: mode {image.mode} is not supported ({error})") from None
    return rgb, alpha, was_gray


def read_image(path_or_bytes: Source) -> np.ndarray:
    """Reads a picture as uint8 (h, w, 3), transparency laid over white. Raises UserError."""
    rgb, alpha, _ = read_image_with_alpha(path_or_bytes)
    return rgb if alpha is None else over_white(rgb, alpha)


def over_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Composites uint8 (h, w, 3) with uint8 alpha (h, w) over white."""
    weight = alpha[..., None].astype(np.float64) / 255.0
    return np.floor(rgb * weight + 255.0 * (1.0 - weight) + 0.5).astype(np.uint8)


def _to_pillow(
    rgb: np.ndarray, alpha: np.ndarray | None, gray: bool, kind: str
) -> tuple[Image.Image, bool]:
    """Picture in the mode the format holds, and whether transparency had to be given up."""
    flatten = False
    if alpha is not None and kind == "JPEG":
        rgb, alpha, flatten = over_white(rgb, alpha), None, True
    image = Image.fromarray(np.ascontiguousarray(rgb))
    if gray and kind != "WEBP":  # WebP has no gray form
        image = image.convert("L")
    if alpha is not None:
        image.putalpha(Image.fromarray(np.ascontiguousarray(alpha)))
    return image, flatten


def write_image(
    path: str | os.PathLike,
    rgb: np.ndarray,
    alpha: np.ndarray | None = None,
    gray: bool = False,
    quality: int = 95,
    note: str = "",
) -> None:
    """Writes PNG, JPEG or WebP, by the path's ending; all or nothing.

    The picture goes to a temporary file beside the target and is renamed when complete, so that a
    full disk or a kill leaves neither half a picture nor a lost older one. Missing folders are
    made. JPEG holds no transparency: it is laid over white, with a warning.

    Args:
      rgb: uint8 (h, w, 3).
      alpha: uint8 (h, w) or None.
      gray: store one channel (BT.601 luma of `rgb`) where the format can.
      quality: 1..100, of JPEG and WebP.
      note: a text that a PNG keeps beside the picture, for `read_note`; others drop it.

    Raises:
      UserError: unknown ending, no permission, disk full, too large for the format.
    """
    path = Path(path)
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise UserError(
            f"{path}: cannot write {path.suffix or 'a name without ending'}; "
            "use .png, .jpg or .webp"
        )
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"write_image needs uint8 (h, w, 3), not {rgb.dtype} {rgb.shape}")
    image, flattened = _to_pillow(rgb, alpha, gray, kind)
    if flattened:
        logging.warning("%s: JPEG holds no transparency; laid over white (use .png)", path)
    # Run lengths alone: of photos, smaller than the quickest search for repetitions and a third
    # quicker.
    quick = {"compress_level": 1, "compress_type": zlib.Z_RLE}
    options: dict[str, Any] = {
        "PNG": quick if rgb.nbytes >= LARGE else {},
        "JPEG": {"quality": quality, "subsampling": 0},
        "WEBP": {"quality": quality, "method": 4},
    }[kind]
    if note and kind == "PNG":
        held = PngImagePlugin.PngInfo()
        held.add_itxt(NOTE, note, zip=True)
        options = {**options, "pnginfo": held}
    with _whole(path, kind) as file:
        image.save(file, format=kind, **options)


def write_gif(path: str | os.PathLike, frames: Sequence[np.ndarray], pause: int = 120) -> None:
    """Writes an animation that goes on for ever; all or nothing.

    Args: frames: uint8 (h, w, 3) of one size. pause: milliseconds of each; the last stays longer.

    Raises:
      UserError: no permission, disk full.
    """
    images = [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]
    pauses = [pause] * (len(images) - 1) + [10 * pause]
    with _whole(Path(path), "GIF") as file:
        images[0].save(
            file, format="GIF", save_all=True, append_images=images[1:], duration=pauses, loop=0
        )


def read_note(path: str | os.PathLike) -> str:
    """What `write_image` noted in a PNG; "" if nothing. Raises UserError."""
    try:
        with Image.open(path) as image:
            image.load()  # texts may stand behind the picture
            return str(getattr(image, "text", {}).get(NOTE, ""))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except _DAMAGED as error:
        raise UserError(f"{path} is no picture that can be read ({error})") from None


@contextlib.contextmanager
def _whole(path: Path, kind: str) -> Iterator[IO[bytes]]:
    """A file that takes the name `path` when all is written. Raises UserError."""
    # Not longer than the target's name may be: that one may fill what the file system allows.
    mark = zlib.crc32(path.name.encode(errors="surrogatepass"))
    part = path.with_name(f".{mark:08x}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            yield file
        os.replace(part, path)
    except ValueError as error:
        raise UserError(f"{path}: {kind} cannot hold this picture ({error}); use .png") from None
    except OSError as error:
        # Pillow's encoders raise OSError without errno (for a picture too large, say).
        why = error.strerror or f"{kind} cannot hold this picture ({error}); use .png"
        raise UserError(f"cannot write {path}: {why}") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


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

    Returns an empty list for a folder without pictures. Raises UserError if `path` is missing.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder")
    return sorted(p for p in _walk(path) if p.suffix.lower() in EXTENSIONS)
