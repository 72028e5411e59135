"""`jaxgen train`."""

from __future__ import annotations

from typing import Annotated

import typer

from jaxgen.cli.common import ConfigName
from jaxgen.errors import UserError


def train(
    context: typer.Context,
    config: ConfigName,
    workdir: Annotated[
        str | None,
        typer.Option(
            "--workdir",
            "-o",
            metavar="DIR",
            help="The run's folder; a run that is there goes on. Default: runs/CONFIG-VARIANT.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a value of the config; repeatable. Also as --config.KEY=VALUE.",
        ),
    ] = None,
    mode: Annotated[str, typer.Option(help="train, or eval: evaluate the run.")] = "train",
    debug: Annotated[
        bool, typer.Option("--debug", help="No jit, and an error at the first NaN: slow.")
    ] = False,
    distributed: Annotated[
        str,
        typer.Option(help="Several hosts: auto detects a cluster, on insists on one, off."),
    ] = "auto",
) -> None:
    """Train a config, or go on with its run.

    `jaxgen train srgan:tiny` is `python -m jaxgen.main --config=configs/srgan.py:tiny`. Ctrl-C
    saves; the same command goes on.
    """
    from jaxgen.runs.hints import next_commands
    from jaxgen.train import command

    def work() -> int:
        for name, value, known in (
            ("mode", mode, ("train", "eval")), ("distributed", distributed, ("auto", "on", "off")),
        ):  # fmt: skip
            if value not in known:
                raise UserError(f"--{name} must be one of {', '.join(known)}, not {value!r}")
        rest, overrides = command.split_overrides(context.args)
        if rest:
            raise UserError(f"unexpected argument {rest[0]!r}; see jaxgen train --help")
        for text in set_ or []:
            key, equals, value = text.partition("=")
            if not equals:
                raise UserError(f"--set {text}: give KEY=VALUE")
            overrides.append((key, value))
        return command.start(
            config, overrides, workdir, mode, debug, distributed, after=next_commands
        )

    command.guarded(work)
