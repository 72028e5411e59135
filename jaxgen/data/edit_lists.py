"""Published lists of edits of pictures by words, as they are published: TEdBench and PIE-Bench.

TEdBench (Kawar et al. 2023, "Imagic"): `input_list.json`, a list of {"img_name", "target_text"};
pictures in `originals/`. PIE-Bench (Ju et al. 2024, arXiv 2310.01506): `mapping_file.json`, an
object of {"image_path", "original_prompt", "editing_prompt", "editing_instruction",
"editing_type_id", "blended_word", "mask"} by name; pictures of 512 pixels in `annotation_images/`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data.text import unicode
from jaxgen.errors import UserError

PIE, TED = "PIE-Bench", "TEdBench"
# Of each: its list's file, and the folder of its pictures.
FILES = {PIE: ("mapping_file.json", "annotation_images"), TED: ("input_list.json", "originals")}
# PIE-Bench's `editing_type_id`.
TYPES = {
    "0": "random", "1": "change object", "2": "add object", "3": "delete object",
    "4": "change content", "5": "change pose", "6": "change colour", "7": "change material",
    "8": "change background", "9": "change style",
}  # fmt: skip


class Case(NamedTuple):
    """An edit that is asked for.

    Attributes:
      name: of its files, without ending.
      picture: what is edited; whether it is there nobody has looked.
      source: what it shows, in words; "" where the list does not say it.
      target: what it shall show.
      instruction: what is to be done, in words; "".
      type: of edit, see `TYPES`; "" where the list has none.
      blended: (word of the source, word of the target) that the edit is of; None.
      mask: where it may change, as runs (first pixel, count, first pixel, count, ...), row after
        row; None: the list does not say it.
    """

    name: str
    picture: Path
    source: str
    target: str
    instruction: str = ""
    type: str = ""
    blended: tuple[str, str] | None = None
    mask: tuple[int, ...] | None = None


class EditList(NamedTuple):
    """kind: `PIE` or `TED`. digest: SHA-256 in hex of the list's file."""

    kind: str
    cases: list[Case]
    digest: str


def read_edit_list(path: Path) -> EditList:
    """Reads a list; its form says which it is.

    Args: path: a folder as it is published, or the list's file in it.

    Raises:
      UserError: no such list; or names the entry that is wrong.
    """
    path = path.expanduser()
    if path.is_dir():
        there = [path / name for name, _ in FILES.values() if (path / name).is_file()]
        if len(there) != 1:
            names = " nor ".join(name for name, _ in FILES.values())
            why = f"neither {names}" if not there else "the lists of both TEdBench and PIE-Bench"
            raise UserError(f"{path} holds {why}: give the list's file")
        path = there[0]
    text = unicode.read_text(path)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UserError(f"{path}{where}: no JSON; fetch the list again") from None
    kind = PIE if isinstance(found, dict) else TED
    if not isinstance(found, dict | list) or not found:
        raise UserError(f"{path} is no list of edits: it holds no entries")
    entries: Any = found.items() if isinstance(found, dict) else enumerate(found)
    read: Any = _pie if isinstance(found, dict) else _ted
    cases = []
    for key, entry in entries:
        try:
            cases.append(read(key, entry, path))
        except UserError as error:
            raise UserError(f"{path}, entry {key}: {error}") from None
    return EditList(kind, cases, hashlib.sha256(text.encode()).hexdigest())


def mask_of(runs: Sequence[int], height: int, width: int) -> np.ndarray:
    """Where a picture may change, as PIE-Bench's code decodes it.

    The outermost pixels are always in it, which is to hide errors of annotation there; the last run
    is cut at the picture's end.

    Returns: bool (height, width).

    Raises:
      UserError: runs of a larger picture.
    """
    flat = np.zeros(height * width, bool)
    for start, count in zip(runs[::2], runs[1::2], strict=True):
        if start >= len(flat):
            raise UserError(f"the mask is of a larger picture than {width}x{height}")
        flat[start : start + count] = True
    mask = flat.reshape(height, width)
    mask[[0, -1]] = True
    mask[:, [0, -1]] = True
    return mask


def _pie(name: str, entry: Any, path: Path) -> Case:
    said = _texts(entry, ("image_path", "original_prompt", "editing_prompt"))
    if not name or Path(name).name != name or name.startswith("."):
        raise UserError("its name is none of a file: leave out slashes")
    # Ids are texts, but some copies have numbers.
    instruction, kind, blended = (
        str(entry[key]) if entry.get(key) is not None else ""
        for key in ("editing_instruction", "editing_type_id", "blended_word")
    )
    words = blended.split()
    runs = entry.get("mask")
    if runs is not None and not (
        isinstance(runs, list)
        and len(runs) % 2 == 0
        and all(isinstance(one, int) and one >= 0 for one in runs)
    ):
        raise UserError("its mask is no list of runs: first pixel, count, first pixel, count, ...")
    # Brackets mark what changes.
    source, target = (
        said[key].replace("[", "").replace("]", "") for key in ("original_prompt", "editing_prompt")
    )
    return Case(
        name,
        _picture(path, PIE, said["image_path"]),
        source,
        target,
        instruction,
        kind,
        (words[0], words[1]) if len(words) > 1 else None,
        None if runs is None else tuple(runs),
    )


def _ted(number: int, entry: Any, path: Path) -> Case:
    said = _texts(entry, ("img_name", "target_text"))
    return Case(f"{number:03d}", _picture(path, TED, said["img_name"]), "", said["target_text"])


def _texts(entry: Any, keys: tuple[str, ...]) -> dict[str, str]:
    if not isinstance(entry, dict):
        raise UserError(f"it is no object with {', '.join(keys)}")
    for key in keys:
        if not isinstance(entry.get(key), str) or not entry[key]:
            raise UserError(f"it has no text {key}")
    return {key: entry[key] for key in keys}


def _picture(path: Path, kind: str, name: str) -> Path:
    """In the folder of the published form, or beside the list."""
    beside = path.parent / name
    published = path.parent / FILES[kind][1] / name
    return beside if beside.is_file() else published
