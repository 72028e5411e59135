"""The blur measure: its definition, its range, and that it orders pictures as eyes do."""

import numpy as np
import pytest
from scipy import ndimage
from skimage import data

from jaxgen.data.resize import imresize
from jaxgen.errors import UserError
from jaxgen.metrics.no_reference import blur


@pytest.fixture(scope="module")
def photo():
    return data.astronaut()[:200, 100:301]  # (200, 201, 3), odd


def test_follows_cretes_definition(photo):
    """The paper's steps: what share of the edges is left after blurring once more, by direction."""
    x = photo[..., 1] / 255.0
    left = []
    for axis in (0, 1):
        softer = ndimage.uniform_filter1d(x, 11, axis=axis)
        sharp, soft = (np.abs(ndimage.sobel(v, axis=axis))[2:-1, 2:-1] for v in (x, softer))
        left.append(1 - np.maximum(0, sharp - soft).sum() / sharp.sum())
    assert blur(photo[..., 1]) == pytest.approx(max(left), abs=1e-6)


def test_grows_with_blur_and_stays_in_range(photo):
    values = [blur(photo)]
    for sigma in (0.7, 1.5, 3.0, 6.0):
        values.append(blur(ndimage.gaussian_filter(photo, (sigma, sigma, 0))))
    assert values == sorted(values)
    assert values[0] + 0.3 < values[-1] <= 1
    assert all(type(value) is float for value in values)


def test_motion_in_one_direction_counts(photo):
    assert blur(ndimage.uniform_filter1d(photo, 9, axis=1)) > blur(photo) + 0.1


def test_an_enlarged_picture_is_more_blurred_than_the_original(photo):
    large = imresize(imresize(photo[:, :200], scale=0.25), scale=4)
    assert blur(large) > blur(photo) + 0.1


def test_gray_is_read_as_its_colour_twin(photo):
    gray = photo[..., 1]
    assert blur(gray) == pytest.approx(blur(np.repeat(gray[..., None], 3, axis=-1)), abs=1e-6)
    # Brightness has no say, as long as nothing is clipped.
    assert blur(gray // 2) == pytest.approx(blur(gray), abs=0.02)


def test_one_colour_and_noise_are_the_ends():
    assert blur(np.full((20, 20, 3), 90, np.uint8)) == 1
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    assert blur(noise) < 0.25


def test_unfit_pictures_are_refused():
    for image, message in (
        (np.zeros((20, 20, 3), np.float32), r"uint8 pictures .* not float32 \(20, 20, 3\)"),
        (np.zeros((20, 20, 4), np.uint8), r"not uint8 \(20, 20, 4\)"),
        (np.zeros((20, 10), np.uint8), "at least 11x11 pixels; this one is 10x20"),
    ):
        with pytest.raises(UserError, match=message):
            blur(image)
