"""`jaxgen generate`."""

from __future__ import annotations

import contextlib
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
from jaxgen.cli.drawing import check_alone, read_given, step_by_step, where, writing_frames
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
        typer.Option(metavar="PICTURE", help="Begin with it in place of noise (family ldm)."),
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
    again goes on where an interrupted one stopped, if it writes to a folder or if its model is
    vqgan-clip, which keeps OUT.state.safetensors until it is done.
    """
    from jaxgen.verbs.files import check_writable
    from jaxgen.verbs.generate import files, note
    from jaxgen.verbs.generate.draw import check_draws
    from jaxgen.weights.places import is_composed

    noted = None
    side = None if size is None else files.read_size(size)
    if from_png is not None:
        check_alone(context)
        noted = note.read(from_png)
        prompt, n, seed, first = noted["prompts"], noted["n"], noted["seed"], noted["first"]
        same_noise, batch = noted["same_noise"], noted["batch"]
        side = noted["size"] and tuple(noted["size"])
        model = model if given_by_user(context, "model") else noted["model"]
        init, mask = where(noted, "init", init), where(noted, "mask", mask)
        start_from, upscale = noted["start_from"], noted["upscale"]
    guided = is_composed(model)
    for given, name in ((start_from, "--start-from"), (frames, "--frames")):
        if given is not None and not guided:
            raise UserError(f"{name} is of --model vqgan-clip:VQGAN,CLIP alone")
    if guided:
        if interpolate is not None:
            raise UserError(f"{model} has no way between two pictures: leave --interpolate out")
        if init is not None:
            raise UserError(f'{model} begins with a picture by --option "init=PICTURE"')
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
            (upscale, "--upscale"), (init, "--init"), (show_steps, "--show-steps"),
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
        if upscale is not None and len(texts) * count > 1:
            raise UserError(
                f"{len(texts) * count} pictures with --upscale need a folder: give one to -o"
            )
    _check_bundled(model)
    pictures = [read_given(path) for path in (init, mask)]
    check_writable(out if folder else out.parent)

    from tqdm import tqdm

    from jaxgen.runs.model import load
    from jaxgen.verbs import settings
    from jaxgen.verbs.generate import enlarged
    from jaxgen.verbs.generate.film import Film
    from jaxgen.verbs.generate.guide import Guide
    from jaxgen.verbs.generate.use import Drawer
    from jaxgen.weights.digests import sampled_fingerprint

    loaded = load(model)
    draw = loaded.generate
    enlarge = None if upscale is None else load(upscale).upscale
    if start_from is not None:
        assert isinstance(draw, Guide)
        draw = draw.starting_from(load(start_from).generate)
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
    if isinstance(draw, Drawer):
        draw.check(options, side, pictures[0], pictures[1])
    else:
        draw.check(options)
        if side is not None:
            draw.check_size(side)
    if show_masks:
        draw.check_masks()
    in_steps = not guided and draw.verb.stepwise is not None
    if show_steps is not None and not in_steps:
        raise UserError(f"{model} draws a picture at once: there are no steps to show")
    read = [draw.read(text) for text in texts]
    _warn(texts, read)
    if options.get("negative"):
        _warn([options["negative"]], [draw.read(options["negative"])])
    about: dict[str, Any] = {
        "model": model, "weights": weights, "prompts": texts, "n": count, "seed": seed,
        "first": first, "same_noise": same_noise, "size": side, "batch": batch,
        "options": settings(draw.verb.options, options, model),
        "init": note.of_file(init), "mask": note.of_file(mask), "start_from": start_from,
        "upscale": upscale,
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
    left = sum(len(strip.cells) for strip in todo)
    alone = not folder and total == 1 and (guided or upscale is not None)
    if alone and enlarge is not None:
        enlarged.check_fits(out, side or (draw.size, draw.size), enlarge.scale)
    began = time.monotonic()
    with interruptible() as check, contextlib.ExitStack() as stack:
        if guided:
            names = [cell.name for strip in todo for cell in strip.cells]
            along = stack.enter_context(step_by_step(draw, options, names, out, check))
            how = how._replace(along=along._replace(anew=overwrite))
            if frames is not None:
                how = how._replace(along=writing_frames(how.along, frames, names, frame_every))
        # disable=None: no bar where stderr is not a terminal.
        unseen = True if guided else None
        bar = stack.enter_context(
            tqdm(total=total, initial=total - left, unit="picture", disable=unseen)
        )

        def moved() -> None:
            check()
            bar.update()

        def stepped(done: int, calls: int) -> None:
            check()
            bar.set_postfix_str(f"step {done} of {calls}")

        if in_steps and interpolate is None:
            how = how._replace(film=Film(show_steps or 0, stepped))
        if alone:
            enlarged.write_alone(draw, strips[0], out, how, check, enlarge)
        elif not folder:
            files.write_sheet(draw, todo, out, how, moved, show_masks)
        elif todo:
            files.write_folder(draw, todo, out, how, moved, show_masks)
        if folder and enlarge is not None:
            enlarged.write_folder(strips, out, how, check, enlarge, overwrite)
    if folder and todo:
        print(files.write_folder_sheet(strips, out, show_masks))
    if alone and enlarge is not None:
        print(enlarged.place(out, enlarge.scale))
    print(f"{out}  {left} pictures  {time.monotonic() - began:.1f} s")
    if left < total:
        print(f"{total - left} of {total} were there already (--overwrite replaces them)")


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
