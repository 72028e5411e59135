"""What a text-to-image model draws of captions that it was not trained on, measured.

On captioned shapes pictures are read exactly (`jaxgen.metrics.shapes_reader`): the share of them
that show what the caption says, by attribute and whole, of combinations that were trained on and of
held-out ones. On all data: diversity, the distance between pictures of one caption, which falls to
zero when the generator ignores its noise.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxgen.data import captioned
from jaxgen.data.shapes import parse
from jaxgen.errors import UserError
from jaxgen.generate import sample
from jaxgen.grid import enlarge
from jaxgen.metrics.diversity import pixel_diversity
from jaxgen.metrics.over_hosts import mean_over_hosts
from jaxgen.metrics.shapes_reader import judge
from jaxgen.task import Evaluation, Generate

BATCH = 50
COUNT = "asked/"  # prefix of how often a caption says something of a key
SEED = 20_161_605  # of the noise that evaluation draws with


def evaluate(config: ConfigDict, verb: Generate, nets, frozen, step) -> Evaluation:
    """Caption accuracy (of shapes) and diversity on `config.eval.captions` validation records."""
    del frozen, step
    settings = config.eval
    splits = {"": "validation"}
    if config.data.source == "shapes":
        splits["held_out_"] = "held_out"
    totals: dict[str, float] = {}
    count = 0
    rows: list[list[tuple[str, np.ndarray]]] = []
    titles: list[str] = []
    for prefix, split in splits.items():
        records = captioned.validation_data(config.data, split)
        wanted = min(settings.captions, len(records))
        share = [records[i] for i in range(jax.process_index(), wanted, jax.process_count())]
        texts = [
            record["_captions"][i % len(record["_captions"])] for i, record in enumerate(share)
        ]
        seeds = [(jax.process_index() + i * jax.process_count(), 0) for i in range(len(share))]
        pictures, _ = draw(verb, nets, texts, seeds, settings.truncation)
        count += len(share) if not prefix else 0
        if config.data.source == "shapes":
            for text, picture in zip(texts, pictures, strict=True):
                claim = parse(text)
                assert claim is not None  # the source's own captions
                for key, right in judge(picture, claim).items():
                    for name, value in ((prefix + key, right), (f"{COUNT}{prefix}{key}", 1)):
                        totals[name] = totals.get(name, 0.0) + float(value)
        if prefix:
            continue
        # One caption's pictures from several z: the grid's rows, and their distances.
        titles = shown = texts[: settings.pictures]
        again = [(t, (i, j)) for i, t in enumerate(shown) for j in range(settings.noises)]
        many, masks = draw(
            verb, nets, [t for t, _ in again], [s for _, s in again], settings.truncation
        )
        many = many.reshape(len(shown), settings.noises, *many.shape[1:])
        totals["diversity"] = len(share) * float(np.mean([pixel_diversity(k) for k in many]))
        for i in range(len(shown)):
            cells = [(f"z {j}", enlarge(p, 96)) for j, p in enumerate(many[i])]
            cells += [
                ("mask of z 0", enlarge(_gray(m[i * settings.noises]), 96)) for m in masks[-1:]
            ]
            cells.append(("real", enlarge(share[i]["image"], 96)))
            rows.append(cells)
    means = mean_over_hosts(totals, count)
    # A caption that names relations leaves places open: each key has a count of its own.
    asked = {key: means.pop(COUNT + key) for key in list(means) if COUNT + key in means}
    return Evaluation({k: v / asked.get(k, 1.0) for k, v in means.items()}, rows, titles)


def draw(
    verb: Generate,
    nets: Any,
    texts: Sequence[str],
    seeds: Sequence[tuple[int, int]],
    truncation: float = 1.0,
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Pictures of texts, each from the noise of its own two seeds.

    Returns: (uint8 (n, size, size, 3), masks: arrays (n, h, w) float32, none for most families).
    """
    program = _program(verb)
    pictures, masks = [], []
    for start in range(0, len(texts), BATCH):
        part = texts[start : start + BATCH]
        read = [verb.read(text) for text in part]
        pad = BATCH - len(part)
        tokens = np.stack([p.tokens for p in read] + [read[0].tokens] * pad)
        mask = np.stack([p.mask for p in read] + [read[0].mask] * pad)
        keys = np.array([*seeds[start : start + BATCH], *[(0, 0)] * pad], np.uint32)
        drawn, shown = program(nets, tokens, mask, keys, truncation)
        pictures.append(np.asarray(drawn)[: len(part)])
        masks.append([np.asarray(m)[: len(part)] for m in shown])
    if not pictures:
        raise UserError("there are no validation captions: data.holdout and eval.captions set them")
    stacked = tuple(np.concatenate(level) for level in zip(*masks, strict=True))
    return np.concatenate(pictures), stacked


@functools.lru_cache(maxsize=4)
def _program(verb: Generate):
    @jax.jit
    def program(nets, tokens, mask, seeds, truncation):
        z = jax.vmap(lambda pair: noise(verb, pair, truncation))(seeds)
        pictures, masks = verb.draw(nets, verb.embed(nets, tokens, mask), z)
        return to_uint8(pictures), masks

    return program


def noise(verb: Generate, pair: jax.Array, truncation: jax.Array) -> jax.Array:
    """z of one picture from its two seeds."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(SEED), pair[0]), pair[1])
    return sample(key, verb.noise, truncation)


def to_uint8(pictures: jax.Array) -> jax.Array:
    """[-1, 1] -> uint8, rounded."""
    return jnp.clip(jnp.round((pictures + 1.0) * 127.5), 0, 255).astype(jnp.uint8)


def _gray(mask: np.ndarray) -> np.ndarray:
    level = np.clip(np.round(mask * 255), 0, 255).astype(np.uint8)
    return np.repeat(level[..., None], 3, axis=-1)
