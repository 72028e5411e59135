"""Trains or evaluates a config: `python -m jaxgen.main --config=configs/srgan.py`.

Flags only; the work is in `jaxgen.train.loop`, importable from a notebook.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from jaxgen.errors import UserError
from jaxgen.log import setup
from jaxgen.train.heap import keep_freed_memory

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "config file, with `:variant` if wanted; --config.key=value changes a value"
)
_WORKDIR = flags.DEFINE_string("workdir", None, "the run's folder [runs/<config>-<variant>]")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "train, or evaluate the run")
_DEBUG = flags.DEFINE_bool("debug", False, "no jit, and an error at the first NaN: slow")
_DISTRIBUTED = flags.DEFINE_enum(
    "distributed",
    "auto",
    ["auto", "on", "off"],
    "several hosts: detect a cluster, insist on one, or run alone",
)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; overrides are --config.key=value")
    setup()
    keep_freed_memory()

    from jaxgen.train import distributed, loop

    distributed.initialize(_DISTRIBUTED.value)
    workdir = _WORKDIR.value or default_workdir(_config_name())
    if _MODE.value == "eval":
        loop.evaluate(_CONFIG.value, workdir)
        return
    result = loop.train(_CONFIG.value, workdir, debug=_DEBUG.value)
    if result.stopped == "interrupted":
        sys.exit(130)


def default_workdir(config: str) -> str:
    """`configs/srgan.py:tiny` -> `runs/srgan-tiny`."""
    file, _, variant = config.partition(":")
    return f"runs/{Path(file).stem}" + (f"-{variant}" if variant else "")


def _config_name() -> str:
    """`FILE.py` or `FILE.py:variant`, as given."""
    return config_flags.get_config_filename(flags.FLAGS["config"])


def _parse(argv: list[str]) -> list[str]:
    """Parses the flags; every mistake in them, and in the config file, is a UserError."""
    try:
        rest = flags.FLAGS(argv)
        if not flags.FLAGS["config"].present:
            raise UserError("--config is missing; for example --config=configs/srgan.py")
        file = _config_name().partition(":")[0]
        if not Path(file).is_file():
            raise UserError(f"no config file at {file}; configs/ in the repository has some")
        return rest
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(" ".join(str(error).split())) from error


def run() -> None:
    """The command: user mistakes end in one line and status 2."""
    try:
        app.run(main, flags_parser=_parse)
    except KeyboardInterrupt:  # at the start, or a second one
        if os.environ.get("JAXGEN_TRACEBACK"):
            raise
        _end("interrupted", 130)
    except UserError as error:
        if os.environ.get("JAXGEN_TRACEBACK"):
            raise
        _end(f"error: {error}", 2)


def _end(line: str, status: int) -> None:
    sys.stdout.flush()
    print(line, file=sys.stderr, flush=True)
    # At once, so that the line is the last one: the run has closed its files, and the threads of a
    # save that failed may go on.
    os._exit(status)


if __name__ == "__main__":
    run()
