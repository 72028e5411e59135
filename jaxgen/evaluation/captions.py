"""What a text-to-image model draws of captions that it was not trained on, measured.

On captioned shapes pictures are read exactly (`jaxgen.metrics.shapes_reader`): the share of them
that show what the caption says, by attribute and whole, of combinations that were trained on and of
held-out ones. On all data: diversity, the distance between pictures of one caption, which falls to
zero when the generator ignores its noise.

A run's evaluation and `jaxgen eval generate` count alike; they draw from other noise.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.captioned.records import validation_data
from jaxgen.data.captioned.shapes import parse
from jaxgen.data.text.prompt import Prompt
from jaxgen.errors import UserError
from jaxgen.grid import enlarge
from jaxgen.metrics import shapes_reader
from jaxgen.metrics.diversity import pixel_diversity
from jaxgen.metrics.over_hosts import mean_over_hosts
from jaxgen.task import Evaluation
from jaxgen.verbs.generate import draw as generate
from jaxgen.verbs.generate.contract import Generate
from jaxgen.verbs.generate.draw import Draw

SEED = 20_161_605  # of the noise that a run's evaluation draws with
SIDE = 96  # of a picture in the grid, at least
# A picture uint8 (n, n, 3) and its masks.
Drawing = tuple[np.ndarray, tuple[np.ndarray, ...]]


# -------------------------------------------------------------------------------- what is counted


def judge(caption: str, picture: np.ndarray) -> dict[str, bool]:
    """What of a caption of captioned shapes is right of a picture, uint8 (n, n, 3).

    Returns: of `jaxgen.metrics.shapes_reader.judge`; what the caption leaves open is left out. And
      "whole_2" of a caption of two objects: "whole" once more.
    """
    claim = parse(caption)
    assert claim is not None  # the source's own captions
    right = shapes_reader.judge(picture, claim)
    return right | {f"{_BY_COUNT}{len(claim.things)}": right["whole"]}


def accuracy(judged: Sequence[Mapping[str, bool]]) -> dict[str, float]:
    """Shares in [0, 1] of what pictures show right, over all hosts' pictures.

    Args: judged: of each of this host's pictures, see `judge`.

    Returns: of each key the share of the pictures whose caption says something of it; by the number
      of objects only where captions differ in it.
    """
    totals: dict[str, float] = {}
    for one in judged:
        for key, right in one.items():
            for name, value in ((key, right), (_ASKED + key, 1)):
                totals[name] = totals.get(name, 0.0) + value
    means = mean_over_hosts(totals, len(judged))
    # A caption that names relations leaves places open: each key has a count of its own.
    shares = {key: means[key] / means[_ASKED + key] for key in means if _ASKED + key in means}
    counts = [key for key in shares if key.startswith(_BY_COUNT)]
    return shares if len(counts) > 1 else {k: v for k, v in shares.items() if k not in counts}


_BY_COUNT = "whole_"  # prefix of "whole" of the captions with so many objects
_ASKED = "asked/"  # prefix of how often a caption says something of a key


def diversity(groups: Iterable[np.ndarray]) -> float:
    """Mean over captions of how far their pictures lie apart, in [0, 1].

    Args: groups: of each caption its pictures, uint8 (m, n, n, 3), m >= 2; or one array of all.
    """
    return float(np.mean([pixel_diversity(pictures) for pictures in groups]))


def draw_captions(
    records: Any,
    count: int,
    read: Callable[[str], Prompt],
    draw: Callable[[Sequence[tuple[Prompt, int]]], Iterator[Drawing]],
) -> Iterator[tuple[str, np.ndarray]]:
    """Draws `count` pictures of the records' captions, again from the first where these are fewer.

    Args:
      records: of `jaxgen.data.captioned.records.validation_data`.
      read, draw: the model's: of a text, and of (text, number of the picture) each.

    Yields: (caption, picture).
    """
    texts, jobs = [], []
    for i in range(count):
        captions = records[i % len(records)]["_captions"]
        # Round k of the records: their k-th picture, of the next of their captions.
        again = i // len(records)
        texts.append(captions[(i + again) % len(captions)])
        jobs.append((read(texts[-1]), again))
    for text, (picture, _) in zip(texts, draw(jobs), strict=True):
        yield text, picture


# ------------------------------------------------------------------------------ a run's evaluation


def evaluate(config: ConfigDict, verb: Generate, nets, frozen, step) -> Evaluation:
    """Caption accuracy (of shapes) and diversity on `config.eval.captions` validation records.

    Each host draws its share: picture i has the noise of the i-th caption wherever it is drawn.
    """
    del frozen, step
    settings = config.eval
    draw = functools.partial(_draw, verb, nets, settings.get("truncation", 1.0))
    share = _share(config, "validation")
    metrics: dict[str, float] = {}
    if config.data.source == "shapes":
        for prefix, part in (("", share), ("held_out_", _share(config, "held_out"))):
            drawn = draw([(text, Draw(SEED, i, 0)) for i, text, _ in part])
            judged = [
                judge(text, picture) for (_, text, _), (picture, _) in zip(part, drawn, strict=True)
            ]
            metrics |= {prefix + key: value for key, value in accuracy(judged).items()}
    # One caption's pictures from several z: the grid's rows, and their distances.
    shown = share[: settings.pictures]
    many = draw([(text, Draw(SEED, i, j)) for i, text, _ in shown for j in range(settings.noises)])
    groups = [many[i : i + settings.noises] for i in range(0, len(many), settings.noises)]
    spread = diversity(np.stack([picture for picture, _ in group]) for group in groups)
    metrics |= mean_over_hosts({"diversity": len(share) * spread}, len(share))
    rows = [_row(group, real) for group, (_, _, real) in zip(groups, shown, strict=True)]
    return Evaluation(metrics, rows, [text for _, text, _ in shown])


def _share(config: ConfigDict, split: str) -> list[tuple[int, str, np.ndarray]]:
    """(number, caption, picture) of the split's records that this host draws."""
    records = validation_data(config.data, split)
    hosts, host = jax.process_count(), jax.process_index()
    share = []
    for i in range(host, min(config.eval.captions, len(records)), hosts):
        record = records[i]
        captions = record["_captions"]
        share.append((i, captions[i % len(captions)], record["image"]))
    if not share:
        raise UserError("there are no validation captions: data.holdout and eval.captions set them")
    return share


def _draw(
    verb: Generate, nets: Any, truncation: float, jobs: Sequence[tuple[str, Draw]]
) -> list[Drawing]:
    @functools.lru_cache(maxsize=1)  # the same text comes several times in a row
    def embed(text: str) -> generate.Features:
        return generate.embed(verb, nets, verb.read(text))

    rows = ((embed(text), generate.noise(verb, one, truncation)) for text, one in jobs)
    return list(generate.draw(verb, nets, rows, len(jobs), verb.default()))


def _row(group: Sequence[Drawing], real: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """A caption's pictures in the grid, the first one's finest mask, and the real picture."""
    cells = [(f"z {j}", enlarge(picture, SIDE)) for j, (picture, _) in enumerate(group)]
    cells += [("mask of z 0", enlarge(_gray(mask), SIDE)) for mask in group[0][1][-1:]]
    return [*cells, ("real", enlarge(real, SIDE))]


def _gray(mask: np.ndarray) -> np.ndarray:
    level = np.clip(np.round(mask * 255), 0, 255).astype(np.uint8)
    return np.repeat(level[..., None], 3, axis=-1)
