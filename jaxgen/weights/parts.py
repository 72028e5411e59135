"""Runs feed runs: the trained models that another model is made of, `config.parts`.

With `config.parts.first_stage = "runs/vqgan"` a run copies that model at its start into
`<run>/parts/first_stage/`, as an exported model with its fingerprint, and needs the source no
more. The task has the part's nets in `frozen["first_stage"]`, the verbs have them under
"first_stage/<net>", and an exported model carries the folder along. A part that has a net of its
own name ("text" the net "text") gives the task this net, which is then neither trained nor saved.

A part is what the trained model goes on using as it was. Nets that training only begins with are
`train.init_from`: afterwards they are in the run's own.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxgen import config as configs
from jaxgen.errors import NO_JSON, UserError
from jaxgen.weights.digests import add_arrays
from jaxgen.weights.files import whole_folder, write_safetensors
from jaxgen.weights.nets import Opened, locate, open_nets
from jaxgen.weights.places import CARD, CONFIG, WEIGHTS

PARTS = "parts"
NOTE = "part.json"


class Wanted(NamedTuple):
    """What a family asks of a part.

    families: that it may be of; empty: any, also a weights file that says nothing of its family.
    nets: that are copied; empty: all that the source has. needed: False where "" leaves it out.
    fits: given the part's config (None if it has none), raises UserError for one that does not.
    trains: given the part, the same where the model is to be trained.
    within: whether of a model that is itself made of a part of this name that part is meant.
    alone: whether it is taken without the parts that it is made of itself.
    """

    families: tuple[str, ...] = ()
    nets: tuple[str, ...] = ()
    needed: bool = True
    fits: Callable[[ConfigDict | None], None] = lambda config: None
    trains: Callable[[Part], None] = lambda part: None
    within: bool = False
    alone: bool = False


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
        add_arrays(digest, self.nets)
        for name, part in sorted(self.parts.items()):
            digest.update(f"{name} {part.fingerprint}\n".encode())
        return digest.hexdigest()


def keep(parts: Mapping[str, Part], folder: str | Path, anew: bool = False) -> list[str]:
    """Writes each part that is not there yet into `<folder>/parts/<name>/`, whole or not at all.

    Args:
      anew: replaces those that are there, too.

    Returns: the names of those written.

    Raises:
      UserError: the folder can't be written.
    """
    home = Path(folder) / PARTS
    for left in home.glob(".*.partial"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    new = [name for name in parts if anew or not (home / name / NOTE).is_file()]
    for name in new:
        with whole_folder(home / name) as inside:
            _write(parts[name], inside)
    return new


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
        part = read(folder, name)
        if part is None:
            raise UserError(
                f"{folder} lacks the model that it is made of in {Path(folder) / PARTS / name} (it "
                f"was {source}): put that folder back, or export the run again"
            )
        check_kind(name, part, wanted.get(name, Wanted()))
        found[name] = part
    return found


def filled(config: ConfigDict, made_of: Mapping[str, Part]) -> ConfigDict:
    """The config as its family reads it: at `config.parts.<name>` the part's own config.

    A part that brought none has an empty one.
    """
    if not made_of:
        return config
    changed = config.copy_and_resolve_references()
    with changed.unlocked():
        changed.parts = {name: part.config or ConfigDict() for name, part in made_of.items()}
    return changed


def arrays(parts: Mapping[str, Part]) -> dict[str, dict[str, Any]]:
    """{part: {net: variables}}: what a task has in `frozen`."""
    return {name: {**part.nets, **named(arrays(part.parts))} for name, part in parts.items()}


def named(nets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """{part: {net: variables}} -> {"part/net": variables}: as verbs name them; see `given`."""
    return {f"{part}/{net}": v for part, own in nets.items() for net, v in own.items()} | given(
        nets
    )


def given(nets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """{net: variables} of the nets that have their part's name."""
    return {part: own[part] for part, own in nets.items() if part in own}


def take(name: str, source: str, want: Wanted) -> Part:
    """A part from where the config says.

    Raises:
      UserError: nothing of this kind is there, or it lacks a net.
    """
    inside = locate(source) / PARTS / name
    if want.within and (inside / NOTE).is_file():
        source = str(inside)
    try:
        opened, own = _open(source, want.nets or None)
    except UserError as error:
        raise UserError(f"parts.{name}: {error}") from None
    card = locate(source) / CARD
    config = opened.config
    if want.alone and config is not None:
        own, config = {}, config.copy_and_resolve_references()
        with config.unlocked():
            config[PARTS] = {}
    return Part(
        source=str(source),
        family=opened.family,
        step=opened.step,
        metrics=opened.metrics,
        config=config,
        nets=opened.nets,
        card=card.read_text(encoding="utf-8") if card.is_file() else "",
        parts=own,
    )


def read(folder: str | Path, name: str) -> Part | None:
    """A part as `keep` left it; None if there is none.

    Raises:
      UserError: it is damaged, or was altered.
    """
    copy = Path(folder) / PARTS / name
    if not (copy / NOTE).is_file():
        return None
    part = take(name, str(copy), Wanted())
    try:
        note = json.loads((copy / NOTE).read_text())
        part = dataclasses.replace(part, source=str(note["source"]))
        unaltered = note["sha256"] == part.fingerprint
    except (*NO_JSON, KeyError, TypeError):
        unaltered = False
    if not unaltered:
        raise UserError(
            f"{copy} was altered since it was copied there (its {NOTE} has another fingerprint): "
            "put the folder back as it was, or begin anew in a new folder"
        )
    return part


def open_whole(source: str | Path, nets: tuple[str, ...] | None = None) -> Opened:
    """As `open_nets` of the newest weights, with the nets that the model's parts give it.

    Raises:
      UserError: as `open_nets` and `of_model`.
    """
    return _open(source, nets)[0]


def _open(source: str | Path, nets: tuple[str, ...] | None) -> tuple[Opened, dict[str, Part]]:
    place = locate(source)
    about = place / CONFIG
    own = of_model(place, configs.from_json(about), {}) if about.is_file() else {}
    more = {n: v for n, v in given(arrays(own)).items() if nets is None or n in nets}
    opened = open_nets(source, None if nets is None else tuple(n for n in nets if n not in more))
    return opened._replace(nets={**opened.nets, **more}), own


def check_kind(name: str, part: Part, want: Wanted) -> None:
    """Raises UserError if a part is not what the family asks for."""
    if want.families and part.family not in want.families:
        raise UserError(
            f"parts.{name}={part.source} is of {part.family or 'no'} family, but must be of "
            f"{' or '.join(want.families)}"
        )
    want.fits(part.config)


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
