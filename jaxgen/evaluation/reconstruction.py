"""What an autoencoder keeps of pictures, and how much of its codebook it uses.

A run's evaluation measures on its validation pictures; `jaxgen eval encode` does the same, or
measures on a folder. On captioned shapes reconstructions are read exactly
(`jaxgen.metrics.shapes_reader`): the share of scenes of which everything is still right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.captioned.records import validation_data
from jaxgen.data.sr.pairing import originals
from jaxgen.encoders.lpips import load_distance
from jaxgen.errors import UserError
from jaxgen.evaluation import captions
from jaxgen.grid import enlarge
from jaxgen.metrics import codebook, features, shapes_reader
from jaxgen.metrics.frechet import frechet_distance
from jaxgen.metrics.over_hosts import mean_over_hosts, sum_over_hosts
from jaxgen.metrics.psnr_ssim import psnr, ssim
from jaxgen.task import Evaluation
from jaxgen.verbs.encode import pictures
from jaxgen.verbs.encode.contract import Encode
from jaxgen.verbs.encode.files import read_picture
from jaxgen.verbs.encode.use import Coder

SIDE = 96  # of a picture in the grid, at least
LEAST = 11  # pixels on a side that SSIM needs


class Reconstruction(NamedTuple):
    """One picture as `jaxgen.verbs.encode.pictures.finished` gives it, before and after."""

    original: np.ndarray
    again: np.ndarray
    codes: np.ndarray


class EncodingModel(Protocol):
    """What is asked of a model; `jaxgen.load` gives such."""

    name: str
    step: int
    config: ConfigDict
    encode: Coder


def evaluate_model(
    model: EncodingModel,
    data: Path | None = None,
    *,
    n: int | None = None,
    lpips: Sequence[Path] = (),
    inception: Path | None = None,
    resize: str = "tf1",
    check: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """A model measured on a folder of pictures, each whole, or on its own validation pictures.

    Args:
      data: the folder; None: the validation pictures.
      n: at most so many pictures.
      lpips: files of its weights, see `jaxgen.encoders.lpips.load`; empty: it is not measured.
      inception: file of weights, for "rfid"; None: the distance is of a random network's features.
      resize: how pictures come to Inception, see `jaxgen.metrics.features.inception_net`.
      check: called before each picture; what it raises ends the work.

    Returns: {"model", "step", "data", "pictures": their number, "scores": {name: float}}; names as
      of `measure`, "bits_per_pixel", "read_*" of captioned shapes; of photos "lpips_<trunk>" and
      "rfid" or "rfd_random_vgg19".

    Raises:
      UserError: no pictures there, or unfit weights.
    """
    coder, verb = model.encode, model.encode.verb
    distance = load_distance(*lpips) if lpips else None
    photos = verb.kind == "photo"
    made, judged, bits = [], [], 0.0
    near: dict[str, float] = {}
    for picture, scene in _given(model.config.data, verb, data, n):
        if check is not None:
            check()
        codes = coder(picture)
        size = (picture.shape[0], picture.shape[1])
        again = coder.decode(codes, size)
        original = pictures.finished(verb, pictures.prepared(verb, picture))
        made.append(Reconstruction(original, again, codes))
        bits += coder.bits_per_pixel(codes, size) if verb.codes else 0.0
        if scene is not None:
            judged.append(shapes_reader.judge(again, scene))
        if distance is not None and photos:
            name, of = f"lpips_{distance[0]}", distance[1]
            near[name] = near.get(name, 0.0) + of(again, original)
    scores = measure(verb, made)
    if verb.codes:
        scores["bits_per_pixel"] = bits / len(made)
    scores |= {f"read_{key}": value for key, value in captions.accuracy(judged).items()}
    scores |= {name: total / len(made) for name, total in near.items()}
    if photos and len(made) > 1:
        net = features.inception_net(inception, resize) if inception else features.random_net()
        sets = [
            features.measure(net, [getattr(one, which) for one in made]).statistics
            for which in ("again", "original")
        ]
        name = f"rfd_{net.label}" if net.label else "rfid"
        scores[name] = frechet_distance(*sets)
    where = str(data) if data else f"validation data of {model.config.data.get('source', '?')}"
    return {
        "model": model.name, "step": model.step, "data": where, "pictures": len(made),
        "scores": scores,
    }  # fmt: skip


def _given(
    config: ConfigDict, verb: Encode, folder: Path | None, most: int | None
) -> Iterator[tuple[np.ndarray, Any]]:
    """(picture as `Coder` takes it, the scene that it shows where that is known)."""
    if folder is not None:
        paths = originals(folder)[:most]
        if not paths:
            raise UserError(f"{folder}: no pictures in this folder")
        for path in paths:
            yield read_picture(path, verb.kind), None
        return
    if "source" not in config:
        raise UserError("published weights come without data: give --data, a folder of pictures")
    records = validation_data(config, captioned=False)
    for i in range(min(most or len(records), len(records))):
        record = records[i]
        yield record["image"], record.get("_scene")


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
