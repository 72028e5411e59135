"""`jaxgen edit` from its flags on: checks before a model is opened, the edits, and files."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxgen.cli.common import interruptible, read_options
from jaxgen.cli.drawing import read_given
from jaxgen.errors import UserError


@dataclasses.dataclass(frozen=True)
class Ask:
    """What the flags say; with --from-png, what that picture notes in their place.

    option: as given; named: the options with flags of their own. save: where what is found of the
    picture goes. sweep, upscale: as given. weights: of the noted model; "": any.
    """

    texts: list[str]
    picture: Path | None
    mask: Path | None
    out: Path | None
    model: str
    method: str
    option: list[str] | None
    named: Mapping[str, Any]
    seed: int
    first: int
    attention: bool
    list_file: Path | None
    batch: int | None
    overwrite: bool
    save: Path | None
    sweep: str | None
    upscale: str | None
    weights: str = ""


def again(ask: Ask, png: Path) -> Ask:
    """With what a PNG notes.

    Raises:
      UserError: it notes nothing, or the picture or the mask is another one.
    """
    from jaxgen.verbs.edit import note
    from jaxgen.verbs.generate.note import check_file

    if ask.texts:
        raise UserError("--from-png edits the same again: leave out the texts")
    noted, places = note.read(png), {}
    for name, now in (("picture", ask.picture), ("mask", ask.mask)):
        held = noted["sha256"][name]
        if held is None and now is not None:
            raise UserError(f"{png} was made without a {name}: leave it out")
        places[name] = now
        if held is not None:
            places[name] = path = now or Path(noted[name])
            check_file(path, {"sha256": held}, "--mask" if name == "mask" else "the picture")
    texts = [noted["source"], noted["target"]] if noted["source"] else [noted["target"]]
    return dataclasses.replace(
        ask, texts=texts, picture=places["picture"], mask=places["mask"],
        model=ask.model or noted["model"], method=noted["method"], named=noted["options"],
        seed=noted["seed"], first=noted["number"], weights=noted["weights"],
    )  # fmt: skip


def edit_pictures(ask: Ask) -> None:
    """Edits what is asked for and says where it lies.

    Raises:
      UserError: flags that do not go together or with the model, or a place that is taken.
    """
    from jaxgen.runs.model import load
    from jaxgen.verbs.edit import files, note
    from jaxgen.verbs.edit.contract import Request
    from jaxgen.verbs.edit.found import check_file
    from jaxgen.verbs.files import check_writable
    from jaxgen.verbs.upscale import beside

    _check_flags(ask)
    if ask.save is not None:
        check_file(ask.save)
        check_writable(ask.save.expanduser().parent)
        if ask.save.expanduser().exists() and not ask.overwrite:
            raise UserError(f"{ask.save} exists; give --overwrite to replace it")
    picture, mask = read_given(ask.picture), read_given(ask.mask)
    use, about = _open(ask)
    enlarge = None if ask.upscale is None else load(ask.upscale).upscale
    chosen = use.method(ask.method)
    options = {**read_options(ask.option, chosen.options), **ask.named}
    base = Request(
        "", (), picture, mask, ask.seed, ask.first, ask.attention,
        ask.method or next(iter(use.verb.methods)), options, ask.save is not None,
    )  # fmt: skip
    if ask.list_file is not None:
        if ask.out is None or not files.check_out(ask.out.expanduser()):
            raise UserError("the results of --list need a folder: give one to -o")
        folder, ending = ask.out.expanduser(), ".png"
        jobs = files.read_list(ask.list_file, base)
    else:
        source, targets = _texts(ask.texts, chosen.captioned)
        request = base._replace(source=source, targets=targets)
        if ask.sweep is not None:
            return _sweep(ask, use, request)
        own = note.of_files(ask.picture, ask.mask)
        job = files.Job(files.name_of(request), request, own)
        folder, name, ending = _place(ask, job.name, len(targets))
        jobs = [job._replace(name=name)]
    check_writable(folder)
    if enlarge is not None:
        beside.check_fits(folder / f"{jobs[0].name}{ending}", use.verb.size, enlarge.scale)
    todo = [job for job in jobs if ask.overwrite or not _done(folder, job, ending)]
    began = time.monotonic()
    errors, large = _run(ask, use, todo, folder, ending, about, enlarge)
    if enlarge is not None:
        with interruptible() as check:
            for job in jobs:
                large += files.enlarge(folder, job, ending, enlarge, check)
    if ask.list_file is None and (todo or large):
        for one in (*_written(folder, jobs[0], ending, ask.attention), *large):
            print(one)
    said = f"{len(todo)} edits  {time.monotonic() - began:.1f} s"
    if errors:
        said += f"  reconstruction: mean squared error {sum(errors) / len(errors):.3f} of 255²"
    print(said)
    if len(todo) < len(jobs):
        left = len(jobs) - len(todo)
        print(f"{left} of {len(jobs)} were there already (--overwrite replaces them)")
    return None


def _check_flags(ask: Ask) -> None:
    """Raises UserError for flags that do not go together."""
    if not ask.model:
        from jaxgen.weights.places import that_do

        raise UserError(
            f"say which model edits: --model RUN, such as a run of configs/ldm.py{that_do('edit')}"
        )
    listed = ask.list_file is not None
    if listed and (ask.texts or ask.picture or ask.mask):
        raise UserError("--list says what to edit: leave out pictures and texts")
    if not listed and not ask.texts:
        raise UserError('say what to edit: jaxgen edit photo.png "a cat" "a dog" --model RUN')
    if ask.mask is not None and ask.picture is None:
        raise UserError("--mask is of a picture: give the picture, too")
    for given, flag in ((ask.save, "--save-inversion"), (ask.sweep, "--sweep")):
        if given is not None and listed:
            raise UserError(f"{flag} is of one edit: leave --list out")
    if ask.sweep is not None and (ask.attention or ask.save or ask.upscale is not None):
        raise UserError(
            "--sweep makes a strip alone: leave out --show-attention, --upscale and files to keep"
        )


def _open(ask: Ask) -> tuple[Any, dict[str, Any]]:
    """(the model's verb, what a PNG says of the model).

    Raises:
      UserError: no such model, one that does not edit, or other weights than noted.
    """
    from jaxgen.runs.model import load
    from jaxgen.weights.digests import sampled_fingerprint

    loaded = load(ask.model)
    use, weights = loaded.edit, sampled_fingerprint(loaded.nets)
    if ask.weights and weights != ask.weights:
        raise UserError(
            f"{ask.model} has other weights than what made that picture ({ask.weights}); give "
            "--model where those are"
        )
    return use, {"model": ask.model, "weights": weights}


def _place(ask: Ask, name: str, targets: int) -> tuple[Path, str, str]:
    """(folder, name without ending, ending) of the results. Raises UserError: it is taken, or is
    one file for more."""
    from jaxgen.verbs.edit import files

    out = ask.out.expanduser() if ask.out else _new_file(name)
    if files.check_out(out):
        return out, name, ".png"
    if out.exists() and not ask.overwrite:
        raise UserError(f"{out} exists; give --overwrite to replace it")
    if targets > 1:
        raise UserError(f"{targets} targets need a folder: give one to -o")
    return out.parent, out.stem, out.suffix


def _sweep(ask: Ask, use: Any, request: Any) -> None:
    """The strip of --sweep."""
    from jaxgen.data.picture_files import write_image
    from jaxgen.verbs.edit import files, sweep
    from jaxgen.verbs.files import check_writable

    assert ask.sweep is not None
    known = use.method(ask.method).options
    name, texts = sweep.read(ask.sweep, known)
    if name in request.options:
        raise UserError(f"--sweep says {name}: leave out its other value")
    values = [read_options([f"{name}={text}"], known)[name] for text in texts]
    folder, stem, ending = _place(ask, f"{files.name_of(request)}_{name}", len(request.targets))
    check_writable(folder)
    path = folder / f"{stem}{ending}"
    if path.exists() and not ask.overwrite:
        raise UserError(f"{path} exists; give --overwrite to replace it")
    began = time.monotonic()
    edits = sweep.sweep(use, request, name, values, ask.batch)
    write_image(path, sweep.strip(request, name, values, edits), mark="sheet")
    print(path)
    print(f"{len(edits)} edits  {time.monotonic() - began:.1f} s")


def _run(
    ask: Ask,
    use: Any,
    todo: list[Any],
    folder: Path,
    ending: str,
    about: dict[str, Any],
    enlarge: Any,
) -> tuple[list[float], list[Path]]:
    """Edits and writes; gives the errors of the reconstructions, and what was written enlarged."""
    from tqdm import tqdm

    from jaxgen.verbs.edit import files, note

    errors, large = [], []
    # disable=None: no bar where stderr is not a terminal.
    with interruptible() as check, tqdm(total=len(todo), unit="edit", disable=None) as bar:
        requests = [job.request for job in todo]
        for job, edited in zip(todo, use.each(requests, batch=ask.batch), strict=True):
            if ask.save is not None:
                edited.found.save(ask.save.expanduser())
            said = {**about, **job.about}
            if enlarge is not None:  # first: with the results an edit is done
                notes = [note.text(job.request, one, said) for one in job.request.targets]
                made = list(zip(edited.pictures, notes, strict=True))
                large += files.enlarge(folder, job, ending, enlarge, check, made)
            files.write(folder, job.name, ending, job.request, edited, said)
            if edited.error is not None:
                errors.append(edited.error)
            bar.update()
            check()
    return errors, large


def _texts(texts: list[str], captioned: bool) -> tuple[str, tuple[str, ...]]:
    if not captioned:
        return "", tuple(texts)
    if len(texts) < 2:
        raise UserError(
            f'"{texts[0]}" is what the picture shows; say also what it shall show: two texts'
        )
    return texts[0], tuple(texts[1:])


def _new_file(name: str) -> Path:
    """A file in the current folder that is not there yet."""
    again = (f"{name}_{number}.png" for number in itertools.count(2))
    return next(p for p in map(Path, itertools.chain([f"{name}.png"], again)) if not p.exists())


def _done(folder: Path, job: Any, ending: str) -> bool:
    from jaxgen.verbs.edit.files import names

    found = names(job.request.targets, job.name)
    return all((folder / f"{name}{ending}").exists() for name in found)


def _written(folder: Path, job: Any, ending: str, attention: bool) -> list[Path]:
    from jaxgen.verbs.edit.files import names

    more = [f"{job.name}_sheet", *([f"{job.name}_attention"] if attention else [])]
    return [folder / f"{name}{ending}" for name in (*names(job.request.targets, job.name), *more)]
