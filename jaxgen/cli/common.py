"""What several commands share."""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import io
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxgen import shipped
from jaxgen.backend import CHOICES, choose
from jaxgen.errors import UserError, shown
from jaxgen.log import forget_interrupts, interrupt, interrupted
from jaxgen.verbs import Option

DEFAULT_MODEL = "srgan_x4"  # to measure: of pictures that were made smaller without loss
PHOTO_MODEL, PHOTO_MODEL_X2 = "srresnet_photo_x4", "srresnet_photo_x2"  # to use
DEFAULT_GENERATOR = "dfgan_shapes"

JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Also write the numbers to this file.")
]

ShardText = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="K/N",
        help="Only the K-th of N equal shares, as 3/16. Shares may run at the same time, on many "
        "machines, and again.",
    ),
]


EditMethod = Annotated[
    str | None, typer.Option(help="How to edit; the model's own first one by default.")
]
OptionTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="NAME=VALUE",
        help="A setting of the model's own, such as temperature=0.9 of a prior; repeatable.",
    ),
]


def read_options(texts: list[str] | None, known: Mapping[str, Option]) -> dict[str, Any]:
    """NAME=VALUE texts as a verb's options, each of its default's kind.

    Raises:
      UserError: another form, or a value of another kind.
    """
    found: dict[str, Any] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--option {shown(text)}: give NAME=VALUE")
        default = known[name].default if name in known else ""
        try:
            found[name] = type(default)(value)
        except ValueError:
            kind = "an integer" if isinstance(default, int) else "a number"
            raise UserError(f"--option {name}={shown(value)}: {name} must be {kind}") from None
    return found


def console() -> Any:
    """Rich's console; where the output is a pipe, lines are not broken at 80 columns."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=200)


def printable() -> None:
    """Lets any name be printed: what the output's encoding has no letter for becomes an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_there(path: Path) -> bool:
    """Whether a file or folder is there; not one whose name is longer than names can be."""
    try:
        return path.exists()
    except OSError:
        return False


def with_device(command: Callable[..., None]) -> Callable[..., None]:
    """The command with --device, which is heeded before JAX is imported."""

    @functools.wraps(command)
    def run(*args: Any, device: str | None = None, **given: Any) -> None:
        if device is not None:
            choose(device)
        command(*args, **given)

    signature = inspect.signature(command, eval_str=True)
    says = f"Use this device alone: {CHOICES}. Default: JAX's choice."
    option = Annotated[str | None, typer.Option("--device", metavar="NAME", help=says)]
    one = inspect.Parameter(
        "device", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option
    )
    parameters = [*signature.parameters.values(), one]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def complete_config(incomplete: str) -> list[str]:
    """What the shell offers for the beginning of a config's name."""
    name, colon, _ = incomplete.partition(":")
    if colon and name in shipped.names():
        return [f"{name}:{variant}" for variant in shipped.variants(name) if variant]
    return [known for known in shipped.names() if known.startswith(incomplete)]


ConfigName = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG[:VARIANT]",
        help="A config file, or the name of a shipped one (`jaxgen configs`), such as srgan.",
        autocompletion=complete_config,
    ),
]


def pair(text: str) -> tuple[str, Any]:
    """Key and value of `--set KEY=VALUE`; what is no Python value is a text."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {text}: give KEY=VALUE")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return key, value


_listening: list[bool] = []  # whether an `interruptible` listens


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Gives a function that raises KeyboardInterrupt if one was lost since the outermost of these.

    Python drops exceptions inside finalizers, and JAX runs one at every garbage collection: a
    Ctrl-C that falls into it would have no effect. Code in C makes other exceptions of it: these
    leave the outermost as KeyboardInterrupt.
    """

    def check() -> None:
        if interrupted():
            forget_interrupts()
            raise KeyboardInterrupt

    if _listening or threading.current_thread() is not threading.main_thread():
        yield check  # one listens already, or signals don't come here
        return
    before = signal.signal(signal.SIGINT, interrupt)
    forget_interrupts()
    _listening.append(True)
    try:
        yield check
    except Exception as error:
        if interrupted():
            raise KeyboardInterrupt from error
        raise
    finally:
        _listening.clear()
        forget_interrupts()
        signal.signal(signal.SIGINT, before)


def given_by_user(context: typer.Context, name: str) -> bool:
    """Whether a parameter stands on the command line, and is no default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
