"""Upscaled pictures measured in shares, by several processes, and put together again.

A share's report holds its pictures' numbers and what they are of; the whole's is the same as
without shares, to the last bit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jaxgen.data.shard import Shard, together
from jaxgen.errors import UserError
from jaxgen.evaluation import report, sr

KIND = "jaxgen eval upscale, a share"
# What a share's report says besides the whole's, to tell shares of another evaluation: the weights
# of the further measures, and a digest of the pictures' names.
OF_SHARES = ("measures asked for", "list of pictures")


def write_share(
    path: Path, shard: Shard, about: dict[str, Any], images: Iterable[dict[str, Any]]
) -> None:
    """Writes a share's report.

    Args:
      about: what all shares of an evaluation have in common, as JSON.
      images: of `jaxgen.evaluation.sr.measured`.

    Raises:
      UserError: the file can't be written.
    """
    written = [_spelled(image) for image in images]
    whole = {"kind": KIND, "share": [shard.number, shard.count], "about": about, "images": written}
    report.write_report(path, whole)


def is_written(path: Path, shard: Shard, about: dict[str, Any]) -> bool:
    """Whether the file holds this share's report already; UserError if it holds something else."""
    if not path.exists():
        return False
    found = _read(path)
    same = found["about"] == json.loads(json.dumps(about))
    if not same or found["share"] != [shard.number, shard.count]:
        raise UserError(f"{path} is of another evaluation or share; give another --json")
    return True


def join(paths: Sequence[Path]) -> tuple[dict[str, Any], sr.Scores]:
    """(what was common to all shares, the whole's scores) of the reports of all shares.

    Raises:
      UserError: a file that is no share's report, shares of several evaluations or of another state
        of the folder, one that is missing or comes twice.
    """
    if not paths:
        raise UserError("--join needs the files of all shares")
    found = {path: _read(path) for path in paths}
    first = found[paths[0]]
    count = first["share"][1]
    by_number: dict[int, Path] = {}
    for path, one in found.items():
        number, of = one["share"]
        common = {"count": of, **one["about"]}
        for key, value in {"count": count, **first["about"]}.items():
            if common.get(key) != value:
                raise UserError(f"{path} and {paths[0]} differ in their {key}: not of one whole")
        if number in by_number:
            raise UserError(f"{path} and {by_number[number]} are both share {number}/{count}")
        by_number[number] = path
    if missing := [str(n) for n in range(1, count + 1) if n not in by_number]:
        raise UserError(f"of {count} shares these are missing: {', '.join(missing[:20])}")
    try:
        images = together([found[by_number[n]]["images"] for n in range(1, count + 1)])
    except ValueError as error:
        raise UserError(f"the shares are not of one whole: {error}") from None
    numbers = list(images[0]["bicubic"]) if images else []
    return first["about"], sr.averaged(images, {key: sr.named(key) for key in numbers})


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
        number, count = found["share"]
        if found["kind"] != KIND or not 1 <= int(number) <= int(count):
            raise ValueError
        images = [{"name": str(i["name"]), **_numbers(i)} for i in found["images"]]
        return {"share": [number, count], "about": dict(found["about"]), "images": images}
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is no report of a share (jaxgen eval upscale --shard)") from None


def _spelled(image: dict[str, Any]) -> dict[str, Any]:
    """Infinities (the PSNR of equal pictures) as text, which JSON can hold."""
    return {"name": image["name"]} | {
        kind: {k: v if math.isfinite(v) else str(v) for k, v in values.items()}
        for kind, values in image.items()
        if kind != "name"
    }


def _numbers(image: dict[str, Any]) -> dict[str, Any]:
    return {
        kind: {str(k): float(v) for k, v in values.items()}
        for kind, values in image.items()
        if kind != "name"
    }
