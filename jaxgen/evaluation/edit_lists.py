"""A model's edits of a published list (TEdBench, PIE-Bench), made and measured.

    cases = read_edit_list(Path("PIE-Bench"))     # of jaxgen.data.edit_lists
    evaluate(jaxgen.load("RUN").edit, cases, Path("out"), EditJudge(clip), How("p2p"))["mean"]

Both end where they were stopped and go on from there: each edit is a file, each picture's numbers a
line. Pictures are edited and measured at the model's own size, to which they and their masks are
fitted: PIE-Bench's tables are of 512 pixels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data.edit_lists import TYPES, Case, EditList, mask_of
from jaxgen.data.picture_files import read_image
from jaxgen.errors import UserError
from jaxgen.evaluation.edit_judge import EditJudge, Shown
from jaxgen.evaluation.report import finite
from jaxgen.log import log
from jaxgen.verbs import settings
from jaxgen.verbs.edit import files
from jaxgen.verbs.edit.contract import Request
from jaxgen.verbs.edit.use import Changer
from jaxgen.verbs.generate.begin import fitted
from jaxgen.weights.digests import sampled_fingerprint
from jaxgen.whole import replacing

ABOUT, SCORES, EDITS = "about.json", "scores.jsonl", "edits"
_BLOCK = 10  # pictures that are held at once, at least; with their sources a batch of a CLIP

# (what is done, how many are, of how many); what it raises ends the work.
Progress = Callable[[str, int, int], None]


class How(NamedTuple):
    """How a list is edited.

    Attributes:
      method: "": the model's first.
      options: of it. Where neither blend nor weight is among them and the method has them, the
        list's own words are taken: the picture changes where they are, and the target's counts
        twice, as in PIE-Bench's runs of Prompt-to-Prompt.
      source: what pictures show whose list does not say it.
      instructed: the model is told what to do and not what the result shall show.
      seed: of all edits.
      batch: edits at a time; None: as suits the pictures' size.
    """

    method: str = ""
    options: Mapping[str, Any] = MappingProxyType({})
    source: str = ""
    instructed: bool = False
    seed: int = 0
    batch: int | None = None


def evaluate(
    use: Changer,
    listed: EditList,
    out: Path,
    judge: EditJudge,
    how: How | None = None,
    count: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Edits what is not edited yet, measures what is not measured yet, and sums up.

    Args:
      out: a folder: edits/NAME.png with their sheets; scores.jsonl, a line for each picture; and
        about.json, what the edits are by.
      count: so many of the list, evenly chosen; 0: all.

    Returns: {"list", "model", "method", "options", ..., "pictures": measured, "missing": {name:
      why} of pictures that are not there, "failed": the same of edits that cannot be, "measured
      by", "left out", "mean", "equal": how many are kept without a difference, whose PSNR no mean
      holds, "by type": {id: {"type", "pictures", "mean"}} where the list has types}.

    Raises:
      UserError: what the method does not do, edits of other settings in the folder, or no edit.
    """
    how = how or How()
    cases = list(listed.cases)
    if count and count < len(cases):
        cases = [cases[i * len(cases) // count] for i in range(count)]
    method = how.method or next(iter(use.verb.methods))
    settings(use.method(method).options, how.options, use.name)
    _check_texts(use, method, cases, how)
    about = {
        "list": listed.kind, "list digest": listed.digest,
        "weights": sampled_fingerprint(use.variables), "method": method,
        "options": dict(how.options), "seed": how.seed, "source": how.source,
        "instructed": how.instructed,
    }  # fmt: skip
    missing = {
        case.name: f"no picture {case.picture}" for case in cases if not case.picture.is_file()
    }
    there = [case for case in cases if case.name not in missing]
    if not there:
        raise UserError(f"none of the {len(cases)} pictures is there: {cases[0].picture} is not")
    _own(out, about)
    failed = _edit(use, there, out, method, how, progress)
    done = [case for case in there if case.name not in failed]
    if not done:
        raise UserError(f"none could be edited: {next(iter(failed.values()))}")
    lines = _measure(use, done, out, judge, progress)
    numbers = [lines[case.name] for case in done]
    equal = sum(any(math.isinf(x) for x in one.values()) for one in numbers)
    found = {
        "model": use.name, **about, "pictures": len(done), "missing": missing, "failed": failed,
        "measured by": judge.by, "left out": judge.left_out, "mean": mean(numbers), "equal": equal,
    }  # fmt: skip
    if types := sorted({case.type for case in done} - {""}):
        found["by type"] = {
            one: _of_type(one, [lines[case.name] for case in done if case.type == one])
            for one in types
        }
    return found


def mean(numbers: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each number, over the pictures that have it, without infinite ones; exact in any order."""
    names = dict.fromkeys(name for one in numbers for name in one)
    found = {
        name: [one[name] for one in numbers if math.isfinite(one.get(name, math.nan))]
        for name in names
    }
    return {name: math.fsum(values) / len(values) for name, values in found.items() if values}


def _of_type(one: str, numbers: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    return {"type": TYPES.get(one, ""), "pictures": len(numbers), "mean": mean(numbers)}


def _check_texts(use: Changer, method: str, cases: Sequence[Case], how: How) -> None:
    """Before anything is done: are there the texts that the method asks for?"""
    captioned = use.method(method).captioned
    if captioned and not how.source and not all(case.source for case in cases):
        others = [
            name for name, one in use.verb.methods.items() if not one.captioned and not one.refuses
        ]
        rest = f", or --method {' or '.join(others)}" if others else ""
        raise UserError(
            f"{method} must be told what the pictures show, and the list does not say it: give "
            f'--source, such as "a photo"{rest}'
        )
    if how.instructed and not all(case.instruction for case in cases):
        raise UserError("the list has no instructions: leave out --instructions")


def _own(out: Path, about: Mapping[str, Any]) -> None:
    """Writes what the folder's edits are by, or raises where they are by something else."""
    path = out / ABOUT
    (out / EDITS).mkdir(parents=True, exist_ok=True)
    if path.exists():
        try:
            found = dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            raise UserError(f"{path} cannot be read: give another -o") from None
        wanted = json.loads(json.dumps(about))
        if differing := [key for key in wanted if found.get(key) != wanted[key]]:
            others = ", ".join(differing)
            raise UserError(f"{out} holds edits of other settings ({others}): give another -o")
        return
    with replacing(path) as part:
        part.write_text(json.dumps(about, indent=2) + "\n")


# ---- edits ---------------------------------------------------------------------------------------


def _edit(
    use: Changer,
    cases: Sequence[Case],
    out: Path,
    method: str,
    how: How,
    progress: Progress | None,
) -> dict[str, str]:
    """Makes those that are not there; gives the names of those that cannot be, and why."""
    failed: dict[str, str] = {}
    said = set()
    todo = [case for case in cases if not _file(out, case).exists()]
    done = 0
    for block in _blocks(todo, max(_BLOCK, how.batch or 0)):
        jobs = []
        for case in block:
            try:
                jobs.append(_job(use, case, method, how))
            except UserError as error:
                failed[case.name] = str(error)
                log.warning("%s is left out: %s", case.name, error)
                continue
            said.add(jobs[-1].about["size"])
        results = use.each([job.request for job in jobs], batch=how.batch)
        for job, edited in zip(jobs, results, strict=True):
            files.write(out / EDITS, job.name, ".png", job.request, edited, job.about)
            done += 1
            if progress:
                progress("edited", done, len(todo))
    if others := said - {use.verb.size[::-1]}:
        log.warning(
            "pictures of %s are fitted to %s, what is drawn: numbers do not compare with those of "
            "other sizes",
            ", ".join(f"{w}x{h}" for w, h in sorted(others)[:3]), "x".join(map(str, use.verb.size)),
        )  # fmt: skip
    return failed


def _job(use: Changer, case: Case, method: str, how: How) -> files.Job:
    """The edit that is asked for. Raises UserError: it cannot be."""
    picture, mask, size = _seen(use, case)
    del mask
    source = (case.source or how.source) if use.method(method).captioned else ""
    target = case.instruction if how.instructed else case.target
    words = _words(use, case, method, how)
    request = Request(
        source, (target,), picture, seed=how.seed, method=method, options={**how.options, **words}
    )
    if words:
        try:
            use.prepare(request)
        # Published lists have words that are not in their texts; there the words say nothing.
        except UserError:
            request = request._replace(options=how.options)
    use.prepare(request)
    return files.Job(case.name, request, {"picture": case.picture.name, "size": size})


def _words(use: Changer, case: Case, method: str, how: How) -> dict[str, str]:
    if case.blended is None or {"blend", "weight"} & how.options.keys():
        return {}
    old, new = case.blended
    known = use.method(method).options
    wanted = {"blend": f"{old}:{new}", "weight": f"{new}:2"}
    return {name: value for name, value in wanted.items() if name in known}


def _seen(use: Changer, case: Case) -> tuple[np.ndarray, np.ndarray | None, tuple[int, int]]:
    """Picture and mask as the model takes them, and the picture's own (width, height)."""
    picture = read_image(case.picture)
    height, width = picture.shape[:2]
    mask = None if case.mask is None else mask_of(case.mask, height, width)
    return *fitted(picture, mask, *use.verb.size), (width, height)


def _file(out: Path, case: Case) -> Path:
    return out / EDITS / f"{case.name}.png"


# ---- numbers -------------------------------------------------------------------------------------


def _measure(
    use: Changer, cases: Sequence[Case], out: Path, judge: EditJudge, progress: Progress | None
) -> dict[str, dict[str, float]]:
    """Numbers by name; those that are not in the file yet are measured and added to it."""
    path = out / SCORES
    there = _read_scores(path, judge.by)
    todo = [case for case in cases if case.name not in there]
    # Written anew: a line may be half, or the numbers be by other weights.
    with replacing(path) as part:
        part.write_text("".join(_line(one) for one in [{"by": judge.by}, *there.values()]))
    with open(path, "a") as file:
        done = 0
        for block in _blocks(todo, _BLOCK):
            shown = []
            for case in block:
                picture, mask, _ = _seen(use, case)
                edited = read_image(_file(out, case))
                if edited.shape != picture.shape:
                    raise UserError(f"{_file(out, case)} is of another size; delete it")
                shown.append(Shown(picture, edited, mask, case.source, case.target))
            for case, one, numbers in zip(block, shown, judge.numbers(shown), strict=True):
                there[case.name] = {
                    "name": case.name, "type": case.type, "picture": case.picture.name,
                    "source": case.source, "target": case.target,
                    "edited share": None if one.mask is None else float(one.mask.mean()),
                    "numbers": numbers,
                }  # fmt: skip
                file.write(_line(there[case.name]))
            file.flush()
            done += len(block)
            if progress:
                progress("measured", done, len(todo))
    return {name: one["numbers"] for name, one in there.items()}


def _line(value: dict[str, Any]) -> str:
    return json.dumps(finite(value)) + "\n"


def _read_scores(path: Path, by: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Lines by name; none where there is no file, or its numbers are by something else."""
    if not path.exists():
        return {}
    found = {}
    lines = path.read_text().splitlines()
    try:
        if json.loads(lines[0])["by"] != by:
            return {}
        for line in lines[1:]:
            one = json.loads(line)
            # JSON has no infinity, the PSNR of equal pictures.
            numbers = {k: math.inf if v is None else float(v) for k, v in one["numbers"].items()}
            found[str(one["name"])] = {**one, "numbers": numbers}
    except (ValueError, LookupError, TypeError, AttributeError):
        pass  # the rest of a file whose writing was stopped
    return found


def _blocks(cases: Sequence[Case], size: int) -> Iterator[Sequence[Case]]:
    for start in range(0, len(cases), size):
        yield cases[start : start + size]
