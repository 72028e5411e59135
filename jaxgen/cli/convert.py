"""`jaxgen convert`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from jaxgen.cli.common import console
from jaxgen.errors import UserError


class Prediction(enum.StrEnum):
    """What the net says of x_t."""

    eps = "eps"
    v = "v"


def convert(
    source: Annotated[
        str | None,
        typer.Argument(
            help="A published weight file, a folder of diffusers, or hf:OWNER/NAME[:FILE], which "
            "is downloaded from the Hugging Face hub; with --to-torch and --lora also a run, an "
            "exported folder or a bundled model."
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            "-o",
            help="Write a model to this new folder; of VGG and other frozen networks, a "
            ".safetensors file of ours.",
        ),
    ] = None,
    to_torch: Annotated[
        Path | None,
        typer.Option(
            help="Write PyTorch's keys: .safetensors or .pth; of Stable Diffusion also a new "
            "folder, as diffusers has it."
        ),
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help="Name of the published layout. Default: recognised.")
    ] = None,
    prediction: Annotated[
        Prediction | None,
        typer.Option(help="What a diffusion model predicts, where its files do not say it."),
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE[:SCALE]",
            help="Add the changes of a LoRA (kohya's or diffusers' names); may be given again.",
        ),
    ] = None,
    words: Annotated[
        list[Path] | None,
        typer.Option(help="Add the words of a textual inversion file; may be given again."),
    ] = None,
    scale: Annotated[
        int | None,
        typer.Option(min=1, help="By how much it enlarges, where the keys leave it open (x3)."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace what is there.")] = False,
    show: Annotated[bool, typer.Option("--list", help="List the known layouts.")] = False,
) -> None:
    """Convert published weights to a model of ours, or back.

    Without --to and --to-torch it tells what a weight file holds.
    """
    if show:
        _list()
        return
    if source is None:
        raise UserError("give a weight file, or --list for the layouts that are known")
    if to is not None and to_torch is not None:
        raise UserError("--to and --to-torch exclude each other; give one")
    if (lora or words) and to is None:
        raise UserError("--lora and --words change a model: say with --to where it goes")
    from jaxgen.runs import convert as conversion
    from jaxgen.weights import hub

    if hub.is_named(source):
        source = str(hub.fetch(source))
    said = prediction.value if prediction else ""
    if to_torch is not None:
        _check_free(to_torch, overwrite)
        print(f"{to_torch}  {conversion.write_torch(source, to_torch, layout, said)}")
        return
    loras = [_lora(text) for text in lora or ()]
    files = [file.expanduser() for file in words or ()]
    print(conversion.write_own(source, to, layout, overwrite, scale, said, loras, files))


def _lora(text: str) -> tuple[Path, float]:
    """ "style.safetensors:0.8" -> (file, scale)."""
    file, _, scale = text.rpartition(":")
    try:
        if file and not Path(text).is_file():
            return Path(file).expanduser(), float(scale)
    except ValueError:
        pass
    return Path(text).expanduser(), 1.0


def _check_free(file: Path, overwrite: bool) -> None:
    if file.exists() and not overwrite:
        raise UserError(f"{file} exists; choose another name, or --overwrite replaces it")


def _list() -> None:
    from rich.table import Table

    from jaxgen.encoders.convert import KINDS
    from jaxgen.runs.layouts import additions, layouts, wholes

    table = Table("layout", "family", "net")
    for family, one in layouts():
        table.add_row(one.name, family, one.net)
    for family, whole in wholes():
        table.add_row(whole.name, family, "all" if not whole.folder else "all, a folder")
    for family, addition in additions():
        table.add_row(addition.name, family, "learned beside the nets")
    table.add_section()
    for kind in KINDS:
        table.add_row(kind.name, "frozen network", "")
    console().print(table)
