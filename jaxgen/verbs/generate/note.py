"""What a PNG says of how it was drawn, so that it can be drawn again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxgen.data.picture_drawn import read_note
from jaxgen.errors import NO_JSON, UserError

FORMAT = 1
# What a note holds beside its format, and of which type.
_HELD: dict[str, Any] = {
    "model": str,
    "weights": str,
    "prompts": list,
    "n": int,
    "seed": int,
    "first": int,
    "same_noise": bool,
    "size": list | None,
    "batch": int | None,
    "options": dict,
    "init": dict | None,
    "mask": dict | None,
    "start_from": str | None,
    "upscale": str | None,
}


def text(about: Mapping[str, Any]) -> str:
    """The note of a picture or a sheet; "" of nothing. about: the keys of `_HELD`."""
    return json.dumps({"format": FORMAT, **about}) if about else ""


def of_one(about: Mapping[str, Any], prompt: str, number: int) -> dict[str, Any]:
    """Of one picture of a sheet."""
    return {**about, "prompts": [prompt], "n": 1, "first": number} if about else {}


def of_file(path: Path | None) -> dict[str, str] | None:
    """What is noted of a picture that another began with; None: there was none.

    Raises:
      UserError: no such file.
    """
    if path is None:
        return None
    try:
        found = hashlib.sha256(path.expanduser().read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    return {"path": str(path), "sha256": found}


def read(path: Path) -> dict[str, Any]:
    """The note of a PNG.

    Raises:
      UserError: there is none, or it is none of ours.
    """
    found = read_note(path.expanduser())
    if not found:
        raise UserError(
            f"{path} does not say how it was drawn: only PNGs of `jaxgen generate` as they were "
            "written do"
        )
    try:
        about = json.loads(found)
        known = about.pop("format") == FORMAT
        fine = all(isinstance(about[key], kind) for key, kind in _HELD.items())
        fine &= all(isinstance(one, str) for one in about["prompts"])
        fine &= all(isinstance(one, int) for one in about["size"] or (1, 1))
        fine &= all(
            isinstance(about[key] and about[key][part], str | None)
            for key in ("init", "mask")
            for part in ("path", "sha256")
        )
    except (*NO_JSON, LookupError, TypeError, AttributeError):
        known, fine = True, False
    if not known:
        raise UserError(f"{path} was drawn by another jaxgen, whose notes this one cannot read")
    if not fine:
        raise UserError(f"{path}: its note of how it was drawn is damaged")
    return {key: about[key] for key in _HELD}


def check_file(path: Path, noted: Mapping[str, str], flag: str) -> None:
    """Raises UserError for another file than the one that was noted. flag: that names it."""
    try:
        found = of_file(path)
    except UserError as error:
        raise UserError(f"{error}; give {flag} where it is now") from None
    if found is None or found["sha256"] != noted["sha256"]:
        raise UserError(f"{path} is not the picture that was used: give {flag} where that is now")
