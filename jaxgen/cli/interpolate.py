"""`jaxgen interpolate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def interpolate(
    a: Annotated[str, typer.Argument(help="A model trained for pixels: run, folder or name.")],
    b: Annotated[str, typer.Argument(help="A GAN of the same network, trained from it.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The new folder.")],
    alpha: Annotated[float, typer.Option(help="0 is the first model, 1 the second.")] = 0.8,
    overwrite: Annotated[bool, typer.Option(help="Replace a model exported there.")] = False,
) -> None:
    """Mix the weights of two models: less invented texture and fewer artefacts than the GAN."""
    from jaxgen.runs import interpolation
    from jaxgen.runs import model as run

    model = interpolation.interpolate(run.load(a), run.load(b), alpha)
    folder = model.export(out, overwrite=overwrite)
    print(f"{folder}  {1 - alpha:g} x {a} + {alpha:g} x {b}  {model.parameters:,} parameters")
