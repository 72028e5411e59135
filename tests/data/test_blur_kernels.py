"""Real-ESRGAN's blur kernels: their sums, shapes, sizes and how often each is drawn."""

import math

import numpy as np
import pytest
import scipy.integrate

from jaxgen.data.sr import blur_kernels
from jaxgen.data.sr import section as sections


def draw(seed, **changes):
    order = sections.defaults().blind.first
    order.update(changes)
    return blur_kernels.draw_kernel(
        (7, 21),
        order.sinc,
        order.kernels,
        order.sigma,
        order.beta_gaussian,
        order.beta_plateau,
        np.random.default_rng(seed),
    )


def one_hot(index, count):
    return tuple(float(i == index) for i in range(count))


def test_kernels_sum_to_one_and_are_centred():
    for seed in range(300):
        kernel = draw(seed)
        assert kernel.shape == (21, 21)
        np.testing.assert_allclose(kernel.sum(), 1.0, atol=1e-12)
        # Every kernel is symmetric about its centre: no shift of the picture.
        np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-15)


@pytest.mark.parametrize("index", range(len(blur_kernels.SHAPES)), ids=blur_kernels.SHAPES)
def test_each_shape_is_round_or_elongated(index):
    kernels = [
        draw(seed, sinc=0.0, kernels=one_hot(index, 6), sigma=(1.0, 3.0)) for seed in range(20)
    ]
    turned = [np.abs(k - k.T).max() + np.abs(k - k[:, ::-1]).max() for k in kernels]
    if blur_kernels.SHAPES[index].endswith("aniso"):
        assert np.median(turned) > 1e-3
    else:
        assert max(turned) < 1e-12
    assert all(k.min() >= 0 for k in kernels)


def test_all_sizes_are_drawn():
    rng = np.random.default_rng(0)
    sizes, counts = np.unique(
        [blur_kernels.draw_size((7, 21), rng) for _ in range(800)], return_counts=True
    )
    assert sizes.tolist() == list(range(7, 22, 2))
    assert counts.min() > 60  # 100 expected


def test_gaussian_has_the_covariance_asked_for():
    kernel = blur_kernels.gaussian(41, (4.0, 2.0), angle=math.pi / 6)
    axis = np.arange(41) - 20
    x, y = np.meshgrid(axis, axis)
    found = [(kernel * a * b).sum() for a, b in ((x, x), (y, y), (x, y))]
    c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
    expected = [16 * c * c + 4 * s * s, 16 * s * s + 4 * c * c, (16 - 4) * c * s]
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_shapes_by_hand():
    """Taps at distances 0 and (2, 1) pixels, by the paper's formulas (supplement A)."""
    distance = (2 / 1.5) ** 2 + (1 / 0.8) ** 2
    for kernel, fall in (
        (blur_kernels.gaussian(9, (1.5, 0.8)), math.exp(-distance / 2)),
        (blur_kernels.gaussian(9, (1.5, 0.8), beta=0.6), math.exp(-(distance**0.6) / 2)),
        (blur_kernels.plateau(9, (1.5, 0.8), beta=1.7), 1 / (1 + distance**1.7)),
    ):
        np.testing.assert_allclose(kernel[5, 6] / kernel[4, 4], fall, rtol=1e-12)


def test_sinc_is_the_transform_of_a_disc():
    """The kernel by numerical integration of exp(i w.x) over |w| < cutoff, without Bessel's j1."""
    cutoff, size = 1.3, 7
    values = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            r = math.hypot(i - size // 2, j - size // 2)
            # By symmetry along w: chords of the disc at distance w from its centre.
            values[i, j] = scipy.integrate.quad(
                lambda w, r=r: math.cos(w * r) * 2 * math.sqrt(cutoff**2 - w**2), -cutoff, cutoff
            )[0] / (4 * math.pi**2)
    np.testing.assert_allclose(
        blur_kernels.sinc(size, cutoff), values / values.sum(), atol=1e-9, rtol=0
    )
    assert blur_kernels.sinc(21, cutoff).min() < 0  # rings


def test_sinc_probability():
    negative = np.mean([draw(seed).min() < 0 for seed in range(2000)])
    assert 0.1 - 0.027 < negative < 0.1 + 0.027  # four standard deviations
