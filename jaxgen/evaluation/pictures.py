"""Sets of pictures measured: a folder's, or what a text-to-image model draws, against a reference.

evaluate_model(jaxgen.load("runs/dfgan"), n=5000)["scores"]
evaluate_pictures(Path("drawn"), Path("photos"), How(inception=Path("inception.pth")))["scores"]
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from jaxgen import cache
from jaxgen.data.captioned.records import validation_data
from jaxgen.data.sr.pairing import originals
from jaxgen.data.text.prompt import Prompt
from jaxgen.errors import UserError
from jaxgen.evaluation import captions, sets
from jaxgen.evaluation.clip_judge import ClipJudge
from jaxgen.metrics import features
from jaxgen.metrics.diversity import feature_diversity
from jaxgen.metrics.features import FeatureNet
from jaxgen.metrics.inception_score import SPLITS, check_splits
from jaxgen.metrics.statistics import Statistics, read_statistics, write_statistics
from jaxgen.verbs.embed.use import Embedder
from jaxgen.verbs.generate.base import TextToImage
from jaxgen.verbs.generate.draw import check_draws

# Captions of which several pictures are drawn, and how many, for diversity.
DIVERSE_CAPTIONS, DIVERSE_PICTURES = 16, 4
MOST = 1000  # pictures, where nobody says how many


@dataclasses.dataclass(frozen=True)
class How:
    """How sets are measured; None stands for the default where it depends on the rest.

    inception: file of its weights; None: a random network. resize: tf1 (default), torch, clean.
    splits: of the Inception Score. save_statistics: where the reference's are written.
    """

    inception: Path | None = None
    resize: str | None = None
    splits: int | None = None
    save_statistics: Path | None = None


class DrawingModel(Protocol):
    """What is asked of a model; `jaxgen.load` gives such."""

    name: str
    step: int
    config: ConfigDict
    generate: TextToImage[Any]


def evaluate_pictures(
    pictures: Path, data: Path, how: How = How(), check: Callable[[], None] | None = None
) -> dict[str, Any]:
    """A folder of generated pictures against a folder or a file of statistics.

    Args:
      check: called after each batch; what it raises ends the work.

    Returns: the report, see `jaxgen.evaluation.sets.report`.

    Raises:
      UserError: nothing there, or statistics of another network.
    """
    cache.enable()
    files = _files(pictures)
    net = _network(how, len(files))
    reference = _reference(net, data, how, check)
    with _bar(len(files), "pictures", check) as moved:
        generated = features.measure(
            net, features.read_pictures(files), _about_files(pictures, files), None, moved
        )
    return sets.report(net, generated, reference, how.splits or SPLITS)


def evaluate_model(
    model: DrawingModel,
    data: Path | None = None,
    how: How = How(),
    *,
    n: int | None = None,
    seed: int = 0,
    truncation: float = 1.0,
    clip: Embedder | None = None,
    check: Callable[[], None] | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Pictures of the captions of a model's validation data against these data.

    Args:
      data: a reference in place of the validation pictures: folder, or file of statistics.
      n: pictures; None: one of each validation caption, `MOST` at most.
      seed, truncation: of their noise, see `model.generate`.
      clip: another model's `embed`, which is to say how well pictures fit their captions.
      check: as for `evaluate_pictures`.
      options: of the model's own, see its `generate.verb.options`.

    Returns: the report: beside that of `jaxgen.evaluation.sets.report` it has "model", "step",
      "diversity" (of pictures of one caption: "pixels", in [0, 1], and of features), and for
      captioned shapes "caption_accuracy" and "held_out_accuracy", shares in [0, 1] of what the
      pictures show right of their captions; "options" where some were given; with `clip` "clip":
      "model", its name, and the numbers of `jaxgen.evaluation.clip_judge`.

    Raises:
      UserError: the model's data are not there, or a setting out of range.
    """
    check_draws(seed, 0, 1)
    # Not every family's noise can be truncated; nobody need say that it is not to be.
    asked = dict(options or {})
    options = asked if truncation == 1.0 else {**asked, "truncation": truncation}
    model.generate.check(options)
    cache.enable()
    config = model.config.data
    records = validation_data(config)
    if len(records) == 0:
        raise UserError(f"{model.name}: its data have no validation captions (data.holdout)")
    count = n or min(len(records), MOST)
    clip_judge = None
    if clip is not None:
        clip_judge = ClipJudge(clip, [records[i % len(records)]["meaning"] for i in range(count)])
    net = _network(how, count)
    if data is None:
        used = range(min(count, len(records)))
        about = {"pictures": f"validation data of {config.source}", "size": config.size}
        with _bar(len(used), "reference", check) as moved:
            images = (records[i]["image"] for i in used)
            reference = features.measure(net, images, about, None, moved).statistics
        _save(reference, how)
    else:
        reference = _reference(net, data, how, check)
    read = model.generate.read

    def draw(jobs: Sequence[tuple[Prompt, int]]) -> Iterator[captions.Drawing]:
        return model.generate.each(jobs, seed=seed, **options)

    judged: list[dict[str, bool]] = []

    def pictures() -> Iterator[np.ndarray]:
        for text, picture in captions.draw_captions(records, count, read, draw):
            if config.source == "shapes":
                judged.append(captions.judge(text, picture))
            if clip_judge is not None:
                clip_judge.see(text, picture)
            yield picture

    about = {
        "pictures": f"{model.name} at step {model.step}, captions of its validation data",
        **{"seed": seed, "truncation": truncation},
    }
    with _bar(count, "pictures", check) as moved:
        generated = features.measure(net, pictures(), about, None, moved)
    report = sets.report(net, generated, reference, how.splits or SPLITS)
    report = {"model": model.name, "step": model.step, **report}
    if asked:
        report["options"] = asked
    if config.source == "shapes":
        report["caption_accuracy"] = captions.accuracy(judged)
        held_out = validation_data(config, "held_out")
        drawn = captions.draw_captions(held_out, min(count, len(held_out)), read, draw)
        report["held_out_accuracy"] = captions.accuracy([captions.judge(*one) for one in drawn])
    if clip_judge is not None:
        report["clip"] = {"model": clip_judge.clip.name, **clip_judge.scores()}
    texts = [records[i]["_captions"][0] for i in range(min(len(records), DIVERSE_CAPTIONS))]
    jobs = [(prompt, i) for prompt in map(read, texts) for i in range(DIVERSE_PICTURES)]
    report["diversity"] = _diversity(net, np.stack([picture for picture, _ in draw(jobs)]))
    return report


# ------------------------------------------------------------------------------------------ parts


def _network(how: How, count: int) -> FeatureNet:
    """The network that is named, for `count` generated pictures."""
    if how.inception is not None:
        check_splits(count, how.splits or SPLITS)
        return features.inception_net(how.inception, how.resize or "tf1")
    for given, name in ((how.resize, "--resize"), (how.splits, "--splits")):
        if given is not None:
            raise UserError(
                f"{name} is of Inception's numbers: give its weights too, --inception "
                "pt_inception-2015-12-05-6726825d.pth"
            )
    return features.random_net()


def _files(folder: Path) -> list[Path]:
    files = originals(folder)
    if not files:
        raise UserError(f"{folder}: no pictures in this folder")
    return files


def _about_files(folder: Path, files: Sequence[Path]) -> dict[str, Any]:
    return {"pictures": str(folder), "formats": dict(Counter(f.suffix.lower() for f in files))}


def _reference(
    net: FeatureNet, data: Path, how: How, check: Callable[[], None] | None
) -> Statistics:
    """Of a file of statistics, or measured in a folder and saved where that is wanted."""
    if data.suffix == ".npz":
        if how.save_statistics is not None:
            raise UserError(f"{data} holds statistics already: leave out --save-statistics")
        statistics = read_statistics(data)
        sets.check_same(net, statistics)
        return statistics
    files = _files(data)
    with _bar(len(files), "reference", check) as moved:
        measured = features.measure(
            net, features.read_pictures(files), _about_files(data, files), None, moved
        )
    _save(measured.statistics, how)
    return measured.statistics


def _save(statistics: Statistics, how: How) -> None:
    if how.save_statistics is not None:
        write_statistics(how.save_statistics, statistics)


def _diversity(net: FeatureNet, drawn: np.ndarray) -> dict[str, float]:
    """Distances of pictures uint8 (captions * m, n, n, 3) of one caption, mean over captions."""
    taken = np.concatenate([part for part, _ in features.extract(net, drawn)])
    of_features = [feature_diversity(rows) for rows in _by_caption(taken)]
    return {
        "pixels": captions.diversity(_by_caption(drawn)),
        f"features_{net.label or 'inception'}": float(np.mean(of_features)),
    }


def _by_caption(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(-1, DIVERSE_PICTURES, *rows.shape[1:])


@contextlib.contextmanager
def _bar(
    total: int, what: str, check: Callable[[], None] | None
) -> Iterator[Callable[[int], None]]:
    """A progress bar, moved by the number done so far; none where stderr is not a terminal."""
    with tqdm(total=total, desc=what, disable=None) as bar:

        def moved(done: int) -> None:
            if check is not None:
                check()
            bar.update(done - bar.n)

        yield moved
