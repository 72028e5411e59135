"""`jaxgen models`, `prepare` and `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxgen.cli.common import console
from jaxgen.errors import UserError

# Of a text-to-image model's many metrics those that say most; other models show their first.
TELLING = ("whole", "held_out_whole", "diversity")


def models() -> None:
    """List the bundled models."""
    from rich.table import Table

    from jaxgen.places import list_models

    table = Table("name", "family", "does", "scale", "pixels", "parameters", "evaluation", "about")
    for row in list_models():
        does = [verb for verb, key in (("upscale", "scale"), ("generate", "size")) if row[key]]
        scale = f"x{row['scale']}" if row["scale"] else "-"
        pixels = f"{row['size']}x{row['size']}" if row["size"] else "-"
        metrics = row["metrics"]
        shown = [key for key in TELLING if key in metrics] or list(metrics)
        scores = ", ".join(f"{key} {metrics[key]:.4g}" for key in shown[:3])
        table.add_row(
            row["name"], row["family"], ", ".join(does), scale, pixels, f"{row['parameters']:,}",
            scores, row["headline"],
        )  # fmt: skip
    if not table.row_count:
        raise UserError("no model is bundled with this installation; install jaxgen again")
    console().print(table)


def prepare(
    name: Annotated[str, typer.Argument(help="A dataset's name, e.g. div2k/bicubic_x4.")],
    data_dir: Annotated[
        Path | None, typer.Option(help="Where to put it; default: the user's TFDS folder.")
    ] = None,
) -> None:
    """Download a dataset and convert it for training (array_record, without TensorFlow)."""
    from jaxgen.data.prepare import prepare as prepare_dataset

    print(f"prepared: {prepare_dataset(name, data_dir or '')}")


def export(
    run: Annotated[str, typer.Argument(help="A run's folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The new folder.")],
    step: Annotated[
        int | None, typer.Option(min=0, help="Which checkpoint [default: the newest].")
    ] = None,
    best: Annotated[bool, typer.Option("--best", help="The best evaluated checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace a model exported there.")] = False,
) -> None:
    """Write a run's model as a folder to keep or to share: config, weights, model card."""
    from jaxgen.run import load

    if step is not None and best:
        raise UserError("--step and --best exclude each other; give one")
    model = load(run, step=step, best=best)
    folder = model.export(out, overwrite=overwrite)
    print(f"{folder}  step {model.step}  {model.parameters:,} parameters")
