"""`jaxgen models`, `prepare` and `export`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxgen.cli.common import ShardText, console, interruptible, pair
from jaxgen.errors import UserError

# Of a text-to-image model's many metrics those that say most; other models show their first.
TELLING = ("whole", "held_out_whole", "diversity")
MADE = ("embeddings", "codes", "latents")  # what models make of data
CSS = "css"
FEATURES = "For `embeddings`, `codes` and `latents`; --set and --out for `css`, too"


def models() -> None:
    """List the bundled models."""
    from rich.table import Table

    from jaxgen.weights.places import list_models

    table = Table("name", "family", "does", "parameters", "evaluation", "about")
    for row in list_models():
        does = [
            " ".join([verb, *(f"({key} {_fact(value)})" for key, value in facts.items())])
            for verb, facts in row["verbs"].items()
        ]
        metrics = row["metrics"]
        shown = [key for key in TELLING if key in metrics] or list(metrics)
        scores = ", ".join(f"{key} {metrics[key]:.4g}" for key in shown[:3])
        table.add_row(
            row["name"], row["family"], ", ".join(does), f"{row['parameters']:,}",
            scores, row["headline"],
        )  # fmt: skip
    if not table.row_count:
        raise UserError("no model is bundled with this installation; install jaxgen again")
    console().print(table)


def _fact(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def prepare(
    name: Annotated[
        str,
        typer.Argument(
            help="A dataset of TFDS, e.g. div2k/bicubic_x4; photos, emoji/SIDE or "
            "captioned_shapes/SIDE_one (two, three), which are made here; or `css`: scenes and "
            "changes of composed retrieval, in the published layout; or `embeddings`: text "
            "features for data.embeddings; or `codes` of pictures, for model.codes of a prior; or "
            "`latents`, for model.latents of a diffusion model."
        ),
    ],
    parts: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="With --join: the shares' files."),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where to put it; default: the user's TFDS folder.")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            help="Config whose training captions or pictures are read.", rich_help_panel=FEATURES
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a value of the config; repeatable.",
            rich_help_panel=FEATURES,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Whose text encoder reads them, or whose codes or latents they become: a run, an "
            "exported folder or a bundled model.",
            rich_help_panel=FEATURES,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The file; css: the folder.", rich_help_panel=FEATURES),
    ] = None,
    shard: ShardText = None,
    join: Annotated[
        bool,
        typer.Option("--join", help="Put the shares' files together.", rich_help_panel=FEATURES),
    ] = False,
) -> None:
    """Make data ready for training: a dataset, downloaded or drawn, or what models make of data.

    Datasets become array_record files, without TensorFlow. What models make can be made by shares,
    `--shard 1/16 -o parts/1` and so on; then `jaxgen prepare latents --join parts/* -o FILE`.
    """
    if parts and not join:
        raise UserError(f"unexpected {parts[0]}: files are given with --join alone")
    if name in MADE and join:
        if config or model or set_ or shard is not None or data_dir is not None or out is None:
            raise UserError(f"give: jaxgen prepare {name} --join FILE... -o FILE")
        _join(name, parts or [], out)
        return
    if name in MADE:
        if config is None or model is None or out is None or data_dir is not None:
            raise UserError(
                f"give: jaxgen prepare {name} --config FILE --model RUN -o FILE, and no --data-dir"
            )
        make = (
            _prepare_embeddings if name == "embeddings" else functools.partial(_prepare_made, name)
        )
        make(config, dict(pair(text) for text in set_ or []), model, out, shard)
        return
    if name == CSS:
        if config or model or join or shard is not None or data_dir is not None or out is None:
            raise UserError("give: jaxgen prepare css -o FOLDER [--set data.scenes=100]")
        _prepare_css(dict(pair(text) for text in set_ or []), out.expanduser())
        return
    if join or shard is not None:
        raise UserError(
            f"only {', '.join(MADE)} can be made by shares: prepare {name} once, before all that "
            "read it"
        )
    if config or model or out or set_:
        raise UserError(
            "--config, --set, --model and --out are for `jaxgen prepare embeddings`, `codes` and "
            "`latents`, --set and --out for `css`, too"
        )
    from jaxgen.data.tfds import prepare_tfds

    print(f"prepared: {prepare_tfds(name, data_dir or '')}")


def _prepare_css(overrides: dict[str, Any], out: Path) -> None:
    """Both splits of drawn scenes: the .npy file and images/*.png."""
    from ml_collections import ConfigDict

    from jaxgen import config as configs
    from jaxgen.data.triplets import css, section
    from jaxgen.weights.files import whole_folder

    config = ConfigDict({"data": section.defaults()})
    for key, value in overrides.items():
        configs.set_key(config, key, value)
    data = config.data
    section.check(data)
    if data.source != CSS or data.path:
        raise UserError("prepare css draws scenes: leave out data.source and data.path")
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UserError(f"{out} exists and is not empty: choose another folder")
    splits = {name: css.open_split(data, name) for name in css.SPLITS}
    with interruptible() as check, whole_folder(out) as partial:
        css.write_published(partial, splits, check)
    many = ", ".join(f"{len(split.captions):,} of the split {s}" for s, split in splits.items())
    print(f"{out}  pictures: {many}")
    print(f"train on them: --config.data.path={out} --config.data.render=files")


def _prepare_embeddings(
    config: str, overrides: dict[str, Any], model: str, out: Path, shard: str | None
) -> None:
    from tqdm import tqdm

    from jaxgen import config as configs
    from jaxgen.data.shard import read_shard
    from jaxgen.runs import precompute as text_features
    from jaxgen.train import family

    share = None if shard is None else read_shard(shard)
    wanted = configs.load(config, overrides)
    family.check(wanted)
    tower = text_features.of_model(model)
    # disable=None: no bar where stderr is not a terminal.
    with interruptible() as check, tqdm(unit="caption", disable=None) as bar:

        def moved(done: int, total: int) -> None:
            check()
            bar.total = total
            bar.update(done - bar.n)

        count = text_features.write(wanted, tower, out, moved, share)
    print(f"{out.expanduser()}  {count:,} captions  by {tower.about['encoder']}")
    if share is not None:
        print(f"share {share}; all together: jaxgen prepare embeddings --join FILE... -o FILE")
        return
    print(
        f"train from it: --config.data.embeddings={out} --config.model.text.trained_by=none "
        f"--config.model.damsm_steps=0 --config.train.init_from.text={model}"
    )


def _join(name: str, parts: list[Path], out: Path) -> None:
    if name == "embeddings":
        from jaxgen.runs import precompute

        count = precompute.join(parts, out)
    else:
        from jaxgen.data import cached
        from jaxgen.runs import codes

        count = codes.join(parts, out, cached.Latents if name == "latents" else cached.Codes)
    what = "captions" if name == "embeddings" else "pictures"
    print(f"{out.expanduser()}  {count:,} {what}")


def _prepare_made(
    name: str, config: str, overrides: dict[str, Any], model: str, out: Path, shard: str | None
) -> None:
    """name: codes or latents, the key of a config's `model` that takes the file."""
    from tqdm import tqdm

    from jaxgen import cache
    from jaxgen import config as configs
    from jaxgen.data import cached
    from jaxgen.data.shard import read_shard
    from jaxgen.runs import codes
    from jaxgen.train import family

    share = None if shard is None else read_shard(shard)
    wanted = configs.load(config, overrides)
    family.check(wanted)
    cache.enable()
    # disable=None: no bar where stderr is not a terminal.
    with interruptible() as check, tqdm(unit="picture", disable=None) as bar:

        def moved(done: int, total: int) -> None:
            check()
            bar.total = total
            bar.update(done - bar.n)

        kind = cached.Latents if name == "latents" else cached.Codes
        count = codes.write(wanted, model, out, moved, kind, share)
    print(f"{out.expanduser()}  {count:,} pictures  by {model}")
    if share is not None:
        print(f"share {share}; all together: jaxgen prepare {name} --join FILE... -o FILE")
        return
    print(f"train from it: --config.model.{name}={out} --config.parts.first_stage={model}")


def export(
    run: Annotated[str, typer.Argument(help="A run's folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The new folder.")],
    step: Annotated[
        int | None, typer.Option(min=0, help="Which checkpoint. Default: the newest.")
    ] = None,
    best: Annotated[bool, typer.Option("--best", help="The best evaluated checkpoint.")] = False,
    width: Annotated[
        float | None,
        typer.Option(
            help="Width of the average over the run's steps, as a share of them, where "
            "train.power_ema kept it [default: the average that was evaluated]."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a model exported there.")] = False,
) -> None:
    """Write a run's model as a folder to keep or to share: config, weights, model card."""
    from jaxgen.runs.model import load

    if step is not None and best:
        raise UserError("--step and --best exclude each other; give one")
    model = load(run, step=step, best=best, width=width)
    folder = model.export(out, overwrite=overwrite)
    print(f"{folder}  step {model.step}  {model.parameters:,} parameters")
