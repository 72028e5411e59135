"""`jaxgen generate`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxgen.cli.common import (
    DEFAULT_GENERATOR,
    OptionTexts,
    given_by_user,
    interruptible,
    read_options,
)
from jaxgen.errors import UserError

MOST_WARNINGS = 5


def generate(
    context: typer.Context,
    prompt: Annotated[
        list[str] | None,
        typer.Argument(metavar="PROMPT", help="What to draw, in words; one row of pictures each."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="A file (.png, .jpg, .webp) for one sheet of all pictures with captions, or a "
            "folder for a PNG of each, named by prompt, seed and number, and grid.png. Default: a "
            "new file here, named by prompt and seed.",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A text file of more prompts, one a line."),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="A run's folder, an exported model's folder, or a bundled model (`jaxgen "
            "models`), of a text-to-image family."
        ),
    ] = DEFAULT_GENERATOR,
    n: Annotated[
        int | None,
        typer.Option(
            "-n",
            min=1,
            help="Pictures of each prompt; with --interpolate: strips. Default: 8; 1 strip.",
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            max=2**32 - 1,
            help="Of the noise. Picture #3 of a prompt and seed is always the same one, however "
            "many there are and whatever the other prompts.",
        ),
    ] = 0,
    first: Annotated[
        int,
        typer.Option(
            min=0,
            help="Number of the first picture: `--first 3 -n 1` draws #3 of the seed again.",
        ),
    ] = 0,
    same_noise: Annotated[
        bool,
        typer.Option(
            "--same-noise",
            help="Picture #3 has the same noise for all prompts, so that a column of the sheet "
            "shows what the words alone change. Otherwise each prompt has its own.",
        ),
    ] = False,
    truncation: Annotated[
        float | None,
        typer.Option(
            help="Below 1: noise nearer to its mean (a normal cut off at 2, times this): more "
            "usual pictures, less varied. DF-GAN's figures are at 0.88. Default: 1, noise as in "
            "training."
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="SIDE|HxW",
            help="In pixels, of a model that draws other sizes than it was trained on (family "
            "prior, by a sliding window).",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Of the sampler, of a model that draws in steps.")
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Above 1: the words count more, of a model that can leave them out."
        ),
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="How a step is taken (family ldm): euler, dpmpp-2m, ...")
    ] = None,
    negative: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What to lead away from (family ldm).")
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="PICTURE", help="Begin with a picture in place of noise (family ldm)."
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="How far to go from it: 0 not at all, 1 as from noise."
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="PICTURE", help="Of the same size: white where to draw; the rest stays."
        ),
    ] = None,
    option: OptionTexts = None,
    show_steps: Annotated[
        int | None,
        typer.Option(
            "--show-steps",
            min=2,
            metavar="FRAMES",
            help="Show how each picture comes about, in so many frames: beside one another, with "
            "-o NAME.gif as an animation, in a folder as NAME_steps.png.",
        ),
    ] = None,
    from_png: Annotated[
        Path | None,
        typer.Option(
            metavar="PNG",
            help="Draw again what an earlier PNG holds, exactly: it notes prompt, seed, options "
            "and model. --model, --init and --mask say where things are now.",
        ),
    ] = None,
    interpolate: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="STEPS",
            help="Draw the way between two pictures in so many steps instead: with two prompts "
            "from one to the other with the noise of the first; with one prompt from its picture "
            "#FIRST to the next.",
        ),
    ] = None,
    show_masks: Annotated[
        bool,
        typer.Option(
            "--show-masks",
            help="Show where the words acted beside each picture, coarse to fine, for a model "
            "that has such masks (family ssagan); in a folder as NAME_masks.png.",
        ),
    ] = False,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Pictures at a time. Default: as suits their size."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option(help="Replace pictures that are there; otherwise they are left out.")
    ] = False,
) -> None:
    """Draw pictures of texts.

    Words that the model does not know are named, with the nearest that it knows. The same command
    again goes on where an interrupted one stopped, if it writes to a folder.
    """
    from jaxgen.verbs.files import check_writable
    from jaxgen.verbs.generate import files, note
    from jaxgen.verbs.generate.draw import check_draws

    noted = None
    side = None if size is None else files.read_size(size)
    if from_png is not None:
        _check_alone(context)
        noted = note.read(from_png)
        prompt, n, seed, first = noted["prompts"], noted["n"], noted["seed"], noted["first"]
        same_noise, batch = noted["same_noise"], noted["batch"]
        side = noted["size"] and tuple(noted["size"])
        model = model if given_by_user(context, "model") else noted["model"]
        init, mask = _where(noted, "init", init), _where(noted, "mask", mask)
    count = n if n is not None else (8 if interpolate is None else 1)
    check_draws(seed, first, count + (interpolate is not None))
    lines = files.read_prompts(prompts) if prompts else []
    texts = list(dict.fromkeys([*(prompt or []), *lines]))
    if not texts:
        raise UserError('say what to draw: jaxgen generate "a large red circle"')
    if interpolate is not None:
        for wanted, name in (
            (show_masks, "--show-masks"), (same_noise, "--same-noise"), (size, "--size"),
            (init, "--init"), (show_steps, "--show-steps"),
        ):  # fmt: skip
            if wanted:
                raise UserError(f"{name} and --interpolate exclude each other; give one")
        if len(texts) > 2:
            raise UserError(f"--interpolate goes between two prompts, not {len(texts)}")
    if mask is not None and init is None:
        raise UserError("--mask is of the picture to begin with: give --init, too")
    out = out.expanduser() if out else files.new_sheet(texts, seed, interpolate is not None)
    folder = files.is_folder(out, filmed=show_steps is not None)
    if not folder:
        if out.exists() and not overwrite:
            raise UserError(f"{out} exists; give --overwrite to replace it")
        files.check_sheet(len(texts) * count if interpolate is None else count * interpolate)
    _check_bundled(model)
    pictures = [None if path is None else _read(path) for path in (init, mask)]
    check_writable(out if folder else out.parent)

    from tqdm import tqdm

    from jaxgen.runs.model import load
    from jaxgen.verbs import settings
    from jaxgen.verbs.generate.film import Film
    from jaxgen.weights.digests import sampled_fingerprint

    loaded = load(model)
    draw = loaded.generate
    weights = sampled_fingerprint(loaded.nets)
    if noted is None:
        options = read_options(option, draw.verb.options)
        named = {
            "truncation": truncation, "steps": steps, "guidance": guidance, "sampler": sampler,
            "negative": negative, "strength": strength,
        }  # fmt: skip
        options |= {name: value for name, value in named.items() if value is not None}
    else:
        options = noted["options"]
        if weights != noted["weights"]:
            raise UserError(
                f"{model} has other weights than what drew {from_png} ({noted['weights']}); give "
                "--model where those are"
            )
    draw.check(options, side, pictures[0], pictures[1])
    if show_masks:
        draw.check_masks()
    if show_steps is not None and draw.verb.stepwise is None:
        raise UserError(f"{model} draws a picture at once: there are no steps to show")
    read = [draw.read(text) for text in texts]
    _warn(texts, read)
    if options.get("negative"):
        _warn([options["negative"]], [draw.read(options["negative"])])
    about: dict[str, Any] = {
        "model": model, "weights": weights, "prompts": texts, "n": count, "seed": seed,
        "first": first, "same_noise": same_noise, "size": side, "batch": batch,
        "options": settings(draw.verb.options, options, model),
        "init": note.of_file(init), "mask": note.of_file(mask),
    }  # fmt: skip
    how = files.How(
        seed, first, same_noise, batch, options, side, init=pictures[0], mask=pictures[1]
    )
    if interpolate is None:
        how = how._replace(about=about)
        strips = files.plan(texts, read, count, how, show_masks)
    else:
        strips = files.plan_ways(texts, read, interpolate, count, how)
    total = sum(len(strip.cells) for strip in strips)
    todo = strips
    if folder and not overwrite:
        todo = files.missing(strips, out, show_masks)
    skipped = total - sum(len(strip.cells) for strip in todo)
    began = time.monotonic()
    # disable=None: no bar where stderr is not a terminal.
    with (
        interruptible() as check,
        tqdm(total=total, initial=skipped, unit="picture", disable=None) as bar,
    ):

        def moved() -> None:
            check()
            bar.update()

        def stepped(done: int, calls: int) -> None:
            check()
            bar.set_postfix_str(f"step {done} of {calls}")

        if draw.verb.stepwise is not None and interpolate is None:
            how = how._replace(film=Film(show_steps or 0, stepped))
        if not folder:
            files.write_sheet(draw, todo, out, how, moved, show_masks)
        elif todo:
            files.write_folder(draw, todo, out, how, moved, show_masks)
    if folder and todo:
        print(files.write_folder_sheet(strips, out, show_masks))
    print(f"{out}  {total - skipped} pictures  {time.monotonic() - began:.1f} s")
    if skipped:
        print(f"{skipped} of {total} were there already (--overwrite replaces them)")


# What may stand beside --from-png.
_BESIDE = ("from_png", "out", "model", "init", "mask", "overwrite", "show_steps", "show_masks")


def _check_alone(context: typer.Context) -> None:
    for parameter in context.command.params:
        name = parameter.name or ""
        if name not in _BESIDE and given_by_user(context, name):
            label = parameter.opts[0] if parameter.opts[0].startswith("-") else "a prompt"
            raise UserError(f"--from-png draws the same again: leave out {label}")


def _where(noted: dict[str, Any], name: str, now: Path | None) -> Path | None:
    """Where a picture is that was noted. Raises UserError for another one."""
    from jaxgen.verbs.generate.note import check_file

    held, flag = noted[name], f"--{name}"
    if held is None:
        if now is not None:
            raise UserError(f"--from-png draws the same again: leave out {flag}")
        return None
    path = now or Path(held["path"])
    check_file(path, held, flag)
    return path


def _read(path: Path) -> Any:
    from jaxgen.data.picture_files import read_image

    return read_image(path.expanduser())


def _check_bundled(model: str) -> None:
    """A clear line where the default is meant and this installation lacks it."""
    from jaxgen.weights.places import bundled_names

    if model == DEFAULT_GENERATOR and not Path(model).exists() and model not in bundled_names():
        raise UserError(
            "no text-to-image model is bundled with this installation; give --model, after "
            "training one: python -m jaxgen.main --config=configs/dfgan.py"
        )


def _warn(texts: list[str], read: list[Any]) -> None:
    """Names the words that the model does not know, of the first few prompts that have such."""
    from jaxgen.data.text.tokens import complaint

    problems = [(text, complaint(one)) for text, one in zip(texts, read, strict=True)]
    problems = [(text, problem) for text, problem in problems if problem]
    for text, problem in problems[:MOST_WARNINGS]:
        named = f"{text!r}: " if len(texts) > 1 else ""
        print(f"warning: {named}{problem}", file=sys.stderr)
    if len(problems) > MOST_WARNINGS:
        left = len(problems) - MOST_WARNINGS
        print(f"warning: and so in {left} more prompts", file=sys.stderr)
