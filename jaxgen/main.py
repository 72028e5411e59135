"""Trains or evaluates a config: `python -m jaxgen.main --config=configs/srgan.py`.

Flags only; the work is in `jaxgen.train.loop`, importable from a notebook.
"""

# ruff: noqa: E402 (Ctrl-C is seen to before the slow imports)

from __future__ import annotations

import os
import re
import signal
import sys


def _end(line: str, status: int) -> None:
    sys.stdout.flush()
    print(line, file=sys.stderr, flush=True)
    # At once, so that the line is the last one: the run has closed its files, and the threads of a
    # save that failed may go on.
    os._exit(status)


if __name__ == "__main__":  # a Ctrl-C while the rest is being imported; `run` takes over
    signal.signal(signal.SIGINT, lambda *_: _end("interrupted", 130))

from pathlib import Path

from absl import app, flags
from ml_collections import ConfigDict

from jaxgen import config as configs
from jaxgen import keys
from jaxgen.errors import UserError, mendable, one_line
from jaxgen.heap import keep_freed_memory
from jaxgen.log import interrupt, keep_interrupts, setup

_CONFIG = flags.DEFINE_string(
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
    assert _CONFIG.value is not None  # `_parse` wants it
    config = _load(_CONFIG.value, _overrides)

    from jaxgen.train import distributed, loop

    distributed.initialize(_DISTRIBUTED.value)
    workdir = _WORKDIR.value or default_workdir(_CONFIG.value)
    if _MODE.value == "eval":
        loop.evaluate(config, workdir)
        return
    result = loop.train(config, workdir, debug=_DEBUG.value)
    if result.stopped == "interrupted":
        sys.exit(130)


def default_workdir(config: str) -> str:
    """`configs/srgan.py:tiny` -> `runs/srgan-tiny`."""
    file, _, variant = config.partition(":")
    return f"runs/{Path(file).stem}" + (f"-{variant}" if variant else "")


_overrides: list[tuple[str, str]] = []  # of the command line: (key, text)
_KEY = re.compile(r"--?(no)?config\.([\w.]+)(?:=(.*))?", re.DOTALL)


def _parse(argv: list[str]) -> list[str]:
    """Parses the flags, and sets `--config.KEY=VALUE` aside; every mistake is a UserError."""
    _overrides.clear()
    rest = []
    for argument in argv:
        found = _KEY.fullmatch(argument)
        if found is None:
            rest.append(argument)
            continue
        no, key, text = found.groups()
        if no and text is not None:
            raise UserError(f"{argument}: give --config.{key}=VALUE")
        _overrides.append((key, text if text is not None else "false" if no else "true"))
    try:
        rest = flags.FLAGS(rest)
    except (flags.Error, ValueError) as error:
        raise UserError(one_line(error)) from error
    if not _CONFIG.value:
        raise UserError("--config is missing; for example --config=configs/srgan.py")
    return rest


def _load(name: str, overrides: list[tuple[str, str]]) -> ConfigDict:
    """The config with the command line's values, each read as its key's type.

    Raises:
      UserError: see `jaxgen.config.load`; or a value of another type.
    """
    config = configs.load(name)
    for key, text in overrides:
        now = configs.get_key(config, key)
        configs.set_key(config, key, keys.from_text(key, text, now))
    return config


def run() -> None:
    """The command: user mistakes end in one line and status 2."""
    try:
        keep_interrupts()
        signal.signal(signal.SIGINT, interrupt)
        app.run(main, flags_parser=_parse)
    except KeyboardInterrupt:  # at the start, or a second one
        if os.environ.get("JAXGEN_TRACEBACK"):
            raise
        _end("interrupted", 130)
    except Exception as error:
        said = mendable(error)
        if not said or os.environ.get("JAXGEN_TRACEBACK"):
            raise
        _end(f"error: {said}", 2)


if __name__ == "__main__":
    run()
