"""What `python -m jaxgen.main` and `jaxgen train` do: a config by its name, and a run of it."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

from ml_collections import ConfigDict

from jaxgen import config as configs
from jaxgen.errors import UserError, mendable
from jaxgen.heap import keep_freed_memory
from jaxgen.log import interrupted, log, setup

Override = tuple[str, str]  # a config's key, and a value as text
After = Callable[[Path, str, bool], list[str]]
_KEY = re.compile(r"--?(no)?config\.([\w.]+)(?:=(.*))?", re.DOTALL)


def start(
    name: str,
    overrides: Iterable[Override] = (),
    workdir: str | None = None,
    mode: str = "train",
    debug: bool = False,
    distributed: str = "auto",
    after: After | None = None,
) -> int:
    """Trains a config, or evaluates its run; the exit status.

    Args:
      name: a config's file or name, with `:variant` if wanted.
      workdir: the run's folder; None: `default_workdir`.
      mode: "train" or "eval".
      distributed: see `jaxgen.train.distributed.initialize`.
      after: (the run's folder, the command that goes on with it, whether it came to its last step)
        -> lines to say at the end.

    Raises:
      UserError: as `jaxgen.train.loop.train`, and of what was typed.
    """
    setup()
    keep_freed_memory()
    overrides = list(overrides)
    config = load(name, overrides)

    from jaxgen.train import distributed as cluster
    from jaxgen.train import loop

    cluster.initialize(distributed)
    folder = workdir or default_workdir(name)
    if mode == "eval":
        loop.evaluate(config, folder)
        return 0
    result = loop.train(config, folder, debug=debug, asked=[key for key, _ in overrides])
    if after is not None:
        again = ["jaxgen", "train", name, *(f"--config.{key}={text}" for key, text in overrides)]
        again += ["-o", workdir] if workdir else []
        for line in after(Path(folder), shlex.join(again), result.stopped == "done"):
            log.info("%s", line)
    return 130 if result.stopped == "interrupted" else 0


def default_workdir(config: str) -> str:
    """`configs/srgan.py:tiny` -> `runs/srgan-tiny`."""
    file, _, variant = config.partition(":")
    return f"runs/{Path(file).stem}" + (f"-{variant}" if variant else "")


def split_overrides(arguments: Iterable[str]) -> tuple[list[str], list[Override]]:
    """(the others, those of the form `--config.KEY=VALUE`); raises UserError."""
    rest, overrides = [], []
    for argument in arguments:
        found = _KEY.fullmatch(argument)
        if found is None:
            rest.append(argument)
            continue
        no, key, text = found.groups()
        if no and text is not None:
            raise UserError(f"{argument}: give --config.{key}=VALUE")
        overrides.append((key, text if text is not None else "false" if no else "true"))
    return rest, overrides


def load(name: str, overrides: Iterable[Override]) -> ConfigDict:
    """The config with the command line's values, each read as its key's type.

    Raises:
      UserError: see `jaxgen.config.load`; or a value of another type.
    """
    config = configs.load(name)
    for key, text in overrides:
        configs.set_key(config, key, text)
    return config


def guarded(work: Callable[[], int]) -> None:
    """Does the work and leaves the program: a user's mistake ends in one line and status 2."""
    try:
        status = work()
    except (KeyboardInterrupt, Exception) as error:
        if os.environ.get("JAXGEN_TRACEBACK"):
            raise
        if isinstance(error, KeyboardInterrupt) or interrupted():  # at the start, or a second one
            end("interrupted", 130)
        said = mendable(error)
        if not said:
            raise
        end(f"error: {said}", 2)
    sys.exit(status)


def end(line: str, status: int) -> NoReturn:
    """Says a last line and leaves at once.

    The run has closed its files; the threads of a save that failed may go on, and would say more.
    """
    sys.stdout.flush()
    print(line, file=sys.stderr, flush=True)
    os._exit(status)
