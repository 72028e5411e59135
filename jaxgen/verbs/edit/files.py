"""What `jaxgen edit` does with files: results, sheets, maps of words, lists of edits."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data.picture_drawn import read_note
from jaxgen.data.picture_files import read_image, write_image
from jaxgen.data.text import unicode
from jaxgen.errors import UserError, near, shown
from jaxgen.grid import captioned_grid
from jaxgen.grid import enlarge as larger
from jaxgen.verbs.edit import note
from jaxgen.verbs.edit.contract import Request
from jaxgen.verbs.edit.found import ENDING
from jaxgen.verbs.edit.use import Edited
from jaxgen.verbs.files import FORMATS
from jaxgen.verbs.generate.files import stems
from jaxgen.verbs.upscale import beside
from jaxgen.verbs.upscale.use import Upscaler

# Keys of a line of a list, and of which type; all others are options of the method.
_KEYS: dict[str, Any] = {
    "name": str, "picture": str, "mask": str, "source": str, "target": str | list, "method": str,
    "seed": int, "number": int,
}  # fmt: skip
# Bytes: what stands behind it, "_attention.png" or a target's number, must have room, too.
_LONGEST_NAME = 200


class Job(NamedTuple):
    """An edit of a list: its files' name without ending, and what a PNG says of it."""

    name: str
    request: Request
    about: Mapping[str, Any]


def names(targets: tuple[str, ...], name: str) -> list[str]:
    """Of the files of a request's results, without ending."""
    return [name] if len(targets) == 1 else [f"{name}_{i}" for i in range(len(targets))]


def name_of(request: Request) -> str:
    """A file's name for a request, by the words of its first target and, if drawn, its noise."""
    words = stems(request.targets[:1])[0]
    return words if request.picture is not None else f"{words}_seed{request.seed}_{request.number}"


def read_list(path: Path, base: Request) -> list[Job]:
    """The edits of a JSONL file, an object a line; see docs/editing.md.

    Args: base: what a line does not say.

    Raises:
      UserError: no such file, a line that is no edit, a picture that cannot be read.
    """
    jobs: list[Job] = []
    lines = unicode.read_text(path.expanduser()).splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            jobs.append(_job(json.loads(line), path.expanduser().parent, base, len(jobs)))
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
        except (ValueError, RecursionError):
            raise UserError(f"{path}, line {number}: no JSON; write an object a line") from None
    if not jobs:
        raise UserError(f"{path} holds no edits: write one JSON object a line")
    said = [job.name for job in jobs]
    if len(set(said)) < len(said):
        twice = next(name for name in said if said.count(name) > 1)
        raise UserError(f"{path}: the name {twice!r} stands twice; give each edit its own")
    return jobs


def _job(line: Any, folder: Path, base: Request, index: int) -> Job:
    if not isinstance(line, dict):
        raise UserError('write an object, as {"source": "a cat", "target": "a dog"}')
    for key, kind in _KEYS.items():
        if key in line and (not isinstance(line[key], kind) or isinstance(line[key], bool)):
            raise UserError(f"{key} is {shown(line[key])}, of another type")
    if "target" not in line:
        raise UserError(f"say what it shall show: target{near('target', tuple(line))}")
    target = line["target"]
    targets = (target,) if isinstance(target, str) else tuple(target)
    if not targets or not all(isinstance(one, str) for one in targets):
        raise UserError("target is a text or several")
    paths = {
        key: folder / Path(line[key]).expanduser() for key in ("picture", "mask") if key in line
    }
    pictures = {key: read_image(path) for key, path in paths.items()}
    options = {**base.options, **{key: x for key, x in line.items() if key not in _KEYS}}
    if str(line.get("inversion", "")).endswith(ENDING):  # found beside the list, as pictures are
        options["inversion"] = str(folder / Path(line["inversion"]).expanduser())
    request = base._replace(
        source=line.get("source", base.source), targets=targets,
        picture=pictures.get("picture", base.picture), mask=pictures.get("mask", base.mask),
        seed=line.get("seed", base.seed), number=line.get("number", base.number),
        method=line.get("method", base.method), options=options,
    )  # fmt: skip
    name = line.get("name", f"{index:05d}_{name_of(request)}")
    if not name or Path(name).name != name or name.startswith(".") or not name.isprintable():
        raise UserError(f"the name {shown(name)} is none of a file: leave out slashes")
    if len(os.fsencode(name)) > _LONGEST_NAME:
        raise UserError(f"the name {shown(name)} is too long: {_LONGEST_NAME} bytes at most")
    return Job(name, request, note.of_files(paths.get("picture"), paths.get("mask")))


def check_out(out: Path) -> bool:
    """Whether OUT means a folder. Raises UserError: a file's name of another format."""
    if out.is_dir() or not out.suffix:
        return True
    if out.suffix.lower() not in FORMATS:
        raise UserError(f"{out}: cannot write {out.suffix}; use .png, .jpg or .webp, or a folder")
    return False


def write(
    folder: Path, name: str, ending: str, request: Request, edited: Edited, about: Mapping[str, Any]
) -> list[Path]:
    """Writes NAME_attention and NAME_sheet, then the results, with which the work is done.

    Returns: what was written, results first.
    """
    more = []
    if edited.maps:
        more.append(folder / f"{name}_attention{ending}")
        write_image(more[-1], attention_sheet(request, edited), mark="sheet")
    more.append(folder / f"{name}_sheet{ending}")
    write_image(more[-1], sheet(request, edited), mark="sheet")
    paths = [folder / f"{one}{ending}" for one in names(request.targets, name)]
    for path, target, picture in zip(paths, request.targets, edited.pictures, strict=True):
        write_image(path, picture, note=note.text(request, target, about))
    return [*paths, *more]


def enlarge(
    folder: Path,
    job: Job,
    ending: str,
    upscale: Upscaler,
    check: Callable[[], None],
    made: Sequence[tuple[np.ndarray, str]] = (),
) -> list[Path]:
    """Writes each result a second time, enlarged: NAME_x4; gives where they lie.

    Args: check: called now and then; raises what is to end the work. made: pictures and notes of
      results that are new; (): of the files that are there those that were not enlarged yet.
    """
    written = []
    for i, name in enumerate(names(job.request.targets, job.name)):
        source = folder / f"{name}{ending}"
        target = beside.place(source, upscale.scale)
        if not made and target.exists():
            continue
        picture, said = made[i] if made else (read_image(source), read_note(source))
        beside.write(upscale, picture, target, said, check)
        written.append(target)
    return written


def sheet(request: Request, edited: Edited) -> np.ndarray:
    """source | reconstruction | edits, with captions, uint8 (h, w, 3)."""
    row = [(request.source or "source", larger(edited.source))]
    if edited.reconstruction is not None:
        row.append((f"reconstruction, MSE {edited.error:.2f}", larger(edited.reconstruction)))
    row += [
        (target, larger(picture))
        for target, picture in zip(request.targets, edited.pictures, strict=True)
    ]
    return np.asarray(captioned_grid([row]))


def attention_sheet(request: Request, edited: Edited) -> np.ndarray:
    """Of the source and of each target a row: the picture, and where each word looked."""
    shown = [edited.source, *edited.pictures]
    rows = []
    for picture, maps in zip(shown, edited.maps, strict=True):
        large = larger(picture)
        row = [("", large)]
        for word, seen in maps:
            row.append((word, _gray(seen, large.shape[:2])))
        rows.append(row)
    return np.asarray(captioned_grid(rows, titles=[request.source, *request.targets]))


def _gray(seen: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map in [0, 1] as a picture of that size, by the nearest place."""
    down, across = (np.arange(n) * m // n for n, m in zip(size, seen.shape, strict=True))
    level = np.round(seen[down][:, across] * 255).astype(np.uint8)
    return np.repeat(level[..., None], 3, axis=-1)
