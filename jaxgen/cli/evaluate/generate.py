"""`jaxgen eval generate`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from jaxgen.cli.common import (
    DEFAULT_GENERATOR,
    JsonFile,
    OptionTexts,
    console,
    interruptible,
    read_options,
)  # fmt: skip
from jaxgen.errors import UserError


class Resize(enum.StrEnum):
    """How pictures come to Inception's size, as one of the FID's programs has it."""

    tf1 = "tf1"
    torch = "torch"
    clean = "clean"


def generate(
    data: Annotated[
        Path | None,
        typer.Option(
            help="The reference: a folder of pictures, or an .npz of statistics. Default: the "
            "model's own validation pictures."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A run's folder, an exported model's folder, or a bundled model. Default: "
            f"{DEFAULT_GENERATOR}.",
        ),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(help="A folder of generated pictures to measure in place of a model."),
    ] = None,
    inception: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Weights of the FID's Inception (pt_inception-2015-12-05-6726825d.pth, or "
            "converted): FID, KID, IS, precision and recall. Without them the same distances are "
            "of a random network's features, and named after it.",
        ),
    ] = None,
    resize: Annotated[
        Resize | None,
        typer.Option(
            help="How pictures come to 299 pixels: tf1 as the original FID and torch-fidelity (the "
            "default), torch as pytorch-fid, clean as clean-fid. Compare equals only.",
        ),
    ] = None,
    splits: Annotated[
        int | None, typer.Option(min=1, help="Parts for the Inception Score. Default: 10.")
    ] = None,
    save_statistics: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz",
            help="Also write the reference's statistics and features, to give them as --data "
            "another time.",
        ),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(
            "-n",
            min=2,
            help="Pictures that the model draws. Default: one of each validation caption, 1000 at "
            "most.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help="Of their noise. Default: 0.")
    ] = None,
    truncation: Annotated[
        float | None,
        typer.Option(help="Of their noise, see `jaxgen generate`. Default: 1."),
    ] = None,
    option: OptionTexts = None,
    clip: Annotated[
        str | None,
        typer.Option(
            help="Also CLIP-score and R-precision, by this trained or converted CLIP: a run's "
            "folder, an exported or converted model.",
        ),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure a text-to-image model, or a folder of generated pictures against another.

    Distances between sets of pictures, diversity, and of captioned shapes what the pictures show
    of their captions. docs/metrics.md has what each number is.
    """
    if save_statistics and save_statistics.suffix != ".npz":
        raise UserError(f"{save_statistics}: statistics end in .npz")
    for path in (json_file, save_statistics):
        if path:
            from jaxgen.verbs.files import check_writable

            check_writable(path.parent)
    if pictures is not None:
        if model is not None:
            raise UserError("--model measures a model; with --pictures there is none")
        own = (
            ("-n", n),
            ("--seed", seed),
            ("--truncation", truncation),
            ("--clip", clip),
            ("--option", option),
        )
        for name, value in own:
            if value is not None:
                raise UserError(f"{name} is for pictures that a model draws, not for --pictures")
        if data is None:
            raise UserError("--pictures needs --data: the folder or .npz to compare with")

    from jaxgen.evaluation import pictures as sets
    from jaxgen.evaluation import report

    how = sets.How(inception, resize.value if resize else None, splits, save_statistics)
    with interruptible() as check:
        if pictures is not None and data is not None:
            title = f"{pictures} against {data}"
            measured = sets.evaluate_pictures(pictures, data, how, check)
        else:
            from jaxgen.runs.model import load

            opened = load(model or DEFAULT_GENERATOR)
            _ = opened.size  # a model that does not generate is refused here
            title = f"{model or DEFAULT_GENERATOR} against {data or 'its validation data'}"
            measured = sets.evaluate_model(
                opened, data, how, n=n, seed=seed or 0,
                truncation=1.0 if truncation is None else truncation,
                clip=None if clip is None else load(clip).embed, check=check,
                options=read_options(option, opened.generate.verb.options),
            )  # fmt: skip
    report.show_sets(measured, title, console())
    if json_file:
        report.write_report(json_file, measured)
