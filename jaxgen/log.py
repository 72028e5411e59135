"""The program's own log lines: `HH:MM:SS text` on stderr, from process 0 only; warnings say so.

The libraries below log much at the INFO level; theirs is left at WARNING.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from types import FrameType

from absl import logging as absl_logging

log = logging.getLogger("jaxgen")
_coming: list[threading.Timer] = []  # Ctrl-C that a finalizer dropped
_heard: list[int] = []  # Ctrl-C that `interrupt` has raised


class _Line(logging.Formatter):
    """Lines of warnings and of what is worse begin, behind the time, with a word that says so."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.levelno < logging.WARNING:
            return text
        word = "warning" if record.levelno < logging.ERROR else "error"
        start = len(text) - len(record.message)
        return text if record.exc_info else f"{text[:start]}{word}: {text[start:]}"


class _Stderr(logging.StreamHandler):
    """Writes to what `sys.stderr` is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


_rest = _Stderr()  # warnings of whoever has set up no log of its own
_rest.setLevel(logging.WARNING)


def plain_warnings() -> None:
    """Warnings of all kinds as one line each, of Python's `warnings` and of absl's, too.

    Called by the commands, not on import.
    """
    _rest.setFormatter(_Line("%(message)s"))
    if not logging.root.handlers:  # absl would add one of its own at its first line
        logging.root.addHandler(_rest)

    def show(message: Warning | str, *where: object, **more: object) -> None:
        log.warning("%s", " ".join(str(message).split()))

    warnings.showwarning = show  # type: ignore[assignment]


def setup() -> None:
    """Shows the log on stderr; called by the commands, not on import."""
    absl_logging.set_verbosity(absl_logging.WARNING)  # Orbax, TFDS, Grain; absl's `app` says INFO
    _hush_failing_saves()
    plain_warnings()
    line = _Line("%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for other in (absl_logging.get_absl_handler(), _rest):
        other.setFormatter(line)
    if log.handlers:
        return
    handler = _Stderr()
    handler.setFormatter(line)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def only_errors() -> None:
    """Silences the log on hosts other than the first."""
    log.setLevel(logging.ERROR)


def _hush_failing_saves() -> None:
    """Lets one line stand for a save that failed.

    Orbax raises the error, which becomes that line. Beside it, its threads log it, and a hundred
    futures report it: tracebacks that would bury the line.
    """
    absl_logging.get_absl_logger().addFilter(lambda record: "orbax" not in record.pathname)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)


def keep_interrupts() -> None:
    """A Ctrl-C that falls into a finalizer, where Python drops it with a traceback, comes again.

    JAX runs such a one at every garbage collection. Called by the commands, not on import.
    """
    before = sys.unraisablehook

    def hook(args: sys.UnraisableHookArgs, /) -> None:
        if isinstance(args.exc_value, KeyboardInterrupt) or args.exc_type is KeyboardInterrupt:
            timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
            timer.daemon = True
            _coming.append(timer)
            timer.start()
        else:
            before(args)

    sys.unraisablehook = hook


def forget_interrupts() -> None:
    """What was to come again has been heard otherwise, or what it was meant for has ended."""
    _heard.clear()
    while _coming:
        _coming.pop().cancel()


def interrupted() -> bool:
    """Whether `interrupt` has raised a Ctrl-C since `forget_interrupts`.

    Code in C turns KeyboardInterrupt into other exceptions or drops it: whatever comes after one
    comes of it.
    """
    return bool(_heard)


def interrupt(number: int, frame: FrameType | None) -> None:
    """The commands' handler of Ctrl-C: KeyboardInterrupt, but within an import the end at once.

    There is nothing to tidy yet, and libraries with code in C turn the exception into another one,
    or crash.
    """
    at = frame
    while at is not None:
        if at.f_code.co_filename.startswith("<frozen importlib"):
            os.write(2, b"interrupted\n")
            os._exit(130)
        at = at.f_back
    _heard.append(number)
    signal.default_int_handler(number, frame)
