"""`data.rescale`: crops from shrunk copies of the photos, with the right LR, seeded."""

import numpy as np
import pytest

from jaxgen.data.resize import imresize
from jaxgen.data.sr import section as data
from jaxgen.data.sr.examples import MakeExample
from jaxgen.errors import UserError


def settings(**changes):
    config = data.defaults()
    config.update(hr_size=32, flip=False, rotate=False, **changes)
    return config


def photo(height=90, width=70):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("rescale", [(0.5, 1.0), (0.2, 0.3), (0.4, 0.4)])
def test_shapes_and_lr_of_the_shrunk_copy(rescale):
    make = MakeExample(settings(rescale=rescale))
    for seed in range(20):
        example = make({"image": photo()}, np.random.default_rng(seed))
        assert example["hr"].shape == (32, 32, 3)
        assert example["lr"].shape == (8, 8, 3)
        # Away from the crop's border, LR is the bicubic LR of HR.
        inside = imresize(example["hr"], 1 / 4)[2:-2, 2:-2].astype(int)
        assert abs(inside - example["lr"][2:-2, 2:-2]).max() <= 1


def test_same_generator_same_example():
    make = MakeExample(settings(rescale=(0.5, 1.0)))
    a, b = (make({"image": photo()}, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(a["hr"], b["hr"])
    np.testing.assert_array_equal(a["lr"], b["lr"])


def test_shrinking_takes_in_more_of_the_photo():
    """A shrunk ramp is steeper: its crops span a larger part of the values."""
    ramp = np.tile(np.linspace(0, 255, 256, dtype=np.uint8)[None, :, None], (256, 1, 3))
    spans = {}
    for factor in (0.5, 1.0):
        make = MakeExample(settings(rescale=(factor, factor)))
        hr = make({"image": ramp}, np.random.default_rng(0))["hr"].astype(int)
        spans[factor] = hr.max() - hr.min()
    assert spans[0.5] == pytest.approx(2 * spans[1.0], abs=4)


@pytest.mark.parametrize("rescale", [(0.0, 1.0), (0.9, 0.5), (0.5, 1.5)])
def test_impossible_range(rescale):
    with pytest.raises(UserError, match=r"data\.rescale"):
        MakeExample(settings(rescale=rescale))


def test_recoloured_examples_have_their_channels_exchanged():
    image = photo(32, 32)
    make = MakeExample(settings(recolour=1.0))
    found = [make({"image": image}, np.random.default_rng(seed)) for seed in range(60)]
    orders = set()
    for example in found:
        order = tuple(
            next(k for k in range(3) if np.array_equal(image[..., k], example["hr"][..., c]))
            for c in range(3)
        )
        orders.add(order)
        whole = imresize(image[..., list(order)], 1 / 4)
        np.testing.assert_array_equal(example["lr"], whole)
    assert len(orders) == 6
    plain = MakeExample(settings())({"image": image}, np.random.default_rng(1))
    np.testing.assert_array_equal(plain["hr"], image)
