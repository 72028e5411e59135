"""TIRG's CSS file, read without running what it holds, and written.

The published file is a pickle of Python 2 inside a .npy file, and a pickle can call anything. Here
only the handful of names that make NumPy numbers and arrays are let in.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.errors import UserError
from jaxgen.whole import replacing

FILE = "css_toy_dataset_novel2_small.dup.npy"


def _latin1(text: str, encoding: str) -> bytes:
    """What Python 3 pickles bytes by; of no other function are bytes made."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in {encoding}")
    return text.encode("latin1")


_reconstruct: Any = np.array(0).__reduce__()[0]
_scalar: Any = np.float64(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,
    **{
        (f"numpy.{core}.multiarray", name): made
        for core in ("core", "_core")
        for name, made in (("_reconstruct", _reconstruct), ("scalar", _scalar))
    },
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _ALLOWED.get((module, name))
        if found is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which data need not")
        return found


def read(path: str | os.PathLike) -> dict[str, dict[str, Any]]:
    """{split: {"objects_img", "mods", ...}} of a file in TIRG's layout, of Python 2 or 3.

    Texts become str and NumPy numbers stay such. Nothing in the file is run.

    Raises:
      UserError: no such file, another form, or a pickle that calls for code.
    """
    try:
        raw = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    stream = io.BytesIO(raw)
    try:
        version = np.lib.format.read_magic(stream)
        reader = getattr(np.lib.format, f"read_array_header_{version[0]}_{version[1]}")
        shape, _, dtype = reader(stream)
        if shape != () or not dtype.hasobject:
            raise ValueError("no single object")
        held = _Reader(stream, encoding="latin1").load()
        found = held.item() if isinstance(held, np.ndarray) else held
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} was not opened: {error}") from None
    except Exception as error:  # a damaged pickle raises anything
        raise UserError(f"{path} is no file of CSS ({type(error).__name__})") from None
    if not _is_css(found):
        raise UserError(f"{path} is no file of CSS: it must hold objects_img and mods by split")
    return found


def write(path: str | os.PathLike, splits: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes TIRG's layout, whole or not at all.

    Raises:
      UserError: it can't be written.
    """
    path = Path(path).expanduser()
    held = {split: dict(parts) for split, parts in splits.items()}
    with replacing(path) as part:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            np.save(file, np.array(held, dtype=object), allow_pickle=True)


def _is_css(found: Any) -> bool:
    if not isinstance(found, dict) or not found:
        return False
    for part in found.values():
        if not isinstance(part, dict) or not {"objects_img", "mods"} <= part.keys():
            return False
        if not all(
            isinstance(mod, dict) and {"from", "to", "to_str"} <= mod.keys() for mod in part["mods"]
        ):
            return False
    return True
