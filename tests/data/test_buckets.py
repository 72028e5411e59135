"""Buckets: shapes, whose each picture is, and the order of batches of one shape each."""

import collections

import numpy as np
import pytest
from helpers import REPOSITORY
from PIL import Image

from jaxgen import config as configs
from jaxgen.data import buckets
from jaxgen.data.captioned import examples, section
from jaxgen.data.captioned.records import open_records, validation_data
from jaxgen.data.pipeline import close, train_dataset, train_iterator
from jaxgen.errors import UserError
from jaxgen.models.ldm import make_task
from jaxgen.train import family, loop

SIDES = [(40, 40), (30, 60), (60, 30), (33, 64), (48, 40), (20, 70), (64, 64), (25, 50), (41, 39)]


@pytest.fixture
def folder(tmp_path):
    """Pictures of mixed shapes, each of its own gray, with captions."""
    for i, (height, width) in enumerate(SIDES):
        level = 20 * i + 20
        Image.fromarray(np.full((height, width, 3), level, np.uint8)).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(f"picture number {i}")
    return tmp_path


def settings(folder, **changes):
    data = section.defaults()
    words = ("picture", "number", *map(str, range(len(SIDES))))
    data.update(source="folder", path=str(folder), size=32, holdout=0.0, vocabulary=words)
    with data.unlocked():
        data.update(**{"bucket_ratio": 2.5, "bucket_step": 8, **changes})
    return data


@pytest.mark.parametrize(("size", "ratio", "step"), [(512, 2.0, 64), (64, 3.0, 8), (1024, 4, 64)])
def test_shapes_are_of_one_area_and_within_the_ratio(size, ratio, step):
    found = buckets.shapes(size, ratio, step)
    assert (size, size) in found
    assert len(set(found)) == len(found)
    for height, width in found:
        assert height % step == width % step == 0
        assert height * width <= size * size
        # One step more on the shorter side would be too much.
        assert max(height, width) * (min(height, width) + step) > size * size
        assert max(height, width) <= ratio * min(height, width)
        assert (width, height) in found
    assert (448, 576) in buckets.shapes(512, 2.0, 64)


def test_a_picture_belongs_to_the_nearest_ratio():
    found = buckets.shapes(512, 2.0, 64)
    assert buckets.nearest(found, 1080, 1920) == (384, 640)
    assert buckets.nearest(found, 1920, 1080) == (640, 384)
    assert buckets.nearest(found, 700, 701) == (512, 512)
    assert buckets.nearest(found, 10, 1000) == (384, 640)


@pytest.mark.parametrize("batch", [1, 4, 7, 64])
def test_batches_are_of_one_bucket_and_all_records_come_equally_often(batch):
    kinds = [(1, 2)] * 30 + [(2, 1)] * 9 + [(1, 1)] * 2
    stream = buckets.Stream(list(range(41)), kinds, batch, seed=3)
    rounds = 64 * 41 // batch
    order = [stream.record(place) for place in range(rounds * batch)]
    for at in range(rounds):
        assert len({kinds[i] for i in order[at * batch : (at + 1) * batch]}) == 1
    counts = collections.Counter(order)
    assert len(counts) == 41
    # In whole batches: those of a small bucket are one batch ahead or behind at most.
    expected = len(order) / 41
    for kind in set(kinds):
        members = [i for i in range(41) if kinds[i] == kind]
        shown = sum(counts[i] for i in members)
        assert abs(shown - expected * len(members)) <= 2 * batch + len(members)
        assert max(counts[i] for i in members) - min(counts[i] for i in members) <= 1
    # Of the place alone, in whatever order they are asked for; another seed is another order.
    again = buckets.Stream(list(range(41)), kinds, batch, seed=3)
    places = np.random.default_rng(0).permutation(len(order))[:200]
    assert [again[int(place)] for place in places] == [order[place] for place in places]
    other = buckets.Stream(list(range(41)), kinds, batch, seed=4)
    assert [other[place] for place in range(100)] != order[:100]


def test_a_bucket_smaller_than_a_batch_has_its_turn():
    stream = buckets.Stream(list(range(5)), [(1, 1)] * 3 + [(1, 2)] * 2, 8, seed=0)
    shown = [stream.record(8 * batch) >= 3 for batch in range(50)]
    assert sum(shown) == pytest.approx(20, abs=2)


def test_examples_have_their_bucket_s_shape(folder):
    data = settings(folder)
    records, transform = examples.train_data(data)
    possible = buckets.shapes(32, 2.5, 8)
    assert records.shapes == tuple(buckets.nearest(possible, *sides) for sides in SIDES)
    dataset = train_dataset(records, transform, batch_size=4, seed=0)
    seen = set()
    for k in range(12):
        picture = dataset[k]["image"]
        shape = picture.shape[1:3]
        seen.add(shape)
        levels = {int(level) for level in picture[:, 0, 0, 0]}
        members = {20 * i + 20 for i, bucket in enumerate(records.shapes) if bucket == shape}
        assert levels <= members
        assert dataset[k]["tokens"].shape[0] == 4
    assert seen == set(records.shapes)


def test_batches_are_the_same_from_any_start_and_over_hosts(folder):
    data = settings(folder, crop="random", enlarge=1.25)
    records, transform = examples.train_data(data)
    given = {"batch_size": 4, "seed": 1}
    stream = train_iterator(records, transform, **given, start_step=5)
    late = next(stream)
    close(stream)
    whole = train_dataset(records, transform, **given)
    np.testing.assert_array_equal(late["image"], whole[5]["image"])
    hosts = [
        train_dataset(records, transform, **given, process_index=i, process_count=2)[5]["image"]
        for i in range(2)
    ]
    both = np.stack(hosts, axis=1).reshape(whole[5]["image"].shape)
    np.testing.assert_array_equal(both, whole[5]["image"])


def test_an_unusable_picture_s_place_is_filled_in_the_bucket_s_shape(folder):
    records = open_records(settings(folder), "train")
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:60])
    make = examples.MakeExample(settings(folder))
    record = records[1]
    assert record["_name"] == "2.png"  # which is upright
    shape = make(record, np.random.default_rng(0))["image"].shape[:2]
    assert shape == records.shapes[1] == (24, 40)


def test_validation_pictures_are_square(folder):
    assert validation_data(settings(folder, holdout=0.3))[0]["image"].shape == (32, 32, 3)


def ldm(folder, **changes):
    config = configs.load(f"{REPOSITORY}/configs/ldm.py:tiny")
    config.data.update(source="folder", path=str(folder), holdout=0.2)
    for key, value in {"data.bucket_ratio": 2.5, "data.bucket_step": 4, **changes}.items():
        configs.set_key(config, key, value)
    return config


def test_a_run_compiles_a_step_for_each_shape(folder, tmp_path, monkeypatch):
    compiled, original = [], loop.compile_step

    def compile_step(task, optimizers, config, due, state, batch, *rest, **more):
        compiled.append(batch["image"].shape)
        return original(task, optimizers, config, due, state, batch, *rest, **more)

    monkeypatch.setattr(loop, "compile_step", compile_step)
    config = ldm(folder, **{"data.bucket_ratio": 2.0, "train.steps": 4, "train.eval_every": -1})
    assert loop.train(config, tmp_path).step == 4
    shapes = buckets.shapes(16, 2.0, 4)
    assert 1 < len(compiled) == len(set(compiled)) <= 4
    assert {shape[1:3] for shape in compiled} <= set(shapes)


@pytest.mark.slow
def test_a_run_of_several_shapes_resumes_to_the_same(folder, tmp_path):
    changes = {
        "train.steps": 8, "train.checkpoint_every": 4, "optimizer.g.schedule": "constant",
    }  # fmt: skip
    whole, parted = (ldm(folder, **changes) for _ in range(2))
    loop.train(whole, tmp_path / "whole")
    parted.train.steps = 4
    loop.train(parted, tmp_path / "parted")
    parted.train.steps = 8
    loop.train(parted, tmp_path / "parted")
    nets = [run_nets(tmp_path / name) for name in ("whole", "parted")]
    for a, b in zip(*nets, strict=True):
        np.testing.assert_array_equal(a, b)


def run_nets(folder):
    import jax

    from jaxgen.runs.model import open_nets

    return jax.tree.leaves(open_nets(folder).nets)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data.source": "shapes"}, "data.bucket_ratio=2.5 is of data.source=folder or plain"),
        ({"data.bucket_step": 3}, "data.bucket_step=3 must be a multiple of 2"),
        ({"model.latents": "x.latents"}, "model.latents needs the autoencoder"),
    ],
)
def test_what_does_not_go_with_buckets(folder, changes, said):
    with pytest.raises(UserError, match=said):
        make_task(family.resolve(ldm(folder, **changes)))


def test_a_step_that_no_shape_holds(folder):
    with pytest.raises(UserError, match=r"data.size=32 holds no picture .*bucket_step=64"):
        open_records(settings(folder, bucket_step=64), "train")
