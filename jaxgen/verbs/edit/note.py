"""What a PNG says of how it was edited, so that it can be done again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxgen.data.picture_drawn import read_note
from jaxgen.errors import NO_JSON, UserError
from jaxgen.verbs.edit.contract import Request
from jaxgen.verbs.generate.note import of_file

FORMAT = "edit-2"
_HELD: dict[str, Any] = {
    "method": str, "source": str, "target": str, "seed": int, "number": int, "options": dict,
    "model": str, "weights": str, "picture": str | None, "mask": str | None, "sha256": dict,
}  # fmt: skip


def text(request: Request, target: str, about: Mapping[str, Any]) -> str:
    """The note of one result. about: what else."""
    said = {
        "format": FORMAT, "method": request.method, "source": request.source, "target": target,
        "seed": request.seed, "number": request.number, "options": dict(request.options),
    }  # fmt: skip
    return json.dumps({**said, **about})


def of_files(picture: Path | None, mask: Path | None) -> dict[str, Any]:
    """What is noted of the files of an edit. Raises UserError: one cannot be read."""
    held = {"picture": of_file(picture), "mask": of_file(mask)}
    paths = {name: one and one["path"] for name, one in held.items()}
    return {**paths, "sha256": {name: one and one["sha256"] for name, one in held.items()}}


def read(path: Path) -> dict[str, Any]:
    """The note of a PNG.

    Raises:
      UserError: there is none, or it is none of an edit of ours.
    """
    found = read_note(path.expanduser())
    if not found:
        raise UserError(
            f"{path} does not say how it was edited: only PNGs of `jaxgen edit` as they were "
            "written do"
        )
    about: Any = None
    try:
        about = json.loads(found)
        format_ = about["format"]
        fine = all(isinstance(about[key], kind) for key, kind in _HELD.items())
        fine &= {"picture", "mask"} <= set(about["sha256"])
    except (*NO_JSON, LookupError, TypeError):
        format_, fine = about.get("format") if isinstance(about, dict) else None, False
    if format_ != FORMAT:
        raise UserError(
            f"{path} notes no edit that this jaxgen can read; of drawn pictures `jaxgen generate "
            "--from-png` draws them again"
        )
    if not fine:
        raise UserError(f"{path}: its note of how it was edited is damaged")
    return {key: about[key] for key in _HELD}
