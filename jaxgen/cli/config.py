"""`jaxgen config` and `jaxgen configs`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from jaxgen.cli.common import ConfigName, console, pair


def config(
    file: ConfigName,
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
    whole = family.completed(loaded, loaded)
    _print_keys(whole, {**family.own_keys(loaded), **configs.SHARED})


def configs() -> None:
    """List the configs that come with jaxgen: data, steps, and what a run of each takes.

    `jaxgen train NAME` or `jaxgen train NAME:VARIANT` trains one.
    """
    from rich.table import Table
    from rich.text import Text

    from jaxgen import config as loading
    from jaxgen import shipped

    print(f"from {shipped.folder()}")
    for name in shipped.names():
        table = Table("config", "data", "steps", "takes", box=None, padding=(0, 2, 0, 0))
        for variant, cost in shipped.variants(name).items():
            loaded = loading.load(f"{shipped.folder() / name}.py:{variant}")
            row = (
                f"{name}:{variant}" if variant else name,
                _data(loaded),
                f"{loaded.train.steps:,}",
                cost,
            )
            table.add_row(*(Text(cell) for cell in row))
        console().print(Text(f"\n{shipped.headline(name)}", style="bold"))
        console().print(table)


def _data(loaded: Any) -> str:
    """The data of a config: their source, and the pictures' side in pixels."""
    data = loaded.data
    side = data.get("size", data.get("hr_size"))
    source = data.get("source", "drawn")
    name = data.get("name", "") if source == "tfds" else ""
    return f"{name or source}, {side} px" if side else name or source


def _print_keys(loaded: Any, tables: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    from jaxgen.errors import shown
    from jaxgen.keys import leaves, may_be

    table = Table("key", "value", "may be", "what it does")
    for name, value, key in leaves(loaded, tables):
        table.add_row(*(Text(cell) for cell in (name, shown(value), may_be(key), key.says)))
    console().print(table)
