"""`jaxgen sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from jaxgen.cli.common import complete_config, console, interruptible, pair
from jaxgen.errors import UserError

SHOWN = 10  # rows of the table at the end


def sweep(
    config: Annotated[
        str,
        typer.Option(
            help="Config file or name, with `:variant` if wanted.", autocompletion=complete_config
        ),
    ],
    space: Annotated[
        Path, typer.Option(help="Python file with SPACE = {config key: {kind: values}}.")
    ],
    trials: Annotated[int, typer.Option(min=1, help="Finished trials that the study shall have.")],
    metric: Annotated[
        str, typer.Option(help="Metric of the evaluations; default: the config's best_metric.")
    ] = "",
    mode: Annotated[str, typer.Option(help="max or min; default: the config's best_mode.")] = "",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The sweep's folder. Default: runs/sweep-CONFIG."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Config value of all trials; repeatable."),
    ] = None,
    storage: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Where processes and machines share the study: a database "
            "(postgresql+psycopg://USER@HOST/DATABASE, or sqlite:///FILE on one machine), or the "
            "path of a journal file in a folder that all see. All give the same --out name. "
            "Default: a SQLite file in the sweep's folder.",
        ),
    ] = "",
    seed: Annotated[int, typer.Option(help="Of the choice of values.")] = 0,
) -> None:
    """Search for good settings: trains the config with values that Optuna chooses from a space.

    Trials that fall behind the median of the others are stopped at an evaluation. The same command
    again goes on where a stopped sweep was; with more --trials it adds to it. The folder gets
    trials.csv, best.json, sweep.png and the runs themselves.
    """
    from jaxgen import config as configs
    from jaxgen.log import setup
    from jaxgen.train import sweep as sweeps
    from jaxgen.train import sweep_results as results
    from jaxgen.train.sweep_study import Sweep

    setup()
    overrides = dict(pair(text) for text in set_ or [])
    loaded = configs.load(config, overrides)
    metric = metric or loaded.train.best_metric
    if not metric:
        raise UserError(
            f"--metric is missing: {config} has no train.best_metric; give a metric of its "
            "evaluations, such as --metric whole (captioned shapes) or psnr_y (super-resolution)"
        )
    file, _, variant = config.partition(":")
    name = Path(file).stem + (f"-{variant}" if variant else "")
    wanted = Sweep(
        config=config,
        space=sweeps.read_space(space),
        metric=metric,
        mode=mode or loaded.train.best_mode,
        folder=(out or Path("runs") / f"sweep-{name}").expanduser(),
        overrides=overrides,
        storage=storage,
    )
    with interruptible():
        study = sweeps.run(wanted, trials, seed)
    _print_table(wanted, results.rows(wanted, study))
    best = results.best_values(wanted, study)
    if best is None:
        raise UserError("no trial was finished")
    flags = " ".join(f"--config.{key}={value}" for key, value in best["overrides"].items())
    print(f"best: jaxgen train {config} {flags}")
    print(f"its run: {wanted.folder / best['folder']}; all: {wanted.folder / results.TABLE}")


def _print_table(wanted: Any, found: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(title=f"{wanted.config}: {wanted.metric} ({wanted.mode}), best first")
    columns = [key for key in found[0] if key != "folder"]
    for column in columns:
        table.add_column(column, justify="right")
    for row in found[:SHOWN]:
        table.add_row(*(_cell(row[column]) for column in columns))
    console().print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
