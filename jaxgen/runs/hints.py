"""What can be done with a run that has just been trained: commands to copy."""

from __future__ import annotations

import re
from pathlib import Path
from shlex import quote
from typing import Any

from jaxgen import config as configs
from jaxgen.data.captioned.source import find_source
from jaxgen.errors import UserError
from jaxgen.verbs.offered import verbs_in
from jaxgen.weights.places import CONFIG

_USES = {
    "generate": "jaxgen generate {example} --model {run} -n 8 -o drawn.png",
    "edit": "jaxgen edit photo.png {texts} --model {run} -o edited.png",
    "upscale": "jaxgen upscale photo.jpg --model {run}",
    "encode": "jaxgen reconstruct photo.png --model {run} -o again.png",
    "complete": "jaxgen complete photo.png --keep 0.5 --model {run} -o completed.png",
    "embed": "jaxgen embed photo.png --model {run} -o features.npz",
    "retrieve": "jaxgen index FOLDER --model {run} -o index",
}
# What needs no data of one's own comes without.
_EVALUATIONS = {
    "generate": "jaxgen eval --model {run}",
    "upscale": "jaxgen eval --model {run} --data FOLDER",
    "encode": "jaxgen eval --model {run}",
    "embed": "jaxgen eval --model {run}",
    "retrieve": "jaxgen eval --model {run}",
}
# What a command says of the number of steps.
_STEPS = re.compile(r" --(config\.|set )train\.steps=\d+")


def next_commands(run: Path, again: str, finished: bool) -> list[str]:
    """Lines with the commands that use, evaluate and continue a run.

    Args:
      again: the command that trained it. finished: whether it came to its last step.
    """
    try:
        verbs = verbs_in(run)
    except UserError:  # of a part, say, that was moved: the run itself is in order
        verbs = {}
    given = {
        "run": quote(str(run)), "example": quote(_example(run)), "texts": _texts(verbs.get("edit"))
    }  # fmt: skip
    lines = [f"use:       {_USES[verb].format(**given)}" for verb in _USES if verb in verbs]
    measured = [verb for verb in _EVALUATIONS if verb in verbs][:1]
    lines += [f"evaluate:  {_EVALUATIONS[verb].format(**given)}" for verb in measured]
    if finished:
        steps = configs.from_json(run / CONFIG).train.steps
        again = f"{_STEPS.sub('', again)} --config.train.steps={2 * steps}"
    return [*lines, f"continue:  {again}"]


def _texts(edit: Any) -> str:
    """What `jaxgen edit` is told: a caption, where its method needs one, and what it becomes."""
    if edit is None:
        return ""
    source, target = (text or "a text" for text in edit.example_texts)
    captioned = next(iter(edit.methods.values())).captioned
    return " ".join(map(quote, [source, target] if captioned else [target]))


def _example(run: Path) -> str:
    """A text that a model of the run's data can be asked for."""
    data = configs.from_json(run / CONFIG).data
    try:
        return find_source(data.get("source", "")).EXAMPLE or "a text"
    except UserError:
        return "a text"
