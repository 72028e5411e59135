"""The one exception for mistakes that a user can mend, and what its messages share."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SHOWN = 80  # characters of a value in a message


# What `json.loads` raises of a text that is no usable JSON: numbers of more digits than Python
# reads are ValueErrors, brackets without end RecursionErrors.
NO_JSON = (ValueError, RecursionError)


class UserError(Exception):
    """A problem with the input, not with the program.

    The message is one line and says what to do. `jaxgen.main` and the `jaxgen` command print it
    as `error: ...` and exit with status 2, without a traceback; library callers catch it.
    """


def mendable(error: BaseException) -> str:
    """One line for an error that the user or the machine's owner can mend; "": the program's fault.

    These are mistakes, files that the system refuses, devices and memory that are not there.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return "the memory does not suffice; take smaller pictures, tiles, batches or networks"
    if found := re.search(r"(?:Unable to initialize|Unknown) backend '?(\w+)", str(error)):
        # Jax says so of what --device or JAX_PLATFORMS names.
        extra = {"cuda": "cuda", "tpu": "tpu"}.get(found[1], "")
        more = f", or install what it needs: {pip_install(extra)}" if extra else ""
        return f"JAX finds no {found[1]} here: leave --device (or JAX_PLATFORMS) away{more}"
    return ""


def near(name: str, known: Iterable[str]) -> str:
    """ "; did you mean X?" where one of the known names is like `name`; else ""."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""


def shown(value: Any) -> str:
    """A value as a message shows it: on one line, and not longer than a line."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write integers of more than 4,300 digits
        return f"an integer of {value.bit_length()} bits"
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def one_line(error: BaseException) -> str:
    """An exception as a message shows it: its own words on one line, without a repr of them."""
    first = error.args[0] if error.args else ""
    if isinstance(first, BaseException):
        return one_line(first)
    text = str(first) if isinstance(error, KeyError) else str(error)
    # ml_collections lists the whole config between what is wrong and what is near.
    text = re.sub(r"Other fields present: .*?(?=Did you mean|$)", "", text, flags=re.DOTALL)
    return " ".join(text.split()) or type(error).__name__


def pip_install(extra: str) -> str:
    """The command that adds an optional part: of the checkout that jaxgen runs from, if it does."""
    root = Path(__file__).resolve().parent.parent
    if (root / "pyproject.toml").is_file() and (root / "configs").is_dir():
        return f'pip install -e ".[{extra}]"'
    return f'pip install "jaxgen[{extra}]"'
