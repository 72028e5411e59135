"""`jaxgen edit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxgen.cli.common import EditMethod, OptionTexts, is_there
from jaxgen.cli.drawing import check_alone
from jaxgen.cli.editing import Ask, again, edit_pictures

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".heic", ".avif")
# What may stand beside --from-png; of `given` the picture alone.
_BESIDE = (
    "from_png", "given", "out", "model", "mask", "overwrite", "show_attention", "upscale",
)  # fmt: skip


def edit(
    context: typer.Context,
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
    method: EditMethod = None,
    inversion: Annotated[
        str | None,
        typer.Option(
            help="How a picture's noise is found: direct, ddim, ...; or a file of "
            "--save-inversion, of the same picture and model."
        ),
    ] = None,
    save_inversion: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Keep what is found of the picture, its inversion or what Imagic learns, in this "
            ".safetensors file.",
        ),
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
    sweep: Annotated[
        str | None,
        typer.Option(
            metavar="OPTION=A,B,...",
            help="A strip of the edit by several values of an option, such as "
            "strength=0.2,0.4,0.6; parted by semicolons, values may hold commas.",
        ),
    ] = None,
    upscale: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Write each result a second time, enlarged by this super-resolution model: "
            "NAME_x4.png.",
        ),
    ] = None,
    from_png: Annotated[
        Path | None,
        typer.Option(
            metavar="PNG",
            help="Do again what made this PNG, which notes it. --model, --mask and the picture "
            "say where things are now.",
        ),
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Edits at a time.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace results that are there.")] = False,
) -> None:
    """Edit pictures by words.

    A picture is inverted, or the source drawn; then it is drawn again by other words, and what
    they do not speak of stays.
    """
    texts = list(given or [])
    picture = Path(texts.pop(0)) if texts and _is_picture(texts[0]) else None
    named = {
        "inversion": inversion, "replace": replace, "self": self_share, "blend": blend,
        "weight": weight, "steps": steps, "guidance": guidance,
    }  # fmt: skip
    ask = Ask(
        texts=texts, picture=picture, mask=mask, out=out, model=model, method=method or "",
        option=option, named={name: value for name, value in named.items() if value is not None},
        seed=seed, first=first, attention=show_attention, list_file=list_file, batch=batch,
        overwrite=overwrite, save=save_inversion, sweep=sweep, upscale=upscale,
    )  # fmt: skip
    if from_png is not None:
        check_alone(context, _BESIDE)
        ask = again(ask, from_png)
    edit_pictures(ask)


def _is_picture(text: str) -> bool:
    """Whether an argument names a file, and is no text."""
    return Path(text).suffix.lower() in PICTURES or (is_there(Path(text)) and Path(text).is_file())
