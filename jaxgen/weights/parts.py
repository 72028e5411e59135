"""Runs feed runs: the trained models that another model is made of, `config.parts`.

With `config.parts.first_stage = "runs/vqgan"` a run copies that model at its start into
`<run>/parts/first_stage/`, as an exported model with its fingerprint, and needs the source no
more. Its task has the part's nets in `frozen["first_stage"]`, its verbs under
"first_stage/<net>", and an exported model carries the folder along.

A part is what the trained model still uses as it was. Nets that training only begins with are not
parts but `train.init_from`: afterwards they are in the run's own nets.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from jaxgen import config as configs
from jaxgen.errors import UserError
from jaxgen.log import log
from jaxgen.weights.checkpoints import complete_steps
from jaxgen.weights.files import whole_folder, write_safetensors
from jaxgen.weights.keymap import flatten
from jaxgen.weights.nets import locate, open_nets
from jaxgen.weights.places import CARD, CONFIG, WEIGHTS

PARTS = "parts"
NOTE = "part.json"


class Wanted(NamedTuple):
    """What a family asks of a part.

    families: that it may be of; empty: any, also a weights file that says nothing of its family.
    nets: that are copied; empty: all that the source has. needed: False where "" leaves it out.
    """

    families: tuple[str, ...] = ()
    nets: tuple[str, ...] = ()
    needed: bool = True


@dataclasses.dataclass(frozen=True)
class Part:
    """A trained model that another one is made of.

    source: as the config named it. family: "" if unknown. step, metrics: of its own training.
    config: None of a weights file that stood alone. nets: {net: variables} of NumPy arrays.
    card: its README.md, "" if it had none. parts: what it is made of itself.
    """

    source: str
    family: str
    step: int
    metrics: Mapping[str, float]
    config: ConfigDict | None
    nets: Mapping[str, Any]
    card: str = ""
    parts: Mapping[str, Part] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 in hex of all that the part computes with: config, arrays, and its own parts."""
        config = "" if self.config is None else configs.to_json(self.config)
        digest = hashlib.sha256(config.encode())
        for path, value in sorted(flatten(self.nets).items()):
            array = np.ascontiguousarray(value)
            digest.update(f"{path} {array.dtype} {np.shape(value)}\n".encode())
            digest.update(array.reshape(-1).view(np.uint8).data)
        for name, part in sorted(self.parts.items()):
            digest.update(f"{name} {part.fingerprint}\n".encode())
        return digest.hexdigest()


def gather(
    config: ConfigDict, workdir: str | Path, wanted: Mapping[str, Wanted]
) -> dict[str, Part]:
    """The parts of a run that begins or goes on: its own copies, else what `config.parts` names.

    Writes nothing; see `keep`.

    Args:
      wanted: what the config's family takes, by name.

    Raises:
      UserError: a part that the family does not take, or needs and is not named; a source that is
        not there, lacks a net or is of another family; a copy that was altered, or is gone from a
        run that has begun.
    """
    sources = {name: source for name, source in config.get(PARTS, {}).items() if source}
    if unknown := sorted(sources.keys() - wanted.keys()):
        known = f"it takes {', '.join(wanted)}" if wanted else "it takes none"
        raise UserError(f"the family {config.family} takes no part {unknown[0]!r}; {known}")
    found = {}
    for name, want in wanted.items():
        if name not in sources:
            if want.needed:
                raise UserError(
                    f"the family {config.family} needs a trained model as parts.{name}: give it a "
                    "run, an exported folder, a bundled model's name or a weights file"
                )
            continue
        copy = Path(workdir) / PARTS / name
        if not (copy / NOTE).is_file() and complete_steps(workdir):
            raise UserError(
                f"the run in {workdir} has checkpoints and no copy of its part in {copy}: put that "
                "folder back, or use a new --workdir"
            )
        part = _read(copy) if (copy / NOTE).is_file() else _take(name, sources[name], want)
        _check_kind(name, part, want)
        found[name] = part
    return found


def keep(parts: Mapping[str, Part], folder: str | Path) -> None:
    """Writes each part that is not there yet into `<folder>/parts/<name>/`, whole or not at all.

    Of those that are there it is logged if their source holds something else by now.

    Raises:
      UserError: the folder can't be written.
    """
    home = Path(folder) / PARTS
    for left in home.glob(".*.partial"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    for name, part in parts.items():
        if (home / name / NOTE).is_file():
            _compare(name, part)
            continue
        with whole_folder(home / name) as inside:
            _write(part, inside)
        log.info("part %s: %s at step %d, of %s", name, part.family, part.step, part.source)


def of_model(
    folder: str | Path, config: ConfigDict, wanted: Mapping[str, Wanted]
) -> dict[str, Part]:
    """The parts of a trained model, from its own folder; {} of most models.

    Raises:
      UserError: one is missing, altered, or of another family than the config's takes.
    """
    found = {}
    for name, source in config.get(PARTS, {}).items():
        if not source:
            continue
        copy = Path(folder) / PARTS / name
        if not (copy / NOTE).is_file():
            raise UserError(
                f"{folder} lacks the model that it is made of in {copy} (once {source}): put that "
                "folder back, or export the run again"
            )
        found[name] = _read(copy)
        if name in wanted:
            _check_kind(name, found[name], wanted[name])
    return found


def arrays(parts: Mapping[str, Part]) -> dict[str, dict[str, Any]]:
    """{part: {net: variables}}: what a task has in `frozen`."""
    return {name: {**part.nets, **named(arrays(part.parts))} for name, part in parts.items()}


def named(nets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """{part: {net: variables}} -> {"part/net": variables}: as verbs name them."""
    return {f"{part}/{net}": v for part, own in nets.items() for net, v in own.items()}


def _take(name: str, source: str, want: Wanted) -> Part:
    """A part from where the config says."""
    try:
        opened = open_nets(source, want.nets or None)
        place = locate(source)
        own: dict[str, Part] = {}
        if opened.config is not None:
            own = of_model(place, opened.config, {})
    except UserError as error:
        raise UserError(f"parts.{name}: {error}") from None
    card = place / CARD
    return Part(
        source=str(source),
        family=opened.family,
        step=opened.step,
        metrics=opened.metrics,
        config=opened.config,
        nets=opened.nets,
        card=card.read_text(encoding="utf-8") if card.is_file() else "",
        parts=own,
    )


def _write(part: Part, folder: Path) -> None:
    """The part as an exported model, into an empty folder."""
    metrics = json.dumps(dict(part.metrics))
    facts = {"family": part.family, "step": str(part.step), "metrics": metrics}
    write_safetensors(folder / WEIGHTS, part.nets, facts)
    if part.config is not None:
        (folder / CONFIG).write_text(configs.to_json(part.config))
    if part.card:
        (folder / CARD).write_text(part.card, encoding="utf-8")
    for name, own in part.parts.items():
        (folder / PARTS / name).mkdir(parents=True)
        _write(own, folder / PARTS / name)
    note = {
        "source": part.source,
        "family": part.family,
        "step": part.step,
        "sha256": part.fingerprint,
    }
    (folder / NOTE).write_text(json.dumps(note, indent=2) + "\n")


def _read(copy: Path) -> Part:
    """A part as `_write` left it."""
    part = _take(copy.name, str(copy), Wanted())
    try:
        note = json.loads((copy / NOTE).read_text())
        part = dataclasses.replace(part, source=str(note["source"]))
        unaltered = note["sha256"] == part.fingerprint
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        unaltered = False
    if not unaltered:
        raise UserError(
            f"{copy} was altered since it was copied there (its {NOTE} has another fingerprint): "
            "put the folder back as it was, or begin anew in a new folder"
        )
    return part


def _check_kind(name: str, part: Part, want: Wanted) -> None:
    if want.families and part.family not in want.families:
        raise UserError(
            f"parts.{name}={part.source} is of {part.family or 'no'} family, but must be of "
            f"{' or '.join(want.families)}"
        )


def _compare(name: str, part: Part) -> None:
    """Logs it where the source has changed; a source that is gone is as good."""
    try:
        now = _take(name, part.source, Wanted(nets=tuple(part.nets)))
    except UserError:
        return
    if now.fingerprint != part.fingerprint:
        log.info(
            "part %s: %s has changed since (step %d, then %d); the run goes on with its own copy",
            name, part.source, now.step, part.step,
        )  # fmt: skip
