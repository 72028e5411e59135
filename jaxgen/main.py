"""Trains or evaluates a config: `python -m jaxgen.main --config=configs/srgan.py`.

Flags only; the work is in `jaxgen.train.loop`, importable from a notebook. `jaxgen train` is the
same with names of configs.
"""

# ruff: noqa: E402 (Ctrl-C is seen to before the slow imports)

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path


def _interrupted(number: int, frame: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)


if __name__ == "__main__":  # a Ctrl-C while the rest is being imported; `run` takes over
    signal.signal(signal.SIGINT, _interrupted)

from absl import app, flags

from jaxgen.backend import CHOICES, choose
from jaxgen.errors import UserError, one_line
from jaxgen.log import interrupt, keep_interrupts
from jaxgen.train import command

_CONFIG = flags.DEFINE_string(
    "config",
    None,
    "config file or name, with `:variant` if wanted; --config.key=value changes a value",
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
_DEVICE = flags.DEFINE_string("device", None, CHOICES)
_overrides: list[command.Override] = []


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; overrides are --config.key=value")
    if _DEVICE.value is not None:
        choose(_DEVICE.value)
    assert _CONFIG.value is not None  # `_parse` wants it
    status = command.start(
        _CONFIG.value, _overrides, _WORKDIR.value, _MODE.value, _DEBUG.value, _DISTRIBUTED.value,
        after=_after,
    )  # fmt: skip
    if status:
        sys.exit(status)


def _after(run: Path, again: str, finished: bool) -> list[str]:
    from jaxgen.runs.hints import next_commands

    return next_commands(run, again, finished)


def _parse(argv: list[str]) -> list[str]:
    """Parses the flags, and sets `--config.KEY=VALUE` aside; every mistake is a UserError."""
    rest, _overrides[:] = command.split_overrides(argv)
    try:
        rest = flags.FLAGS(rest)
    except (flags.Error, ValueError) as error:
        raise UserError(one_line(error)) from error
    if not _CONFIG.value:
        raise UserError("--config is missing; for example --config=configs/srgan.py")
    return rest


def run() -> None:
    """The command: user mistakes end in one line and status 2."""

    def work() -> int:
        keep_interrupts()
        signal.signal(signal.SIGINT, interrupt)
        app.run(main, flags_parser=_parse)
        return 0

    command.guarded(work)


if __name__ == "__main__":
    run()
