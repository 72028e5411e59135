"""Batch k is a function of k: not of where the stream starts, of workers, or of the hosts."""

import itertools

import numpy as np
import pytest

from jaxgen.data.pipeline import close, train_dataset, train_iterator
from jaxgen.data.sr import section as data_lib
from jaxgen.data.sr.examples import train_transform
from jaxgen.errors import UserError


class Noise:
    """Seven pictures whose first pixel tells which one it is."""

    def __len__(self):
        return 7

    def __getitem__(self, index):
        image = np.random.default_rng(index).integers(0, 256, (40, 44, 3), dtype=np.uint8)
        return {"image": image, "_name": f"picture {index}"}


def _transform():
    data = data_lib.defaults()
    data.update({"hr_size": 16, "degradation": "blur", "blur_sigma": (0.5, 1.5)})
    return train_transform(data)


def _batches(count, **options):
    options = {"batch_size": 8, "seed": 3, "threads": 0} | options
    stream = train_iterator(Noise(), _transform(), **options)
    try:
        return list(itertools.islice(stream, count))
    finally:
        close(stream)


def _equal(a, b):
    return len(a) == len(b) and all(
        x.keys() == y.keys() and all(np.array_equal(x[key], y[key]) for key in x)
        for x, y in zip(a, b, strict=True)
    )


def test_batches_have_the_promised_form():
    [batch] = _batches(1)
    assert set(batch) == {"lr", "hr"}  # names stay on the host
    assert batch["lr"].shape == (8, 4, 4, 3)
    assert batch["hr"].shape == (8, 16, 16, 3)
    assert batch["lr"].dtype == batch["hr"].dtype == np.uint8


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_started_at_k_goes_on_as_the_uninterrupted_one(workers):
    start, whole = 5, _batches(9)
    assert _equal(_batches(9 - start, start_step=start, workers=workers), whole[start:])
    assert not _equal(whole[: 9 - start], whole[start:])


def test_threads_do_not_matter():
    assert _equal(_batches(6, threads=4, prefetch=3), _batches(6))


def test_a_far_start_is_quick_and_exact():
    records, transform = Noise(), _transform()
    dataset = train_dataset(records, transform, batch_size=8, seed=3)
    [late] = _batches(1, start_step=1_000_000)
    assert _equal([late], [dataset[1_000_000]])


def _set(batch):
    """A batch as a multiset of examples."""
    return sorted(
        batch["lr"][i].tobytes() + batch["hr"][i].tobytes() for i in range(len(batch["lr"]))
    )


@pytest.mark.parametrize("hosts", [2, 4])
def test_global_batches_are_the_same_for_any_number_of_hosts(hosts):
    whole = _batches(5)
    parts = [_batches(5, process_index=i, process_count=hosts) for i in range(hosts)]
    for k in range(5):
        assert all(len(part[k]["lr"]) == 8 // hosts for part in parts)
        assert sorted(itertools.chain(*(_set(part[k]) for part in parts))) == _set(whole[k])


def test_every_picture_comes_equally_often_and_in_another_order_each_round():
    def keep_name(dataset):
        return dataset.map(lambda record: {"id": int(record["_name"].split()[1])})

    stream = train_iterator(Noise(), keep_name, batch_size=7, seed=0, threads=0)
    length = -(-4096 // 7)
    ids = np.concatenate([batch["id"] for batch in itertools.islice(stream, 2 * length)])
    first, second = ids[: 7 * length], ids[7 * length :]
    for part in (first, second):
        np.testing.assert_array_equal(np.bincount(part), [length] * 7)
    assert np.any(first != second)


def test_the_seed_decides():
    assert _equal(_batches(2, seed=5), _batches(2, seed=5))
    assert not _equal(_batches(2, seed=5), _batches(2, seed=6))


def test_unequal_shares_and_empty_sources_are_refused():
    with pytest.raises(UserError, match=r"batch_size=8 .* 3 processes"):
        _batches(1, process_count=3)
    with pytest.raises(UserError, match="empty"):
        train_iterator([], _transform(), batch_size=8, seed=0)


@pytest.mark.parametrize("options", [{"threads": 0}, {"threads": 2}, {"workers": 2}])
def test_a_crop_larger_than_the_picture_is_named_wherever_it_is_read(options):
    data = data_lib.defaults()
    data.hr_size = 48
    stream = train_iterator(Noise(), train_transform(data), batch_size=8, seed=0, **options)
    try:
        with pytest.raises(UserError, match=r"picture \d is 44x40.*hr_size=48"):
            next(stream)
    finally:
        close(stream)
