"""`jaxgen eval edit`."""

from __future__ import annotations

from typing import Annotated

import typer

from jaxgen.cli.common import JsonFile, console, interruptible


def edit(
    model: Annotated[
        str, typer.Option(help="A run's folder or an exported model, of family tirg_decoder.")
    ],
    queries: Annotated[
        int, typer.Option(min=0, help="So many test queries, evenly chosen; 0: all.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the noise.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Measure how much of what a picture and words ask for is drawn.

    Beside what is drawn stand the picture that retrieval finds, and the source as it is. On CSS's
    flat scenes all are read exactly, object by object.
    """
    from jaxgen.verbs.files import check_writable

    if json_file:
        check_writable(json_file.parent)

    from jaxgen.evaluation import drawing, report
    from jaxgen.runs.model import load

    with interruptible() as check:
        measured = drawing.evaluate_model(load(model), queries, seed, check)
    for name, scores in measured["scores"].items():
        report.show_numbers(scores, f"{name}: {model} on {measured['data']}", console())
    print(f"{measured['queries']:,} queries; {measured['rules']}")
    if json_file:
        report.write_report(json_file, measured)
