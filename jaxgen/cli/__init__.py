"""The command `jaxgen`: generate, edit, complete, upscale, reconstruct, encode, decode, embed,
index, search, eval, convert, interpolate, models, configs, config, prepare, train, export, sweep.

One module per command. Everything slow (jax above all) is imported inside the commands, so that
`--help` answers at once.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from jaxgen import __version__, heap
from jaxgen.cli.common import interruptible, printable, with_device
from jaxgen.cli.complete import complete
from jaxgen.cli.config import config, configs
from jaxgen.cli.convert import convert
from jaxgen.cli.edit import edit
from jaxgen.cli.embed import embed
from jaxgen.cli.encode import decode, encode, reconstruct
from jaxgen.cli.evaluate import evaluate
from jaxgen.cli.generate import generate
from jaxgen.cli.interpolate import interpolate
from jaxgen.cli.manage import export, models, prepare
from jaxgen.cli.retrieve import index, search
from jaxgen.cli.sweep import sweep
from jaxgen.cli.train import train
from jaxgen.cli.upscale import upscale
from jaxgen.errors import mendable
from jaxgen.log import keep_interrupts, plain_warnings

# In the order of --help; a further command is one line here.
COMMANDS: dict[str, Callable[..., None] | typer.Typer] = {
    "train": train,
    "generate": generate,
    "edit": edit,
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
    "configs": configs,
    "config": config,
    "prepare": prepare,
    "export": export,
    "interpolate": interpolate,
    "convert": convert,
    "sweep": sweep,
}


# Those that look up, and use no device.
WITHOUT_DEVICE = ("models", "configs", "config")
# Those that take --config.KEY=VALUE.
FREE = ("train",)


def make_app() -> typer.Typer:
    """The command with all of `COMMANDS`."""
    app = typer.Typer(
        help="Generates and enlarges pictures with models trained by jaxgen.",
        epilog="Begin with: jaxgen upscale photo.jpg; jaxgen train srgan; jaxgen configs",
        no_args_is_help=True,
        rich_markup_mode=None,  # its table of five columns leaves 20 of 80 letters for the text
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_common)
    for name, command in COMMANDS.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            more = {"allow_extra_args": True, "ignore_unknown_options": True}
            used = command if name in WITHOUT_DEVICE else with_device(command)
            app.command(name, context_settings=more if name in FREE else None)(used)
    return app


def make_command() -> Any:
    """`make_app` as what is called, with texts that flow."""
    command = typer.main.get_command(make_app())
    _flow(command)
    return command


def _flow(command: Any) -> None:
    """Lines of a docstring end where the code's do; a terminal is of another width."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    flowing = [" ".join(part.split()) for part in paragraphs]
    command.help = "\n\n".join(flowing)
    command.short_help = flowing[0]  # whole in the list of commands
    for below in getattr(command, "commands", {}).values():
        _flow(below)


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
    plain_warnings()
    heap.keep_freed_memory()
    keep_interrupts()
    try:
        # From the start: a Ctrl-C while a model is being opened must not be lost either.
        with interruptible():
            make_command()()
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
