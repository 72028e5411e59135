"""Runs the command in this process on hostile input, in a folder with a few things to name.

A case passes where the command ends by itself, with the wanted exit code, and a failure says one
line that holds the wanted words. Any other exception is a traceback that a user would see.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).resolve().parent / "corpus"
# Of Typer's and Click's own messages only the words count: they draw frames around them.
FRAMED = ("Usage:",)


def cases(name: str) -> list[dict[str, Any]]:
    """The cases of a file of the corpus."""
    lines = (CORPUS / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def picture(path: Path) -> None:
    """Writes a small picture, as PNG whatever the name."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    with open(path, "wb") as file:
        Image.fromarray(pixels).save(file, format="PNG")


def furnish(folder: Path) -> dict[str, str]:
    """Makes what commands name, and gives the paths by their names in the corpus."""
    places = {"long": "x" * 300, "out": str(folder / "out")}
    for name in ("pics", "empty", "run"):
        (folder / name).mkdir()
        places[name] = str(folder / name)
    for name in ("pic.png", "pics/a.png", "pics/b.png"):
        picture(folder / name)
    files = {
        "text": b"these are words, ((( and no Python\n",
        "bad": (folder / "pic.png").read_bytes()[:60],
        "config": b"def get_config(arg=''):\n    return 3\n",
        "space": b"SPACE = {'train.steps': {'int': (1, 2)}}\n",
        "space_key": b"SPACE = {'train.stps': {'int': (1, 2)}}\n",
        "space_range": b"SPACE = {'train.steps': {'int': (2, 1)}}\n",
        "space_kind": b"SPACE = {'train.steps': {'integer': (1, 2)}}\n",
    }
    for name, content in files.items():
        ending = {"text": ".txt", "bad": ".png"}.get(name, ".py")
        (folder / f"{name}{ending}").write_bytes(content)
        places[name] = str(folder / f"{name}{ending}")
    places["pic"] = str(folder / "pic.png")
    for name in ("srgan", "dfgan", "stackgan"):
        places[name] = str(REPOSITORY / "configs" / f"{name}.py")
    places["srgan_typo"] = str(REPOSITORY / "configs" / "sragn.py")
    return places


class Outcome(NamedTuple):
    """code: None where an exception came out. said: stdout and stderr together."""

    code: int | None
    said: str
    errors: str


def run(arguments: list[str], places: dict[str, str], encoding: str = "utf-8") -> Outcome:
    """The command `jaxgen` with these arguments, in this process.

    encoding: of its output.
    """
    from jaxgen import cli

    given = [argument.format(**places) for argument in arguments]
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    before = sys.argv
    sys.argv = ["jaxgen", *given]
    code: int | None = None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.main()
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            except BaseException:
                err.write(traceback.format_exc())
    finally:
        sys.argv = before
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode("utf-8", "replace"))  # type: ignore[attr-defined]
    return Outcome(code, "".join(texts), texts[1])


def faults(case: dict[str, Any], found: Outcome) -> Iterator[str]:
    """What is wrong with a case's outcome."""
    if found.code is None or "Traceback" in found.said:
        yield f"a traceback: {' '.join(found.said.split())[-300:]}"
        return
    if found.code != case["code"]:
        yield f"exit code {found.code}, not {case['code']}: {found.said.strip()[-300:]}"
    if case["says"] not in " ".join(found.said.replace("│", " ").split()):
        yield f"does not say {case['says']!r}: {' '.join(found.said.split())[-300:]}"
    lines = [line for line in found.errors.splitlines() if line.startswith("error: ")]
    framed = any(word in found.errors for word in FRAMED)
    if case["code"] == 2 and len(lines) != 1 and not framed:
        yield f"{len(lines)} error lines: {found.errors.strip()[-300:]}"
