"""`imresize` equals MATLAB's, bit for bit, and its kernels equal their definition."""

import numpy as np
import pytest
from PIL import Image

from jaxgen.data.resize import axis_weights, imresize, to_uint8
from jaxgen.data.sr.degrade import mod_crop
from jaxgen.errors import UserError


def _pairs(data_dir, scale):
    folder = data_dir / "sr" / "Set5_swinir"
    for path in sorted((folder / "HR").glob("*.png")):
        low = folder / "LR_bicubic" / f"X{scale}" / f"{path.stem}x{scale}.png"
        yield path.stem, np.array(Image.open(path)), np.array(Image.open(low))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_published_low_resolution_pictures_are_reproduced_exactly(data_dir, scale):
    pairs = list(_pairs(data_dir, scale))
    assert len(pairs) == 5
    for name, hr, lr in pairs:
        made = imresize(mod_crop(hr, scale), 1 / scale)
        assert made.shape == lr.shape, name
        assert np.count_nonzero(made != lr) == 0, name
        # The rounding in between is what makes them equal: without it a tenth of the pixels differ.
        late = to_uint8(imresize(mod_crop(hr, scale), 1 / scale, mode="float"))
        assert np.mean(late != lr) > 0.05, name


def test_published_x8_pictures_are_reproduced_exactly_in_float_mode(data_dir):
    pairs = list(_pairs(data_dir, 8))
    assert len(pairs) == 5
    for name, hr, lr in pairs:
        made = to_uint8(imresize(mod_crop(hr, 8), 1 / 8, mode="float"))
        assert np.count_nonzero(made != lr) == 0, name


def _kernel(method, x):
    x = abs(x)
    if method == "bilinear":
        return max(0.0, 1.0 - x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def _by_definition(row, size_out, method):
    """One axis, pixel by pixel, from the definition."""
    n, stretch = len(row), max(1.0, len(row) / size_out)
    out = []
    for x in range(size_out):
        centre = (x + 0.5) * n / size_out - 0.5
        total = weight_sum = 0.0
        for i in range(int(centre - 3 * stretch) - 2, int(centre + 3 * stretch) + 3):
            weight = _kernel(method, (centre - i) / stretch)
            mirrored = i % (2 * n)
            mirrored = mirrored if mirrored < n else 2 * n - 1 - mirrored
            total, weight_sum = total + weight * row[mirrored], weight_sum + weight
        out.append(total / weight_sum)
    return np.array(out)


@pytest.mark.parametrize("method", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("n", "size_out"), [(12, 48), (12, 3), (13, 5), (7, 16), (5, 1), (3, 12)])
def test_each_axis_follows_the_definition(method, n, size_out):
    image = np.random.default_rng(n).uniform(0, 255, (n, 9))
    expected = np.stack([_by_definition(image[:, i], size_out, method) for i in range(9)], axis=1)
    down = imresize(image, size=(size_out, 9), mode="float", method=method)
    np.testing.assert_allclose(down, expected, atol=1e-10)
    across = imresize(image.T, size=(9, size_out), mode="float", method=method)
    np.testing.assert_allclose(across, expected.T, atol=1e-10)


@pytest.mark.parametrize("method", ["area", "box"])
def test_area_is_the_mean_of_each_block(method):
    image = np.random.default_rng(0).uniform(0, 255, (12, 18, 3))
    blocks = image.reshape(4, 3, 6, 3, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(
        imresize(image, 1 / 3, mode="float", method=method), blocks, atol=1e-10
    )


def test_rows_of_one_phase_have_bitwise_equal_weights():
    _, weights = axis_weights(300, 100, "bicubic")
    assert np.all(weights == weights[:, :1])
    np.testing.assert_allclose(weights.sum(axis=0), 1.0, atol=1e-15)


def test_rounding_is_half_up_and_clipped():
    halves = np.array([-3.0, 0.49, 0.5, 1.5, 2.5, 254.5, 300.0])
    np.testing.assert_array_equal(to_uint8(halves), [0, 0, 1, 2, 3, 255, 255])


def test_the_axis_that_shrinks_most_comes_first():
    image = np.random.default_rng(1).integers(0, 256, (40, 40), dtype=np.uint8)
    width_then_height = imresize(imresize(image, size=(40, 10)), size=(20, 10))
    height_then_width = imresize(imresize(image, size=(20, 40)), size=(20, 10))
    made = imresize(image, size=(20, 10))
    np.testing.assert_array_equal(made, width_then_height)
    assert np.any(made != height_then_width)


def test_same_size_gives_an_own_copy_and_sizes_round_up():
    image = np.random.default_rng(2).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    same = imresize(image, 1.0)
    np.testing.assert_array_equal(same, image)
    assert not np.shares_memory(same, image)
    assert imresize(image, 0.5).shape == (4, 5, 3)
    assert imresize(image[..., 0], 4).shape == (28, 36)
    # 1/3 of 9 is 3, not 4: float dust in the scale does not add a pixel.
    assert imresize(np.zeros((9, 9), np.uint8), 1 / 3).shape == (3, 3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "either scale or size"),
        ({"scale": 2, "size": (4, 4)}, "either scale or size"),
        ({"scale": 0}, "positive"),
        ({"size": (0, 4)}, "positive"),
        ({"scale": 2, "method": "lanczos"}, "lanczos"),
        ({"scale": 2, "mode": "int"}, "'int'"),
    ],
)
def test_impossible_requests_are_refused(options, says):
    with pytest.raises(UserError, match=says):
        imresize(np.zeros((4, 4, 3), np.uint8), **options)


def test_float_picture_in_uint8_mode_and_bad_shapes_are_refused():
    with pytest.raises(UserError, match="uint8 picture"):
        imresize(np.zeros((4, 4)), 2)
    with pytest.raises(UserError, match="picture"):
        imresize(np.zeros((0, 4, 3), np.uint8), 2)
