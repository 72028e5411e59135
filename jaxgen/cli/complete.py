"""`jaxgen complete`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxgen.cli.common import OptionTexts, interruptible, read_options
from jaxgen.errors import UserError


def complete(
    picture: Annotated[Path, typer.Argument(help="The picture whose beginning is kept.")],
    model: Annotated[
        str,
        typer.Option(
            help="A run's folder, an exported model's folder, or a bundled model, of the family "
            "prior."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="A file (.png, .jpg, .webp) of all pictures, or a folder."
        ),
    ],
    keep: Annotated[
        float, typer.Option(help="Share of the picture's rows that stays, from 0 to 1.")
    ] = 0.5,
    prompt: Annotated[
        str, typer.Option(help="What it shows, for a model of texts or classes.")
    ] = "",
    n: Annotated[int, typer.Option("-n", min=1, help="Pictures to draw.")] = 1,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of what is drawn.")] = 0,
    first: Annotated[int, typer.Option(min=0, help="Number of the first picture.")] = 0,
    option: OptionTexts = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Pictures at a time. Default: as suits their size.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a file that is there.")] = False,
) -> None:
    """Keep the upper part of a picture and draw the rest anew."""
    from jaxgen.verbs.complete import files
    from jaxgen.verbs.complete.use import check_keep
    from jaxgen.verbs.files import check_writable

    check_keep(keep)
    out = out.expanduser()
    folder = files.is_folder(out)
    if not folder and out.exists() and not overwrite:
        raise UserError(f"{out} exists; give --overwrite to replace it")
    check_writable(out if folder else out.parent)

    from jaxgen.data.picture_files import read_image
    from jaxgen.runs.model import load

    use = load(model).complete
    options = read_options(option, use.verb.options)
    use.check(options)
    with interruptible():
        drawn = use(
            read_image(picture.expanduser()), keep, n,
            prompt=prompt, seed=seed, first=first, batch=batch, **options,
        )  # fmt: skip
    for path in files.write(drawn, out, picture.stem, seed, first):
        print(path)
