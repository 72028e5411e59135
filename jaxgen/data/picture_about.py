"""What a picture file says besides its pixels: colour profile, EXIF, resolution, texts."""

from __future__ import annotations

import io
import struct
from typing import Any, NamedTuple

from absl import logging
from PIL import Image, ImageCms, PngImagePlugin

from jaxgen.data.picture_open import DAMAGED
from jaxgen.data.picture_values import becomes_srgb

MARK = "jaxgen"  # the key of the text chunk that marks what is no picture: sheets, masks
NOTE = "jaxgen:drawn"  # and of one that says how the picture was drawn
_ORIENTATION, _EXIF, _GPS = 0x0112, 0x8769, 0x8825
_WIDTH, _HEIGHT = 0xA002, 0xA003
# Of a TIFF's tags those that tell of the picture and not of the file's layout.
_OF_TIFF = (270, 271, 272, 305, 306, 315, 33432, _EXIF, _GPS)
# Descriptions that tell programs how the file lies, which no longer holds.
_LAYOUTS = ('{"shape"', "ImageJ=", "<?xml")
_SEGMENT = 65_400  # bytes that a part of a JPEG's header holds, with its own name
XMP = "XML:com.adobe.xmp"


class About(NamedTuple):
    """Kept on a result as far as its format holds it.

    icc: colour profile. exif: without orientation, as the picture is upright. dpi: pixels per inch,
    across and down. xmp: Adobe's XML. texts: of a PNG. chunks: of a PNG, its gamma and primaries.
    comment: of a JPEG or GIF. remark: what became of the colours, for the user.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    texts: tuple[tuple[str, str], ...] = ()
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    comment: bytes | None = None
    remark: str = ""


NOTHING = About()


def about(opened: Image.Image, upright: Image.Image) -> About:
    """Of a loaded file and its upright picture; what is damaged of it is left out."""
    info: Any = upright.info
    icc = info.get("icc_profile") if not becomes_srgb(upright) else None
    dpi = info.get("dpi")
    try:
        # 1 stands for "none given", and more than JPEG holds is a mistake.
        given = dpi and min(dpi) > 1 and max(dpi) <= 65535
        dpi = (float(dpi[0]), float(dpi[1])) if given else None
    except (TypeError, ValueError, ZeroDivisionError):
        dpi = None
    xmp = info.get("xmp")
    texts = getattr(opened, "text", {}) if opened.format == "PNG" else {}
    comment = info.get("comment") if opened.format in ("JPEG", "GIF") else None
    return About(
        icc=icc if isinstance(icc, bytes) and icc else None,
        exif=_exif(opened, upright),
        dpi=dpi,
        xmp=xmp.encode() if isinstance(xmp, str) else xmp if isinstance(xmp, bytes) else None,
        texts=tuple((k, str(v)) for k, v in texts.items() if k not in (XMP, MARK, NOTE)),
        chunks=_chunks(info) if opened.format == "PNG" and not icc else (),
        comment=comment if isinstance(comment, bytes) else None,
        remark=f"{upright.mode}, converted to sRGB" if becomes_srgb(upright) else "",
    )


def _exif(opened: Image.Image, upright: Image.Image) -> bytes | None:
    try:
        exif = upright.getexif() if opened.format != "TIFF" else opened.getexif()
        if not exif:
            return None
        (
            exif.get_ifd(_EXIF),
            exif.get_ifd(_GPS),
        )  # read before the tag that leads to them is rewritten
        for tag in [tag for tag in exif if opened.format == "TIFF" and tag not in _OF_TIFF]:
            del exif[tag]
        if str(exif.get(270, "")).startswith(_LAYOUTS):
            del exif[270]
        exif.pop(_ORIENTATION, None)
        details = exif.get_ifd(_EXIF)
        for tag in (_WIDTH, _HEIGHT):  # of the small picture
            details.pop(tag, None)
        return exif.tobytes() if exif else None
    except (*DAMAGED, KeyError, AttributeError, ArithmeticError):
        return None


def _chunks(info: dict[str, Any]) -> tuple[tuple[bytes, bytes], ...]:
    found: list[tuple[bytes, bytes]] = []
    if "gamma" in info:
        found.append((b"gAMA", struct.pack(">I", round(info["gamma"] * 100_000))))
    if len(info.get("chromaticity", ())) == 8:
        found.append(
            (b"cHRM", struct.pack(">8I", *(round(x * 100_000) for x in info["chromaticity"])))
        )
    if "srgb" in info:
        found.append((b"sRGB", bytes([info["srgb"]])))
    return tuple(found)


def space(icc: bytes) -> str:
    """A profile's colours: "RGB", "GRAY", "CMYK", ...; "" for a damaged one."""
    try:
        return str(ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile.xcolor_space).strip()
    except (*DAMAGED, ImageCms.PyCMSError):
        return ""


def options(kind: str, said: About, mark: str = "", note: str = "") -> dict[str, Any]:
    """Pillow's options to save `said` in a format.

    Args:
      kind: Pillow's name of the format: PNG, JPEG, WEBP, TIFF or GIF.
      mark: what this is if not a picture, such as "sheet"; a PNG has it in a text chunk.
      note: how it was drawn; so, too.
    """
    found: dict[str, Any] = {}
    if kind in ("PNG", "JPEG", "WEBP", "TIFF"):
        found["icc_profile"] = said.icc  # None: none, rather than what Pillow finds on the picture
        if said.exif:
            found["exif"] = said.exif
    if kind in ("PNG", "JPEG", "TIFF") and said.dpi:
        found["dpi"] = said.dpi
    if kind in ("JPEG", "WEBP") and said.xmp:
        found["xmp"] = said.xmp
    if kind == "JPEG":
        for part in ("exif", "xmp"):
            if len(found.get(part) or b"") > _SEGMENT:
                logging.warning(
                    "%s of more than 64 KiB is left out: JPEG can't hold it", part.upper()
                )
                del found[part]
    if said.comment and (kind == "GIF" or (kind == "JPEG" and len(said.comment) <= _SEGMENT)):
        found["comment"] = said.comment
    if kind == "PNG":
        texts = PngImagePlugin.PngInfo()
        if mark:
            texts.add_text(MARK, mark)
        if note:
            texts.add_itxt(NOTE, note, zip=True)
        for name, chunk in said.chunks:
            texts.add(name, chunk)
        for key, text in said.texts:
            _add_text(texts, key, text)
        if said.xmp:
            texts.add_itxt(XMP, said.xmp.decode("utf-8", "replace"))
        if texts.chunks:
            found["pnginfo"] = texts
    return found


def _add_text(texts: PngImagePlugin.PngInfo, key: str, text: str) -> None:
    try:
        key.encode("latin-1"), text.encode("latin-1")
        texts.add_text(key, text, zip=len(text) > 1024)
    except UnicodeEncodeError:
        texts.add_itxt(key, text, zip=len(text) > 1024)


def is_marked(start: bytes) -> bool:
    """Whether a file that begins so is a PNG of ours that is no picture of its own."""
    return start[:8] == b"\x89PNG\r\n\x1a\n" and b"tEXt" + MARK.encode() + b"\0" in start
