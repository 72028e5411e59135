"""`jaxgen embed`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from jaxgen.cli.common import interruptible
from jaxgen.errors import UserError


def embed(
    model: Annotated[
        str, typer.Option(help="A run's folder, an exported or converted model, of family clip.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="A new .npz file.")],
    pictures: Annotated[
        list[Path] | None, typer.Argument(help="Pictures, or folders of them.")
    ] = None,
    texts: Annotated[Path | None, typer.Option(help="A file with a text in each line.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a file that is there.")] = False,
) -> None:
    """Turn pictures, or texts, into features that can be compared.

    The .npz holds `features` (n, width) float32 of length 1, `names` (the pictures' paths or the
    texts) and `model`, the fingerprint of the weights: compare features of one model alone. A
    picture that can't be read is named and the others are done; exit code 1.
    """
    from jaxgen.verbs.embed import files
    from jaxgen.verbs.files import check_writable

    if bool(pictures) == (texts is not None):
        raise UserError("give pictures, or --texts FILE")
    out = out.expanduser()
    if out.suffix != ".npz":
        raise UserError(f"{out}: the name must end in .npz")
    if out.exists() and not overwrite:
        raise UserError(f"{out} exists; give --overwrite to replace it")
    check_writable(out.parent)
    found = files.find(pictures) if pictures else None
    lines = files.read_texts(texts) if texts is not None else []

    from jaxgen.runs.model import load

    use = load(model).embed
    errors: list[str] = []
    with interruptible() as check:
        if found is None:
            names, features = lines, use.texts(lines)
        else:
            names, features, errors = files.embed_pictures(use, found, check)
    files.write(out, names, features, use.fingerprint)
    print(f"{out}  {len(features)} x {features.shape[1]}")
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    if errors:
        raise typer.Exit(1)
