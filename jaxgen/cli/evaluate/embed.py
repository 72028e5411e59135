"""`jaxgen eval embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxgen.cli.common import JsonFile, console, interruptible
from jaxgen.errors import UserError


def embed(
    model: Annotated[
        str, typer.Option(help="A run's folder, an exported or converted model, of family clip.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            help="A folder with a folder of pictures for each class, named by it. Default: the "
            "model's own validation captions."
        ),
    ] = None,
    templates: Annotated[
        Path | None,
        typer.Option(help='A file of lines such as "a photo of a {}", for the names of classes.'),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure how a CLIP tells which text belongs to which picture.

    On its own validation data: recall both ways, and of captioned shapes their attributes. On a
    folder of classes: zero-shot classification, over all and by class.
    """
    if json_file:
        from jaxgen.verbs.files import check_writable

        check_writable(json_file.parent)
    if templates is not None and data is None:
        raise UserError("--templates is for classes: give --data, a folder of them")

    from jaxgen.evaluation import pairs, report
    from jaxgen.runs.model import load
    from jaxgen.verbs.embed.files import read_texts

    said = ["{}"] if templates is None else read_texts(templates)
    with interruptible() as check:
        measured = pairs.evaluate_model(load(model), data, said, check)
    report.show_numbers(
        measured["scores"], f"{model} on {data or 'its validation data'}", console()
    )
    if json_file:
        report.write_report(json_file, measured)
