"""`jaxgen edit`."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxgen.cli.common import OptionTexts, interruptible, is_there, read_options
from jaxgen.errors import UserError

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".heic", ".avif")


def edit(
    given: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PICTURE] TEXT...",
            help="A picture, what it shows, and what it shall show; several targets give several "
            "results. Without a picture the model draws the source. Of methods that ask for no "
            "caption every text is a target.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="A run's folder, an exported model's folder, or a bundled model that edits, such "
            "as a run of configs/ldm.py."
        ),
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="A file for the result, NAME.png; beside it NAME_sheet.png: source, "
            "reconstruction, edit. Or a folder. Default: a new file here, named by the target.",
        ),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="How to edit; the model's own first one by default.")
    ] = None,
    inversion: Annotated[
        str | None, typer.Option(help="How a picture's noise is found: direct, ddim, ...")
    ] = None,
    replace: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="p2p: share of the steps in which words look where the source's do: 0.8, 0.2-0.7, "
            "or of words 0.8,dog:0.4.",
        ),
    ] = None,
    self_share: Annotated[
        str | None,
        typer.Option("--self", metavar="SHARE", help="p2p: the same of places among themselves."),
    ] = None,
    blend: Annotated[
        str | None,
        typer.Option(metavar="WORD:WORD", help="p2p: change only where these words are: cat:dog."),
    ] = None,
    weight: Annotated[
        str | None,
        typer.Option(metavar="WORD:NUMBER", help="p2p: how much words count: dog:2.0,red:-1."),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(metavar="PICTURE", help="Of the same size: white where it may change."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of the sampler.")] = None,
    guidance: Annotated[
        float | None, typer.Option(min=0.0, help="Above 1: the words count more.")
    ] = None,
    option: OptionTexts = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Of a drawn source, and of chance.")
    ] = 0,
    first: Annotated[
        int, typer.Option(min=0, help="Number of the drawn source, as of `jaxgen generate`.")
    ] = 0,
    show_attention: Annotated[
        bool,
        typer.Option(
            "--show-attention", help="Also write NAME_attention.png: where each word looked."
        ),
    ] = False,
    list_file: Annotated[
        Path | None,
        typer.Option(
            "--list",
            metavar="FILE",
            help="A JSONL file of edits, one object a line: name, picture, mask, source, target, "
            "method, seed, number and options. OUT is a folder; again, it goes on where it ended.",
        ),
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Edits at a time.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace results that are there.")] = False,
) -> None:
    """Edit pictures by words.

    A picture is inverted, or the source drawn; then it is drawn again by other words, and what
    they do not speak of stays.
    """
    from jaxgen.data.picture_files import read_image
    from jaxgen.verbs.edit import files
    from jaxgen.verbs.edit.contract import Request
    from jaxgen.verbs.files import check_writable

    texts = list(given or [])
    path = Path(texts.pop(0)) if texts and _is_picture(texts[0]) else None
    if not model:
        raise UserError("say which model edits: --model RUN, such as a run of configs/ldm.py")
    if list_file is not None and (texts or path or mask):
        raise UserError("--list says what to edit: leave out pictures and texts")
    if list_file is None and not texts:
        raise UserError('say what to edit: jaxgen edit photo.png "a cat" "a dog" --model RUN')
    if mask is not None and path is None:
        raise UserError("--mask is of a picture: give the picture, too")
    picture = None if path is None else read_image(path.expanduser())
    where = None if mask is None else read_image(mask.expanduser())

    from jaxgen.runs.model import load
    from jaxgen.weights.digests import sampled_fingerprint

    loaded = load(model)
    use = loaded.edit
    named = {
        "inversion": inversion, "replace": replace, "self": self_share, "blend": blend,
        "weight": weight, "steps": steps, "guidance": guidance,
    }  # fmt: skip
    chosen = use.method(method or "")
    options = read_options(option, chosen.options)
    options |= {name: value for name, value in named.items() if value is not None}
    base = Request(
        "", (), picture, where, seed, first, show_attention, method or next(iter(use.verb.methods)),
        options,
    )  # fmt: skip
    about: dict[str, Any] = {"model": model, "weights": sampled_fingerprint(loaded.nets)}
    if list_file is None:
        source, targets = _texts(texts, chosen.captioned)
        request = base._replace(source=source, targets=targets)
        own = {"picture": path and str(path), "mask": mask and str(mask)}
        jobs = [files.Job(files.name_of(request), request, own)]
        out = out.expanduser() if out else _new_file(jobs[0].name)
        folder, ending = out, ".png"
        if not files.check_out(out):
            if out.exists() and not overwrite:
                raise UserError(f"{out} exists; give --overwrite to replace it")
            if len(targets) > 1:
                raise UserError(f"{len(targets)} targets need a folder: give one to -o")
            folder, ending = out.parent, out.suffix
            jobs = [jobs[0]._replace(name=out.stem)]
    else:
        if out is None or not files.check_out(out.expanduser()):
            raise UserError("the results of --list need a folder: give one to -o")
        folder, ending = out.expanduser(), ".png"
        jobs = files.read_list(list_file, base)
    check_writable(folder)
    todo = [job for job in jobs if overwrite or not _done(folder, job, ending)]
    began = time.monotonic()
    errors = _run(use, todo, batch, folder, ending, about)
    if list_file is None and todo:
        for one in _written(folder, jobs[0], ending, show_attention):
            print(one)
    said = f"{len(todo)} edits  {time.monotonic() - began:.1f} s"
    if errors:
        said += f"  reconstruction: mean squared error {sum(errors) / len(errors):.3f} of 255²"
    print(said)
    if len(todo) < len(jobs):
        left = len(jobs) - len(todo)
        print(f"{left} of {len(jobs)} were there already (--overwrite replaces them)")


def _run(
    use: Any, todo: list[Any], batch: int | None, folder: Path, ending: str, about: dict[str, Any]
) -> list[float]:
    """Edits and writes; gives the errors of the reconstructions."""
    from tqdm import tqdm

    from jaxgen.verbs.edit import files

    errors = []
    # disable=None: no bar where stderr is not a terminal.
    with interruptible() as check, tqdm(total=len(todo), unit="edit", disable=None) as bar:
        requests = [job.request for job in todo]
        for job, edited in zip(todo, use.each(requests, batch=batch), strict=True):
            files.write(folder, job.name, ending, job.request, edited, {**about, **job.about})
            if edited.error is not None:
                errors.append(edited.error)
            bar.update()
            check()
    return errors


def _is_picture(text: str) -> bool:
    """Whether an argument names a file, and is no text."""
    return Path(text).suffix.lower() in PICTURES or (is_there(Path(text)) and Path(text).is_file())


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
