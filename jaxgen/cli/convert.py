"""`jaxgen convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxgen.cli.common import console
from jaxgen.errors import UserError


def convert(
    source: Annotated[
        str | None,
        typer.Argument(
            help="A published weight file; with --to-torch also a run, an exported folder or a "
            "bundled model."
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            help="Write a model to this new folder; of VGG and other frozen networks, a "
            ".safetensors file of ours."
        ),
    ] = None,
    to_torch: Annotated[
        Path | None,
        typer.Option(help="Write PyTorch's keys: .safetensors, or .pth (needs PyTorch)."),
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help="Name of the published layout. Default: recognised.")
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
    from jaxgen.runs import convert as conversion

    if to_torch is not None:
        _check_free(to_torch, overwrite)
        print(f"{to_torch}  {conversion.write_torch(source, to_torch, layout)}")
        return
    print(conversion.write_own(source, to, layout, overwrite))


def _check_free(file: Path, overwrite: bool) -> None:
    if file.exists() and not overwrite:
        raise UserError(f"{file} exists; choose another name, or --overwrite replaces it")


def _list() -> None:
    from rich.table import Table

    from jaxgen.encoders.convert import KINDS
    from jaxgen.runs.convert import layouts

    table = Table("layout", "family", "net")
    for family, one in layouts():
        table.add_row(one.name, family, one.net)
    table.add_section()
    for kind in KINDS:
        table.add_row(kind.name, "frozen network", "")
    console().print(table)
