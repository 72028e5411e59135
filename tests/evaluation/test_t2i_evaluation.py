"""Evaluation of text-to-image models: right pictures score 1, wrong ones less, noise spreads."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import config as configs
from jaxgen.data.captioned.records import validation_data
from jaxgen.data.text.prompt import Prompt
from jaxgen.errors import UserError
from jaxgen.evaluation.captions import evaluate
from jaxgen.verbs.generate.contract import Generate

SIZE = 32


def settings(**changes):
    plain = {"eval.captions": 12, "eval.pictures": 3, "eval.noises": 4, "train.steps": 1}
    return configs.load("configs/dfgan.py", {**plain, **changes})


def painter(config, right=lambda split, i: True, spread=0.0, masks=()):
    """A verb that draws the very scene of a validation caption, or where not `right` another.

    Args: spread: how much of z is added to the pictures.
    """
    places: dict[str, int] = {}
    pictures = []
    for split in ("validation", "held_out"):
        records = validation_data(config.data, split)
        for i in range(config.eval.captions):
            record = records[i]
            other = i if right(split, i) else (i + 1) % config.eval.captions
            for caption in record["_captions"]:
                places.setdefault(caption, len(pictures))
            pictures.append(records[other]["image"])
    table = jnp.asarray(np.stack(pictures), jnp.float32) / 127.5 - 1.0

    def read(text):
        tokens = np.array([0, places[text]], np.int32)
        return Prompt(tokens, np.ones(2, bool), tuple(text.split()))

    def draw(nets, at, z, given):
        noise = spread * z.reshape(-1, SIZE, SIZE, 1)
        return nets["g"]["gain"] * table[at] + noise, tuple(
            m[None].repeat(len(z), 0) for m in masks
        )

    return Generate(
        nets=("g",), size=SIZE, noise=(SIZE * SIZE,), read=read,
        embed=lambda nets, tokens, mask: tokens[:, 1], draw=draw,
    )  # fmt: skip


NETS = {"g": {"gain": jnp.ones(())}}


def test_the_scenes_themselves_score_one_and_do_not_vary():
    config = settings()
    found = evaluate(config, painter(config), NETS, {}, 1)
    assert found.metrics["diversity"] == 0.0
    shares = {k: v for k, v in found.metrics.items() if k != "diversity"}
    assert {"whole", "shape", "held_out_whole", "held_out_colour"} <= set(shares)
    assert set(shares.values()) == {1.0}
    assert len(found.pictures) == len(found.titles) == 3
    assert [caption for caption, _ in found.pictures[0]] == ["z 0", "z 1", "z 2", "z 3", "real"]
    np.testing.assert_array_equal(found.pictures[0][0][1], found.pictures[0][-1][1])


def test_each_split_counts_its_own_mistakes():
    config = settings()
    wrong = painter(config, right=lambda split, i: split == "validation" or i % 3)
    found = evaluate(config, wrong, NETS, {}, 1).metrics
    assert found["whole"] == 1.0
    assert found["held_out_whole"] == pytest.approx(2 / 3)
    assert found["held_out_valid"] == 1.0  # fine pictures, of another caption


def test_noise_is_diversity_and_the_same_in_every_evaluation():
    config = settings()
    verb = painter(config, spread=0.05)
    first, second = (evaluate(config, verb, NETS, {}, step) for step in (1, 2))
    assert first.metrics == second.metrics
    # Two independent normals of 0.05 in [-1, 1] lie sqrt(2) * 0.025 apart in [0, 1], some clipped.
    assert 0.033 < first.metrics["diversity"] < 0.0365
    narrow = settings(**{"eval.truncation": 0.3})
    assert evaluate(narrow, verb, NETS, {}, 1).metrics["diversity"] < 0.012


def test_masks_stand_beside_the_pictures():
    config = settings()
    mask = jnp.zeros((8, 8)).at[:4].set(1.0)
    found = evaluate(config, painter(config, masks=(mask,)), NETS, {}, 1)
    caption, shown = found.pictures[0][-2]
    assert caption == "mask of z 0"
    assert shown[0, 0].tolist() == [255] * 3
    assert shown[-1, -1].tolist() == [0] * 3


def test_no_captions_are_explained():
    config = settings(**{"eval.captions": 0})
    with pytest.raises(UserError, match=r"data.holdout and eval.captions"):
        evaluate(config, painter(settings()), NETS, {}, 1)
