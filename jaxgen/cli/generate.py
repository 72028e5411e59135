"""`jaxgen generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxgen.cli.common import DEFAULT_GENERATOR, OptionTexts, given_by_user
from jaxgen.cli.drawing import check_alone, where
from jaxgen.cli.generating import Ask, draw_pictures


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
    from jaxgen.verbs.generate import files, note

    side = None if size is None else files.read_size(size)
    texts = list(prompt or [])
    noted = None
    if from_png is not None:
        check_alone(context)
        noted = note.read(from_png)
        texts, n, seed, first = noted["prompts"], noted["n"], noted["seed"], noted["first"]
        same_noise, batch = noted["same_noise"], noted["batch"]
        side = noted["size"] and tuple(noted["size"])
        model = model if given_by_user(context, "model") else noted["model"]
        init, mask = where(noted, "init", init), where(noted, "mask", mask)
        start_from, upscale = noted["start_from"], noted["upscale"]
    texts += files.read_prompts(prompts) if prompts else []
    named = {
        "truncation": truncation, "steps": steps, "guidance": guidance, "sampler": sampler,
        "negative": negative, "strength": strength,
    }  # fmt: skip
    draw_pictures(
        Ask(
            texts=list(dict.fromkeys(texts)), out=out, model=model, n=n, seed=seed, first=first,
            same_noise=same_noise, side=side, batch=batch, option=option,
            named={name: value for name, value in named.items() if value is not None},
            init=init, mask=mask, upscale=upscale, start_from=start_from, frames=frames,
            frame_every=frame_every, show_steps=show_steps, interpolate=interpolate,
            show_masks=show_masks, overwrite=overwrite, from_png=from_png, noted=noted,
        )
    )  # fmt: skip
