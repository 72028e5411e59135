"""`jaxgen eval retrieve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxgen.cli.common import JsonFile, console, interruptible


def retrieve(
    model: Annotated[
        str, typer.Option(help="A run's folder, an exported or converted model, of family tirg.")
    ],
    data: Annotated[
        str, typer.Option(help='The data set\'s folder; "": the one that it was trained on.')
    ] = "",
    source: Annotated[
        str,
        typer.Option(help="css, fashion200k, mit_states, fashion_iq or cirr; default: its own."),
    ] = "",
    render: Annotated[
        str, typer.Option(help="Of css: 2d, shaded, 2d_to_shaded or files; default: its own.")
    ] = "",
    gallery: Annotated[
        str, typer.Option(help="Of fashion_iq: split or captions (VAL's); default: its own.")
    ] = "",
    submission: Annotated[
        Path | None, typer.Option(help="A folder for CIRR's two files of the split test1.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure how often a picture and words find the picture that they ask for.

    By the data set's own protocol, which is printed with the gallery's size.
    """
    from jaxgen.verbs.files import check_writable

    if json_file:
        check_writable(json_file.parent)

    from jaxgen.evaluation import report, retrieval
    from jaxgen.runs.model import load

    with interruptible() as check:
        measured = retrieval.evaluate_model(
            load(model), data, source, submission, check, render=render, gallery=gallery
        )
    if submission:
        print(f"{submission}: the ranking of {measured['queries']:,} queries")
    else:
        report.show_numbers(measured["scores"], f"{model} on {measured['data']}", console())
        print(f"{measured['queries']:,} queries; {measured['rules']}")
    if json_file:
        report.write_report(json_file, measured)
