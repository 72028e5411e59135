"""What `jaxgen eval` does with generated pictures: a folder of them, or a text-to-image model."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxgen.cli.common import console, interruptible
from jaxgen.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from jaxgen.metrics.features import FeatureNet
    from jaxgen.metrics.statistics import Statistics
    from jaxgen.runs.model import Model

# Captions of which several pictures are drawn, and how many, for diversity.
DIVERSE_CAPTIONS, DIVERSE_PICTURES = 16, 4
MOST = 1000  # pictures, where nobody says how many
SPLITS = 10  # of the Inception Score


@dataclasses.dataclass(frozen=True)
class Options:
    """How to measure; None stands for the default where it depends on the rest.

    inception: file of its weights; None: a random network. resize: tf1 (default), torch, clean.
    splits: of the Inception Score. save_statistics: where the reference's are written.
    n, seed, truncation: of a model's pictures.
    """

    inception: Path | None = None
    resize: str | None = None
    splits: int | None = None
    save_statistics: Path | None = None
    n: int | None = None
    seed: int = 0
    truncation: float = 1.0


def evaluate_pictures(pictures: Path, data: Path, options: Options) -> dict[str, Any]:
    """A folder of generated pictures against a folder or a file of statistics; the report.

    Raises:
      UserError: nothing there, or statistics of another network.
    """
    from jaxgen import cache
    from jaxgen.evaluation import sets as generation
    from jaxgen.metrics.features import measure, read_pictures

    cache.enable()
    files = _files(pictures)
    net = _network(options, len(files))
    reference = _reference(net, data, options)
    with _bar(len(files), "pictures") as moved:
        generated = measure(net, read_pictures(files), _about_files(pictures, files), None, moved)
    return generation.report(net, generated, reference, options.splits or SPLITS)


def evaluate_model(model: Model, data: Path | None, options: Options) -> dict[str, Any]:
    """Pictures of the captions of a model's validation data against these data; the report.

    Beside `jaxgen.evaluation.sets.report` it has "model", "step", "diversity" (of pictures of
    one caption: "pixels", in [0, 1], and of features), and for captioned shapes "caption_accuracy"
    and "held_out_accuracy", shares in [0, 1] of what the pictures show right.

    Args:
      data: a reference in place of the validation pictures: folder, or file of statistics.

    Raises:
      UserError: the model's data are not there, or a setting out of range.
    """
    from jaxgen import cache
    from jaxgen.data.captioned.records import validation_data
    from jaxgen.evaluation import sets as generation
    from jaxgen.metrics.features import measure
    from jaxgen.verbs.generate.draw import check_draws

    check_draws(options.seed, 0, 1)
    model.generate.check({"truncation": options.truncation})
    cache.enable()
    config = model.config.data
    records = validation_data(config)
    if len(records) == 0:
        raise UserError(f"{model.name}: its data have no validation captions (data.holdout)")
    count = options.n or min(len(records), MOST)
    net = _network(options, count)
    if data is None:
        used = range(min(count, len(records)))
        about = {"pictures": f"validation data of {config.source}", "size": config.size}
        with _bar(len(used), "reference") as moved:
            images = (records[i]["image"] for i in used)
            reference = measure(net, images, about, None, moved).statistics
        _save(reference, options)
    else:
        reference = _reference(net, data, options)
    shown: list[dict[str, bool]] = []
    about = {
        "pictures": f"{model.name} at step {model.step}, captions of its validation data",
        **{"seed": options.seed, "truncation": options.truncation},
    }
    with _bar(count, "pictures") as moved:
        pictures = _drawn(model, records, count, options, shown)
        generated = measure(net, pictures, about, None, moved)
    report = generation.report(net, generated, reference, options.splits or SPLITS)
    report = {"model": model.name, "step": model.step, **report}
    if config.source == "shapes":
        report["caption_accuracy"] = _means(shown)
        held_out, shown = validation_data(config, "held_out"), []
        for _ in _drawn(model, held_out, min(count, len(held_out)), options, shown):
            pass
        report["held_out_accuracy"] = _means(shown)
    report["diversity"] = _diversity(model, net, records, options)
    return report


def show(report: dict[str, Any], title: str) -> None:
    """The report as a table, and its remarks."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("measure", title=escape(title))
    table.add_column("value", justify="right")
    scores = report["scores"]
    for name, value in scores.items():
        if not name.endswith("_std"):
            spread = scores.get(f"{name}_std")
            table.add_row(name, _number(value) + (f" ± {_number(spread)}" if spread else ""))
    for part in ("caption_accuracy", "held_out_accuracy", "diversity"):
        if part in report:
            table.add_section()
            for name, value in report[part].items():
                table.add_row(f"{part.replace('_', ' ')}: {name}", _number(value))
    screen = console()
    screen.print(table)
    ours, theirs = report["generated"], report["reference"]
    counts = f"{ours['n']:,} pictures"
    if theirs.get("n"):
        counts += f", {theirs['n']:,} in the reference"
    by = f"{ours['features']}, resize {ours['resize']}, weights {ours['weights']}"
    screen.print(escape(f"{counts}; {by}"))
    for remark in report["remarks"]:
        screen.print(escape(f"note: {remark}"))


def write_report(path: Path, report: dict[str, Any]) -> None:
    """JSON; infinities and NaN, which JSON has not, as null. UserError if it can't be written."""
    try:
        path.write_text(json.dumps(finite(report), indent=2) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


def finite(value: Any) -> Any:
    """The value with null in place of numbers that are not finite."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ------------------------------------------------------------------------------------------ parts


def _network(options: Options, count: int) -> FeatureNet:
    """The network that the options name, for `count` generated pictures."""
    from jaxgen.metrics.features import inception_net, random_net
    from jaxgen.metrics.inception_score import check_splits

    if options.inception is not None:
        check_splits(count, options.splits or SPLITS)
        return inception_net(options.inception, options.resize or "tf1")
    for given, name in ((options.resize, "--resize"), (options.splits, "--splits")):
        if given is not None:
            raise UserError(
                f"{name} is of Inception's numbers: give its weights too, --inception "
                "pt_inception-2015-12-05-6726825d.pth"
            )
    return random_net()


def _files(folder: Path) -> list[Path]:
    from jaxgen.data.picture_files import list_images

    files = list_images(folder)
    if not files:
        raise UserError(f"{folder}: no pictures in this folder")
    return files


def _about_files(folder: Path, files: Sequence[Path]) -> dict[str, Any]:
    return {"pictures": str(folder), "formats": dict(Counter(f.suffix.lower() for f in files))}


def _reference(net: FeatureNet, data: Path, options: Options) -> Statistics:
    """Of a file of statistics, or measured in a folder and saved where that is wanted."""
    from jaxgen.evaluation.sets import check_same
    from jaxgen.metrics.features import measure, read_pictures
    from jaxgen.metrics.statistics import read_statistics

    if data.suffix == ".npz":
        if options.save_statistics is not None:
            raise UserError(f"{data} holds statistics already: leave out --save-statistics")
        statistics = read_statistics(data)
        check_same(net, statistics)
        return statistics
    files = _files(data)
    with _bar(len(files), "reference") as moved:
        measured = measure(net, read_pictures(files), _about_files(data, files), None, moved)
    _save(measured.statistics, options)
    return measured.statistics


def _save(statistics: Statistics, options: Options) -> None:
    from jaxgen.metrics.statistics import write_statistics

    if options.save_statistics is not None:
        write_statistics(options.save_statistics, statistics)


def _drawn(
    model: Model, records: Any, count: int, options: Options, shown: list[dict[str, bool]]
) -> Iterator[np.ndarray]:
    """`count` pictures of the records' captions, again from the first where these are fewer.

    shown: of captioned shapes gets what each picture shows right.
    """
    jobs = []
    for i in range(count):
        captions = records[i % len(records)]["_captions"]
        # Round k of the records: their k-th picture, of the next of their captions.
        again = i // len(records)
        jobs.append((model.generate.read(captions[(i + again) % len(captions)]), again))
    drawn = model.generate.each(jobs, seed=options.seed, truncation=options.truncation)
    for i, (picture, _) in enumerate(drawn):
        record = records[i % len(records)]
        if "_scene" in record:
            from jaxgen.metrics.shapes_reader import judge

            shown.append(judge(picture, record["_scene"]))
        yield picture


def _means(shown: list[dict[str, bool]]) -> dict[str, float]:
    """Share that is right, of those pictures whose scene has the attribute."""
    keys = dict.fromkeys(key for one in shown for key in one)
    columns = {key: [one[key] for one in shown if key in one] for key in keys}
    return {key: sum(values) / len(values) for key, values in columns.items()}


def _diversity(model: Model, net: FeatureNet, records: Any, options: Options) -> dict[str, float]:
    """Distances of several pictures of one caption, mean over captions."""
    import numpy as np

    from jaxgen.metrics.diversity import feature_diversity, pixel_diversity
    from jaxgen.metrics.features import extract

    texts = [records[i]["_captions"][0] for i in range(min(len(records), DIVERSE_CAPTIONS))]
    drawn = model.generate(
        texts, DIVERSE_PICTURES, seed=options.seed, truncation=options.truncation
    )  # (captions, m, h, w, 3)
    pictures = drawn.reshape(-1, *drawn.shape[2:])
    features = np.concatenate([part for part, _ in extract(net, pictures)])
    grouped = features.reshape(len(texts), DIVERSE_PICTURES, -1)
    return {
        "pixels": float(np.mean([pixel_diversity(several) for several in drawn])),
        f"features_{net.label or 'inception'}": float(
            np.mean([feature_diversity(several) for several in grouped])
        ),
    }


@contextlib.contextmanager
def _bar(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """A progress bar, moved by the number done so far; none where stderr is not a terminal."""
    from tqdm import tqdm

    with interruptible() as check, tqdm(total=total, desc=what, disable=None) as bar:

        def moved(done: int) -> None:
            check()
            bar.update(done - bar.n)

        yield moved


def _number(value: float) -> str:
    return f"{value:.5g}"
