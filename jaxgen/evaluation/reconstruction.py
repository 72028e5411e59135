"""What an autoencoder keeps of pictures, and how much of its codebook it uses.

A run's evaluation measures on its validation pictures; `jaxgen eval encode` does the same, or
measures on a folder. On captioned shapes reconstructions are read exactly
(`jaxgen.metrics.shapes_reader`): the share of scenes of which everything is still right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.captioned.records import validation_data
from jaxgen.evaluation import captions
from jaxgen.grid import enlarge
from jaxgen.metrics import codebook, shapes_reader
from jaxgen.metrics.over_hosts import mean_over_hosts, sum_over_hosts
from jaxgen.metrics.psnr_ssim import psnr, ssim
from jaxgen.task import Evaluation
from jaxgen.verbs.encode import pictures
from jaxgen.verbs.encode.contract import Encode

SIDE = 96  # of a picture in the grid, at least
LEAST = 11  # pixels on a side that SSIM needs


class Reconstruction(NamedTuple):
    """One picture as `jaxgen.verbs.encode.pictures.finished` gives it, before and after."""

    original: np.ndarray
    again: np.ndarray
    codes: np.ndarray


def evaluate(config: ConfigDict, verb: Encode, nets, frozen, step) -> Evaluation:
    """A run's evaluation on `config.eval.images` validation pictures, each host its share."""
    del frozen, step
    metrics, rows = _measured(config, verb, nets, "validation")
    if config.data.source == "shapes":
        held, _ = _measured(config, verb, nets, "held_out")
        metrics |= {f"held_out_{key}": v for key, v in held.items() if key.startswith("read_")}
    return Evaluation(metrics, rows)


def _measured(config: ConfigDict, verb: Encode, nets: Any, split: str) -> tuple[dict, list]:
    records = validation_data(config.data, split, captioned=False)
    count = min(config.eval.images or len(records), len(records))
    share = [records[i] for i in range(jax.process_index(), count, jax.process_count())]
    made = list(_reconstructions(verb, nets, share, config.eval.batch))
    metrics = measure(verb, made)
    if config.data.source == "shapes":
        judged = [
            shapes_reader.judge(one.again, record["_scene"])
            for one, record in zip(made, share, strict=True)
        ]
        metrics |= {f"read_{key}": value for key, value in captions.accuracy(judged).items()}
    return metrics, [_row(verb, one) for one in made[: config.eval.pictures]]


def measure(verb: Encode, made: Iterable[Reconstruction]) -> dict[str, float]:
    """Means over all hosts' pictures, and what their codes say of the codebook.

    Returns: of photos and depth "psnr_rgb" in dB and, from 11 pixels on, "ssim_rgb"; of
      segmentations "right", the share of pixels whose class is right; and usage, perplexity and
      dead_codes (`jaxgen.metrics.codebook`) where there are codes.
    """
    totals: dict[str, float] = {}
    counts = np.zeros(verb.codes, np.int64)
    done = 0
    for one in made:
        done += 1
        for key, value in distances(verb, one).items():
            totals[key] = totals.get(key, 0.0) + value
        if verb.codes:
            counts += np.bincount(one.codes.ravel(), minlength=verb.codes)
    metrics = mean_over_hosts(totals, done)
    return metrics | health(sum_over_hosts(counts)) if verb.codes else metrics


def distances(verb: Encode, one: Reconstruction) -> dict[str, float]:
    """Of one picture, see `measure`. Equal pictures have a PSNR of 100 dB, so that means exist."""
    if verb.kind == "segmentation":
        return {"right": float(np.mean(one.original == one.again))}
    found = {"psnr_rgb": min(psnr(one.again, one.original), 100.0)}
    if min(one.original.shape[:2]) >= LEAST:
        found["ssim_rgb"] = ssim(one.again, one.original)
    return found


def health(counts: np.ndarray) -> dict[str, float]:
    """Of the codes' frequencies (codes,). Few pictures can't use many codes: compare equals."""
    measures = {
        "usage": codebook.usage,
        "perplexity": codebook.perplexity,
        "dead_codes": codebook.dead,
    }
    return {name: float(of(jnp.asarray(counts))) for name, of in measures.items()}


def _reconstructions(
    verb: Encode, nets: Any, records: list[dict[str, Any]], batch: int
) -> Iterator[Reconstruction]:
    """The last batch is filled up: one shape, one compilation."""
    nets = {net: nets[net] for net in verb.nets}
    for start in range(0, len(records), batch):
        part = records[start : start + batch]
        x = np.stack([pictures.from_record(verb, record["image"]) for record in part])
        filled = np.concatenate([x, np.repeat(x[-1:], batch - len(x), axis=0)])
        codes = verb.encode_program(nets, filled)
        y = np.asarray(verb.decode_program(nets, codes))
        for original, again, taken in zip(x, y, np.asarray(codes), strict=False):
            finish = pictures.finished
            yield Reconstruction(finish(verb, original), finish(verb, again), taken)


def _row(verb: Encode, one: Reconstruction) -> list[tuple[str, np.ndarray]]:
    original, again = (
        enlarge(pictures.shown(verb, picture), SIDE) for picture in (one.original, one.again)
    )
    found = distances(verb, one)
    said = f"{found['psnr_rgb']:.1f} dB" if "psnr_rgb" in found else f"{found['right']:.1%} right"
    return [("original", original), (f"again, {said}", again)]
