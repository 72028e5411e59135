"""Opening picture files: the kinds there are, plug-ins for two more, limits, clear errors."""

from __future__ import annotations

import functools
import importlib
import io
import os
import re
import struct
import warnings
import zlib

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from jaxgen.errors import UserError

Source = str | os.PathLike | bytes
# What Pillow raises on damaged files, format by format.
DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    TypeError,
    RuntimeError,  # of plug-ins
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
ANY_SIZE = "JAXGEN_ANY_SIZE"  # environment: "1" lifts the imaging library's limits
_TEXT_LIMIT = 1 << 30
# Endings that Pillow knows and that are no pictures, or hold no pixels that it reads.
_NO_PICTURES = {
    ".bufr", ".emf", ".eps", ".fit", ".fits", ".grib", ".h5", ".hdf", ".iim", ".mpeg", ".mpg",
    ".pdf", ".ps", ".wmf", ".gbr", ".ftc", ".ftu", ".palm",
}  # fmt: skip
# Kinds that need more than Pillow: endings, what they are, the module and package that read them.
_PLUGINS = {
    "HEIC": ((".heic", ".heif", ".hif"), "pillow_heif", "pillow-heif"),
    "JPEG XL": ((".jxl",), "pillow_jxl", "pillow-jxl-plugin"),
}
_UNSUPPORTED = {
    "camera raw": (
        ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef",
        ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2",
        ".srf", ".srw", ".x3f",
    ),
    "a HEIC sequence": (".heics", ".heifs"),
    "JPEG XR": (".jxr", ".hdp", ".wdp"),
    "SVG": (".svg", ".svgz"),
    "OpenEXR": (".exr",),
    "Radiance HDR": (".hdr",),
    "PDF": (".ai", ".pdf"),
    "PSB": (".psb",),
    "EPS": (".eps", ".ps"),
    "Windows metafile": (".emf", ".wmf"),
    "FITS": (".fit", ".fits"),
    "Krita": (".kra",),
    "GIMP": (".xcf",),
}  # fmt: skip
VIDEOS = (
    ".3g2", ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg",
    ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv",
)  # fmt: skip
# What lies beside pictures and is none, so that its bytes need not be looked at.
_BESIDE = {
    ".csv", ".html", ".json", ".jsonl", ".md", ".npy", ".npz", ".py", ".toml", ".tsv", ".txt",
    ".xml", ".yaml", ".yml",
}  # fmt: skip
_MAGIC = {
    "JPEG": rb"\xff\xd8\xff", "PNG": rb"\x89PNG\r\n\x1a\n", "GIF": rb"GIF8[79]a",
    "WebP": rb"RIFF....WEBP", "TIFF": rb"II[*+]\0|MM\0[*+]", "BMP": rb"BM....\0\0\0\0",
    "AVIF": rb"....ftypavi[fs]", "HEIC": rb"....ftyp(?:hei[cx]|mif1)",
    "JPEG 2000": rb"\0\0\0\x0cjP  ", "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL ",
}  # fmt: skip


@functools.cache
def extensions() -> frozenset[str]:
    """Endings of pictures that are read here, in lower case."""
    Image.init()
    known = {end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    known.add(".mpo")  # opened as JPEG
    known |= {end for kind, (ends, _, _) in _PLUGINS.items() if _plug_in(kind) for end in ends}
    return frozenset(known - _NO_PICTURES)


def unsupported(path: str | os.PathLike) -> str:
    """Why a file that is a picture by its ending or its bytes is no picture of its folder: "HEIC
    needs a plug-in: pip install ..."; "" if it is one, or nobody would take it for one.
    """
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix in extensions() or suffix in _BESIDE:
        return ""
    for kind, (endings, _, package) in _PLUGINS.items():
        if suffix in endings:
            return f"{kind} needs a plug-in: pip install {package}"
    for kind, kind_endings in _UNSUPPORTED.items():
        if suffix in kind_endings:
            return f"{kind} is not supported: convert it to PNG, TIFF or JPEG"
    if suffix in VIDEOS:
        return "a video: give it to `jaxgen upscale` by its own name"
    start = head(path, 16)
    for kind, magic in _MAGIC.items():
        if re.match(magic, start, re.DOTALL):
            return f"{kind} by its bytes, but not by its name: rename it, or give it by its own"
    return ""


def name_of(source: Source) -> str:
    """What messages call it."""
    return "the given bytes" if isinstance(source, bytes) else os.fspath(source)


def allow_any_size() -> None:
    """Lifts Pillow's limits of pixels and of text, for this process and those that it starts."""
    os.environ[ANY_SIZE] = "1"
    _lift()


def _lift() -> None:
    Image.MAX_IMAGE_PIXELS = None
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = _TEXT_LIMIT


def open_picture(source: Source) -> Image.Image:
    """Opens a file's header, not its pixels; close it, or use it in a `with`.

    Raises:
      UserError: missing, no picture, damaged, above a limit, or of a kind that can't be read here;
        the message names the file.
    """
    name = name_of(source)
    if os.environ.get(ANY_SIZE) == "1":
        _lift()
    try:
        return _open(source)
    except FileNotFoundError:
        raise UserError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{name} is a folder, not a picture") from None
    except PermissionError:
        raise UserError(f"{name}: no permission to read it") from None
    except UnidentifiedImageError:
        return _open_other(source)
    except Image.DecompressionBombError:
        raise _too_many_pixels(name) from None
    except DAMAGED as error:
        if "MAX_TEXT" in str(error):
            raise UserError(
                f"{name} holds more text than is read unasked; if you trust it, give --any-size "
                f"to jaxgen upscale, or set {ANY_SIZE}=1"
            ) from None
        raise UserError(f"{name}: cannot be read as a picture ({error})") from None


def check_pixels(count: int, name: str) -> None:
    """Raises UserError for a picture above Pillow's limit, which Pillow did not open."""
    if os.environ.get(ANY_SIZE) != "1" and count > 2 * (Image.MAX_IMAGE_PIXELS or count):
        raise _too_many_pixels(name)


def _too_many_pixels(name: str) -> UserError:
    return UserError(
        f"{name} has more pixels than are read unasked (179 millions); if you trust it, give "
        f"--any-size to jaxgen upscale, or set {ANY_SIZE}=1"
    )


def _open(source: Source) -> Image.Image:
    with warnings.catch_warnings():
        # Large panoramas are welcome; Pillow's hard limit (180 megapixels) still holds.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)


def _open_other(source: Source) -> Image.Image:
    """What Pillow alone doesn't know: by a plug-in, or an error that names the kind."""
    name, start = name_of(source), head(source)
    if not start:
        raise UserError(f"{name}: the file is empty; remove or replace it")
    kind = _kind(start)
    if kind in _PLUGINS:
        if not _plug_in(kind):
            package = _PLUGINS[kind][2]
            raise UserError(f"{name}: {kind} needs a plug-in: pip install {package}")
        try:
            return _open(source)
        except DAMAGED as error:
            raise UserError(
                f"{name}: a {kind} file that its plug-in can't read ({error})"
            ) from None
    if kind:
        raise UserError(f"{name}: {kind} is not supported; convert it to PNG, TIFF or JPEG")
    raise UserError(
        f"{name}: not a picture that can be read, or damaged; remove or replace it"
    ) from None


@functools.cache
def _plug_in(kind: str) -> bool:
    """Registers the plug-in of a kind; whether it is there."""
    try:
        module = importlib.import_module(_PLUGINS[kind][1])
    except ImportError:
        return False
    if kind == "HEIC":  # the other one registers itself
        module.register_heif_opener()
    return True


def head(source: Source, count: int = 512) -> bytes:
    """The first bytes of a file; b"" if it can't be read."""
    if isinstance(source, bytes):
        return source[:count]
    try:
        with open(source, "rb") as file:
            return file.read(count)
    except OSError:
        return b""


def is_tiff(start: bytes) -> bool:
    """Whether a file that begins so is a TIFF; of either order, classic or big."""
    return start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _kind(start: bytes) -> str:
    """The name of a kind that Pillow does not read, by a file's first bytes; "" if unknown."""
    if start[4:8] == b"ftyp":
        brands = start[8:64]
        if any(
            b in brands for b in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
        ):
            return "HEIC"
        if any(b in brands for b in (b"avif", b"avis")):
            return ""  # Pillow's own: then it is damaged
        return "Canon raw" if b"crx " in brands else "a video"
    if start[:2] == b"\xff\x0a" or start[:12] == b"\0\0\0\x0cJXL \r\n\x87\n":
        return "JPEG XL"
    for kind, magic in (
        ("OpenEXR", b"v/1\x01"), ("Radiance HDR", b"#?"), ("PDF", b"%PDF"), ("GIMP", b"gimp xcf"),
        ("EPS", b"%!PS"), ("SVG", b"<svg"), ("a video", b"\x1aE\xdf\xa3"),
    ):  # fmt: skip
        if start.startswith(magic):
            return kind
    return "SVG" if start.lstrip()[:5] == b"<?xml" and b"<svg" in start else ""
