"""The command `jaxgen`: generate, complete, upscale, reconstruct, encode, decode, embed, index,
search, eval, convert, interpolate, models, config, prepare, export, sweep.

One module per command. Everything slow (jax above all) is imported inside the commands, so that
`--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from jaxgen import __version__, heap
from jaxgen.cli.common import interruptible, printable
from jaxgen.cli.complete import complete
from jaxgen.cli.config import config
from jaxgen.cli.convert import convert
from jaxgen.cli.embed import embed
from jaxgen.cli.encode import decode, encode, reconstruct
from jaxgen.cli.evaluate import evaluate
from jaxgen.cli.generate import generate
from jaxgen.cli.interpolate import interpolate
from jaxgen.cli.manage import export, models, prepare
from jaxgen.cli.retrieve import index, search
from jaxgen.cli.sweep import sweep
from jaxgen.cli.upscale import upscale
from jaxgen.errors import mendable
from jaxgen.log import keep_interrupts

# In the order of --help; a further command is one line here.
COMMANDS: dict[str, Callable[..., None] | typer.Typer] = {
    "generate": generate,
    "complete": complete,
    "upscale": upscale,
    "reconstruct": reconstruct,
    "encode": encode,
    "decode": decode,
    "embed": embed,
    "index": index,
    "search": search,
    "eval": evaluate,
    "models": models,
    "config": config,
    "prepare": prepare,
    "export": export,
    "interpolate": interpolate,
    "convert": convert,
    "sweep": sweep,
}


def make_app() -> typer.Typer:
    """The command with all of `COMMANDS`."""
    app = typer.Typer(
        help="Generates and enlarges pictures with models trained by jaxgen.",
        epilog="Train: python -m jaxgen.main --config=configs/srgan.py",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_common)
    for name, command in COMMANDS.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        print(f"jaxgen {__version__}")
        raise typer.Exit


def _common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """The command: user mistakes end in one line and exit code 2, Ctrl-C in 130.

    `JAXGEN_TRACEBACK=1` shows where they come from.
    """
    printable()
    heap.keep_freed_memory()
    keep_interrupts()
    try:
        # From the start: a Ctrl-C while a model is being opened must not be lost either.
        with interruptible():
            make_app()()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has enough; Python must not flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        said = mendable(error)
        if not said or os.environ.get("JAXGEN_TRACEBACK"):
            raise
        print(f"error: {said}", file=sys.stderr)
        sys.exit(2)
