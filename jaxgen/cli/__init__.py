"""The command `jaxgen`: generate, upscale, eval, convert, interpolate, models, prepare, export,
sweep.

One module per command. Everything slow (jax above all) is imported inside the commands, so that
`--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from jaxgen import __version__
from jaxgen.cli.convert import convert
from jaxgen.cli.evaluate import evaluate
from jaxgen.cli.generate import generate
from jaxgen.cli.interpolate import interpolate
from jaxgen.cli.manage import export, models, prepare
from jaxgen.cli.sweep import sweep
from jaxgen.cli.upscale import upscale
from jaxgen.errors import UserError

app = typer.Typer(
    help="Generates and enlarges pictures with models trained by jaxgen.",
    epilog="Train: python -m jaxgen.main --config=configs/srgan.py",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"jaxgen {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


app.command()(generate)
app.command()(upscale)
app.add_typer(evaluate, name="eval")
app.command()(models)
app.command()(prepare)
app.command()(export)
app.command()(interpolate)
app.command()(convert)
app.command()(sweep)


def main() -> None:
    """The command: user mistakes end in one line and exit code 2, Ctrl-C in 130."""
    try:
        app()
    except UserError as error:
        if os.environ.get("JAXGEN_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
