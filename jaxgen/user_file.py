"""Python files of the user's, configs and spaces of a sweep: run, and what they raise told."""

from __future__ import annotations

import contextlib
import runpy
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxgen import shipped
from jaxgen.errors import UserError, near, one_line


def run(file: str | Path, kind: str) -> dict[str, Any]:
    """Runs a user's Python file and gives its names.

    Args:
      kind: what it is, for the message: "config" or "space".

    Raises:
      UserError: no such file, or one that does not work, with the line at fault.
    """
    path = Path(file)
    if not path.is_file():
        hint = near(path.name, [p.name for p in path.parent.glob("*.py")])
        raise UserError(f"no {kind} file at {file}{hint or _where(kind, path)}")
    with explained(file):
        return runpy.run_path(str(path), run_name=f"jaxgen_{kind}_{path.stem}")


def _where(kind: str, path: Path) -> str:
    return shipped.near(path.name) if kind == "config" else "; docs/sweep.md shows one"


def _is(filename: str, file: str | Path) -> bool:
    return Path(filename).resolve() == Path(file).resolve()


@contextlib.contextmanager
def explained(file: str | Path) -> Iterator[None]:
    """Turns what a user's file raises, or its leaving the program, into one line with its line."""
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except SyntaxError as error:
        where = f"{error.filename or file}, line {error.lineno or 1}"
        raise UserError(f"{where}: no Python ({error.msg})") from error
    except BaseException as error:  # whatever a file raises; SystemExit is none of Exception's
        at = [f for f in traceback.extract_tb(error.__traceback__) if _is(f.filename, file)]
        where = f"{file}, line {at[-1].lineno}" if at else str(file)
        if isinstance(error, SystemExit):
            raise UserError(f"{where}: it must give values, not leave the program") from error
        raise UserError(f"{where}: {type(error).__name__}: {one_line(error)}") from error
