"""`jaxgen eval encode`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxgen.cli.common import JsonFile, console, interruptible
from jaxgen.cli.evaluate.generate import Resize
from jaxgen.errors import UserError


def encode(
    model: Annotated[
        str, typer.Option(help="A run's folder, an exported model's folder, or a bundled model.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="A folder of pictures. Default: the model's own validation pictures."),
    ] = None,
    n: Annotated[
        int | None, typer.Option("-n", min=2, help="Pictures, the first ones. Default: all.")
    ] = None,
    lpips: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Also measure LPIPS v0.1, with these weights: trunk and heads."
        ),
    ] = None,
    inception: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Weights of the FID's Inception: rFID, the distance of reconstructions to their "
            "originals as sets. Without them the same distance is of a random network's features, "
            "and named after it.",
        ),
    ] = None,
    resize: Annotated[
        Resize | None,
        typer.Option(help="How pictures come to 299 pixels, see `jaxgen eval generate`."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure what an autoencoder keeps of pictures: PSNR, SSIM, rFID, and its codebook's use.

    Of captioned shapes also the share of scenes that are still read right. Published rFIDs are of
    ImageNet's 50,000 validation pictures, or of its training pictures: compare equals only.
    """
    if json_file:
        from jaxgen.verbs.files import check_writable

        check_writable(json_file.parent)
    if resize is not None and inception is None:
        raise UserError("--resize is of Inception's numbers: give its weights too, --inception")

    from jaxgen.evaluation import reconstruction, report
    from jaxgen.runs.model import load

    with interruptible() as check:
        measured = reconstruction.evaluate_model(
            load(model), data, n=n, lpips=lpips or (), inception=inception,
            resize=resize.value if resize else "tf1", check=check,
        )  # fmt: skip
    report.show_numbers(
        measured["scores"], f"{model} on {data or 'its validation data'}", console()
    )
    if json_file:
        report.write_report(json_file, measured)
