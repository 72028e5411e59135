"""Crops, degradations and resizes, over drawn sizes, places and scales."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from jaxgen.data.resize import imresize
from jaxgen.data.sr import section as data_lib
from jaxgen.data.sr.degrade import KINDS, degrade, degrade_crop, gaussian_blur, mod_crop
from jaxgen.data.sr.examples import MakeExample
from jaxgen.errors import UserError

settings.register_profile("data", max_examples=40, deadline=None)
settings.load_profile("data")

sizes = st.integers(1, 40)
seeds = st.integers(0, 2**31)


def _picture(height, width, seed):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(sizes, sizes, sizes, sizes, st.sampled_from(["bicubic", "bilinear", "area"]), seeds)
def test_resize_keeps_constants_transposes_and_bounds(h, w, new_h, new_w, method, seed):
    constant = np.full((h, w), seed % 256, np.uint8)
    made = imresize(constant, size=(new_h, new_w), method=method)
    assert made.shape == (new_h, new_w)
    assert np.all(made == seed % 256)
    image = _picture(h, w, seed)[..., 0].astype(np.float64)
    there = imresize(image, size=(new_h, new_w), mode="float", method=method)
    np.testing.assert_allclose(
        imresize(image.T, size=(new_w, new_h), mode="float", method=method).T, there, atol=1e-9
    )
    np.testing.assert_allclose(
        imresize(255 - image, size=(new_h, new_w), mode="float", method=method),
        255 - there,
        atol=1e-9,
    )
    if method != "bicubic":  # no negative lobes: nothing brighter or darker than the picture
        assert there.min() >= image.min() - 1e-9
        assert there.max() <= image.max() + 1e-9


@given(sizes, sizes, st.sampled_from([2, 3, 4]), seeds)
def test_resize_mirrors_with_its_picture(h, w, scale, seed):
    image = _picture(h, w, seed).astype(np.float64)
    for s in (scale, 1 / scale):
        if s > 1 or (h % scale == 0 and w % scale == 0):
            made = imresize(image[:, ::-1], s, mode="float")
            np.testing.assert_allclose(made, imresize(image, s, mode="float")[:, ::-1], atol=1e-9)


@given(st.data(), st.sampled_from([1, 2, 3, 4, 8]), st.sampled_from(KINDS), seeds)
def test_lr_of_a_crop_is_the_crop_of_the_lr(draw, scale, kind, seed):
    rows, columns = draw.draw(st.integers(1, 12)), draw.draw(st.integers(1, 12))
    image = _picture(rows * scale, columns * scale, seed)
    n = draw.draw(st.integers(1, min(rows, columns)))
    y, x = draw.draw(st.integers(0, rows - n)), draw.draw(st.integers(0, columns - n))
    sigma = draw.draw(st.sampled_from([0.6, 1.0, (0.5, 2.0)]))
    rng, same = np.random.default_rng(seed), np.random.default_rng(seed)
    lr, hr = degrade_crop(
        image, y * scale, x * scale, n * scale, scale, kind, rng, blur_sigma=sigma
    )
    whole = degrade(image, scale, kind, same, blur_sigma=sigma)
    np.testing.assert_array_equal(lr, whole[y : y + n, x : x + n])
    np.testing.assert_array_equal(hr, image[y * scale :, x * scale :][: n * scale, : n * scale])


@given(st.integers(24, 60), st.integers(24, 60), st.booleans(), st.booleans(), seeds)
def test_examples_are_aligned_augmented_crops(h, w, flip, rotate, seed):
    data = data_lib.defaults()
    data.update({"hr_size": 24, "scale": 4, "flip": flip, "rotate": rotate})
    image = _picture(h, w, seed)
    example = MakeExample(data)({"image": image, "_name": "a"}, np.random.default_rng(seed))
    assert set(example) == {"lr", "hr", "_name"}
    assert example["hr"].shape == (24, 24, 3)
    assert example["lr"].shape == (6, 6, 3)
    cut = mod_crop(image, 4)
    whole = degrade(cut, 4)
    found = []
    for turns in range(4) if rotate else (0,):
        for flipped in (False, True) if flip else (False,):
            hr, lr = np.rot90(example["hr"], -turns), np.rot90(example["lr"], -turns)
            if flipped:
                hr, lr = hr[:, ::-1], lr[:, ::-1]
            for y in range(0, cut.shape[0] - 23, 4):
                for x in range(0, cut.shape[1] - 23, 4):
                    if np.array_equal(cut[y : y + 24, x : x + 24], hr):
                        found.append((y, x))
                        expected = whole[y // 4 : y // 4 + 6, x // 4 : x // 4 + 6]
                        np.testing.assert_array_equal(lr, expected)
    assert len(found) == 1


def test_every_place_and_every_turn_occurs():
    data = data_lib.defaults()
    data.update({"hr_size": 8, "scale": 4})
    image = _picture(16, 16, 0)
    make, rng = MakeExample(data), np.random.default_rng(0)
    kinds = {make({"image": image}, rng)["hr"].tobytes() for _ in range(2000)}
    assert len(kinds) == 9 * 8  # 3 x 3 places; 4 turns, flipped or not


@given(st.integers(1, 30), st.integers(1, 30), st.floats(0.3, 4.0), seeds)
def test_blur_keeps_constants_and_smooths(h, w, sigma, seed):
    constant = np.full((h, w, 3), seed % 256, np.uint8)
    np.testing.assert_array_equal(gaussian_blur(constant, sigma), constant)
    image = _picture(h, w, seed)
    blurred = gaussian_blur(image, sigma).astype(float)
    assert blurred.std() <= image.astype(float).std() + 0.5
    # The mirror neither adds nor takes light, beyond rounding to whole levels.
    assert abs(blurred.mean() - image.mean()) <= 0.5


def test_blur_agrees_with_scipy():
    image = _picture(30, 20, 0)
    radius = 5  # ceil(3 * 1.6)
    expected = ndimage.gaussian_filter(
        image.astype(float), (1.6, 1.6, 0), mode="reflect", radius=(radius, radius, 0)
    )
    assert np.abs(gaussian_blur(image, 1.6) - expected).max() <= 0.5 + 1e-9


def test_whole_photos_are_resized_before_the_transform():
    data = data_lib.defaults()
    data.update({"crop": "resize", "hr_size": 32, "flip": False, "rotate": False})
    image = _picture(32, 32, 0)
    example = MakeExample(data)({"image": image}, np.random.default_rng(0))
    np.testing.assert_array_equal(example["hr"], image)
    np.testing.assert_array_equal(example["lr"], degrade(image, 4))
    with pytest.raises(ValueError, match="open_source"):
        MakeExample(data)({"image": image[:16]}, np.random.default_rng(0))


def test_impossible_degradations_are_refused():
    image = _picture(8, 8, 0)
    with pytest.raises(UserError, match="nearest"):
        degrade(image, 2, "nearest")
    with pytest.raises(UserError, match="nearest"):
        degrade_crop(image, 0, 0, 4, 2, "nearest")
    with pytest.raises(UserError, match="no multiple"):
        degrade(image, 3)
    with pytest.raises(UserError, match="too small"):
        mod_crop(image, 9)
    with pytest.raises(UserError, match="generator"):
        degrade(image, 2, "blur", blur_sigma=(1.0, 2.0))
    with pytest.raises(UserError, match="rising"):
        degrade(image, 2, "blur", blur_sigma=(2.0, 1.0))
