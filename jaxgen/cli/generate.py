"""`jaxgen generate`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxgen.cli.common import DEFAULT_GENERATOR, OptionTexts, interruptible, read_options
from jaxgen.errors import UserError

MOST_WARNINGS = 5


def generate(
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
    option: OptionTexts = None,
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
    from jaxgen.verbs.generate import files
    from jaxgen.verbs.generate.draw import check_draws

    side = None if size is None else files.read_size(size)
    count = n if n is not None else (8 if interpolate is None else 1)
    check_draws(seed, first, count + (interpolate is not None))
    lines = files.read_prompts(prompts) if prompts else []
    texts = list(dict.fromkeys([*(prompt or []), *lines]))
    if not texts:
        raise UserError('say what to draw: jaxgen generate "a large red circle"')
    if interpolate is not None:
        for wanted, name in (
            (show_masks, "--show-masks"), (same_noise, "--same-noise"), (size, "--size")
        ):  # fmt: skip
            if wanted:
                raise UserError(f"{name} and --interpolate exclude each other; give one")
        if len(texts) > 2:
            raise UserError(f"--interpolate goes between two prompts, not {len(texts)}")
    out = out.expanduser() if out else files.new_sheet(texts, seed, interpolate is not None)
    folder = files.is_folder(out)
    if not folder:
        if out.exists() and not overwrite:
            raise UserError(f"{out} exists; give --overwrite to replace it")
        files.check_sheet(len(texts) * count if interpolate is None else count * interpolate)
    _check_bundled(model)
    check_writable(out if folder else out.parent)

    from tqdm import tqdm

    from jaxgen.runs.model import load

    draw = load(model).generate
    options = read_options(option, draw.verb.options)
    if truncation is not None:
        options["truncation"] = truncation
    draw.check(options)
    if side is not None:
        draw.check_size(side)
    if show_masks:
        draw.check_masks()
    read = [draw.read(text) for text in texts]
    _warn(texts, read)
    how = files.How(seed, first, same_noise, batch, options, side)
    if interpolate is None:
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

        if not folder:
            files.write_sheet(draw, todo, out, how, moved, show_masks)
        elif todo:
            files.write_folder(draw, todo, out, how, moved, show_masks)
    if folder and todo:
        print(files.write_folder_sheet(strips, out, show_masks))
    print(f"{out}  {total - skipped} pictures  {time.monotonic() - began:.1f} s")
    if skipped:
        print(f"{skipped} of {total} were there already (--overwrite replaces them)")


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
