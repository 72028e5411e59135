"""`jaxgen config`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from jaxgen.cli.common import console, pair


def config(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE[:VARIANT]",
            help="A config file; in a checkout also the name of one in configs/, such as srgan.",
        ),
    ],
    keys: Annotated[
        bool, typer.Option("--keys", help="List each key with what it may be and what it does.")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a value; repeatable."),
    ] = None,
) -> None:
    """Check a config and print it as training takes it: all keys with their values, as JSON."""
    from jaxgen import config as configs
    from jaxgen.train import family

    loaded = configs.load(file, dict(pair(text) for text in set_ or []))
    configs.check(loaded)
    family.check(loaded)
    if not keys:
        print(configs.to_json(loaded), end="")
        return
    _print_keys(loaded, {**family.own_keys(loaded), **configs.SHARED})


def _print_keys(loaded: Any, tables: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    from jaxgen.errors import shown
    from jaxgen.keys import leaves, may_be

    table = Table("key", "value", "may be", "what it does")
    for name, value, key in leaves(loaded, tables):
        table.add_row(*(Text(cell) for cell in (name, shown(value), may_be(key), key.says)))
    console().print(table)
