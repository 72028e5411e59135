"""What `jaxgen reconstruct`, `encode` and `decode` do with files."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data.captioned.depth import read_depth
from jaxgen.data.captioned.segmentation import read_classes
from jaxgen.data.picture_files import read_image_with_alpha, write_image
from jaxgen.errors import NO_JSON, UserError
from jaxgen.verbs.encode.use import Coder
from jaxgen.whole import replacing

SUFFIX = ".npz"
# What reading a damaged .npz raises besides.
_NO_ZIP = (zipfile.BadZipFile, zlib.error, NotImplementedError)


class Codes(NamedTuple):
    """One file of codes.

    codes: as `Coder` gives them. size: (height, width) of the picture. about: "model", its name,
    and "fingerprint", of its weights.
    """

    codes: np.ndarray
    size: tuple[int, int]
    about: dict[str, Any]


def read_picture(path: Path, kind: str) -> np.ndarray:
    """A picture of a model's kind; gray photos as (h, w), transparency is left out.

    Raises:
      UserError: unreadable, or of another kind.
    """
    if kind == "segmentation":
        return read_classes(path)
    if kind == "depth":
        return read_depth(path)
    rgb, _, gray = read_image_with_alpha(path)
    return np.ascontiguousarray(rgb[..., 0]) if gray else rgb


def write_picture(path: Path, picture: np.ndarray, kind: str) -> None:
    """What `Coder.decode` gave; a segmentation's file has the values that `read_picture` takes."""
    if kind == "segmentation":
        picture = picture - np.uint8(1)
    gray = picture.ndim == 2
    rgb = np.repeat(picture[..., None], 3, axis=2) if gray else picture
    write_image(path, rgb, gray=gray)


def write_codes(path: Path, coder: Coder, codes: np.ndarray, size: tuple[int, int]) -> int:
    """Writes a .npz, whole or not at all; returns its bytes.

    Codes have the smallest unsigned type that holds the codebook.

    Raises:
      UserError: it can't be written.
    """
    about = {"model": coder.name, "fingerprint": coder.fingerprint, "size": list(size)}
    if coder.codes:
        codes = codes.astype(np.min_scalar_type(coder.codes - 1))
    with replacing(path) as part:
        with open(part, "wb") as file:
            np.savez_compressed(file, codes=codes, about=np.array(json.dumps(about)))
        return part.stat().st_size


def read_codes(path: Path, coder: Coder | None = None) -> Codes:
    """Reads a file of codes.

    Args: coder: of the model that is to decode them; None: any.

    Raises:
      UserError: no such file, or codes of another model.
    """
    try:
        with np.load(path) as arrays:
            codes = arrays["codes"]
            about = json.loads(str(arrays["about"]))
        size = (int(about["size"][0]), int(about["size"][1]))
        made_by = f"{about['model']} ({about['fingerprint'][:12]})"
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from None
    except (*NO_JSON, LookupError, TypeError, EOFError, OverflowError, *_NO_ZIP):
        raise UserError(f"{path} is no file of codes: jaxgen encode writes such") from None
    if coder is not None and about["fingerprint"] != coder.fingerprint:
        raise UserError(
            f"{path} was encoded by {made_by}, and {coder.name} ({coder.fingerprint[:12]}) has "
            "other weights: decode it with the model that encoded it"
        )
    return Codes(codes, size, about)
