"""`jaxgen generate`."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
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
            "models`), of a text-to-image family; or vqgan-clip:VQGAN,CLIP, two such models put "
            "together, whose pictures come about step by step."
        ),
    ] = DEFAULT_GENERATOR,
    n: Annotated[
        int | None,
        typer.Option(
            "-n",
            min=1,
            help="Pictures of each prompt; with --interpolate: strips. Default: 8; 1 strip; 1 of "
            "vqgan-clip or with --upscale.",
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
            "prior, by a sliding window; vqgan-clip).",
        ),
    ] = None,
    option: OptionTexts = None,
    upscale: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Also write each picture enlarged by this super-resolution model, as NAME_x4.png. "
            "A file as OUT then takes one picture, without caption.",
        ),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="vqgan-clip: start from the picture that this model draws of the prompt.",
        ),
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="vqgan-clip: write the picture as it comes about to DIR/NAME/00000.png and so on, "
            "frames of a video.",
        ),
    ] = None,
    frame_every: Annotated[
        int, typer.Option(min=1, help="Iterations from one of the --frames to the next.")
    ] = 10,
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
    again goes on where an interrupted one stopped, if it writes to a folder or if its model is
    vqgan-clip, which keeps OUT.state.safetensors until it is done.
    """
    from jaxgen.verbs.files import check_writable
    from jaxgen.verbs.generate import files
    from jaxgen.verbs.generate.draw import check_draws
    from jaxgen.weights.places import is_composed

    guided = is_composed(model)
    for given, name in ((start_from, "--start-from"), (frames, "--frames")):
        if given is not None and not guided:
            raise UserError(f"{name} is of --model vqgan-clip:VQGAN,CLIP alone")
    if guided and interpolate is not None:
        raise UserError(f"{model} has no way between two pictures: leave --interpolate out")
    side = None if size is None else files.read_size(size)
    one = guided or upscale is not None or interpolate is not None
    count = n if n is not None else (1 if one else 8)
    check_draws(seed, first, count + (interpolate is not None))
    lines = files.read_prompts(prompts) if prompts else []
    texts = list(dict.fromkeys([*(prompt or []), *lines]))
    if not texts:
        raise UserError('say what to draw: jaxgen generate "a large red circle"')
    if interpolate is not None:
        for wanted, name in (
            (show_masks, "--show-masks"), (same_noise, "--same-noise"), (size, "--size"),
            (upscale, "--upscale"),
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
        if upscale is not None and len(texts) * count > 1:
            raise UserError(
                f"{len(texts) * count} pictures with --upscale need a folder: give one to -o"
            )
    _check_bundled(model)
    check_writable(out if folder else out.parent)

    from tqdm import tqdm

    from jaxgen.runs.model import load
    from jaxgen.verbs.generate import enlarged
    from jaxgen.verbs.generate.guide import Guide

    draw = load(model).generate
    enlarge = None if upscale is None else load(upscale).upscale
    if start_from is not None:
        assert isinstance(draw, Guide)
        draw = draw.starting_from(load(start_from).generate)
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
    left = sum(len(strip.cells) for strip in todo)
    alone = not folder and total == 1 and (guided or upscale is not None)
    if alone and enlarge is not None:
        enlarged.check_fits(out, side or (draw.size, draw.size), enlarge.scale)
    began = time.monotonic()
    with interruptible() as check, contextlib.ExitStack() as stack:
        if guided:
            names = [cell.name for strip in todo for cell in strip.cells]
            along = stack.enter_context(_step_by_step(draw, options, names, out, check))
            how = how._replace(along=along._replace(anew=overwrite))
            if frames is not None:
                how = how._replace(along=_writing_frames(how.along, frames, names, frame_every))
        # disable=None: no bar where stderr is not a terminal.
        unseen = True if guided else None
        bar = stack.enter_context(
            tqdm(total=total, initial=total - left, unit="picture", disable=unseen)
        )

        def moved() -> None:
            check()
            bar.update()

        if alone:
            enlarged.write_alone(draw, strips[0], out, how, check, enlarge)
        elif not folder:
            files.write_sheet(draw, todo, out, how, moved, show_masks)
        elif todo:
            files.write_folder(draw, todo, out, how, moved, show_masks)
        if folder and enlarge is not None:
            enlarged.write_folder(draw, strips, out, how, check, enlarge, overwrite)
    if folder and todo:
        print(files.write_folder_sheet(strips, out, show_masks))
    if alone and enlarge is not None:
        print(enlarged.place(out, enlarge.scale))
    print(f"{out}  {left} pictures  {time.monotonic() - began:.1f} s")
    if left < total:
        print(f"{total - left} of {total} were there already (--overwrite replaces them)")


@contextlib.contextmanager
def _step_by_step(
    draw: Any,
    options: Mapping[str, Any],
    names: list[str],
    out: Path,
    check: Callable[[], None],
) -> Iterator[Any]:
    """What is done while the pictures of `names` come about: a bar, and the file to go on from.

    At the end the file is removed; after a Ctrl-C it is named.
    """
    from tqdm import tqdm

    from jaxgen.verbs.generate.guide_run import Along

    saved = out.with_name(f"{out.name}.state.safetensors")
    iterations = options.get("iterations", draw.verb.options["iterations"].default)
    with tqdm(total=len(names) * iterations, unit="iteration", disable=None) as bar:

        def moved(count: int) -> None:
            check()
            bar.update(count)

        try:
            yield Along(saved=saved, moved=moved)
        except KeyboardInterrupt:
            if saved.exists():
                bar.close()
                print(f"{saved} is where the same command goes on", file=sys.stderr)
            raise
    saved.unlink(missing_ok=True)


def _writing_frames(along: Any, folder: Path, names: list[str], every: int) -> Any:
    """`along` that also writes frames into a folder for each of the pictures."""
    from jaxgen.data.picture_files import write_image
    from jaxgen.verbs.files import check_writable

    folder = folder.expanduser()
    check_writable(folder)

    def write(job: int, number: int, picture: Any) -> None:
        write_image(folder / names[job] / f"{number:05d}.png", picture)

    return along._replace(frames=write, every=every)


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
