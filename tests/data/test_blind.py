"""Real-ESRGAN's blind degradation: filters, resizing, noise, JPEG, and whole examples."""

import math
import pickle

import numpy as np
import pytest
import scipy.ndimage
import skimage.data
from support.referees import pytorch

from jaxgen.data.sr import blind, blur_kernels, degrade
from jaxgen.data.sr import examples as sr
from jaxgen.data.sr import section as sections
from jaxgen.errors import UserError


@pytest.fixture(scope="module")
def photo():
    return skimage.data.astronaut()


def planes(height, width, seed=0):
    return np.random.default_rng(seed).random((3, height, width), np.float32)


def settings(**changes):
    data = sections.defaults()
    data.degradation, data.hr_size = "blind", 32
    data.update(changes)
    return data


# ---------------------------------------------------------------------------- filter and resize


@pytest.mark.parametrize("size", [(30, 41), (6, 3), (1, 9)])
def test_filter_equals_direct_correlation(size):
    x = planes(*size)
    kernel = np.random.default_rng(1).random((7, 7))
    direct = [scipy.ndimage.correlate(p.astype(float), kernel, mode="mirror") for p in x]
    np.testing.assert_allclose(blind.filter2d(x, kernel), direct, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", blind.MODES)
@pytest.mark.parametrize(
    ("size", "out"),
    [((24, 36), (50, 17)), ((24, 36), (24, 35)), ((7, 31), (3, 46)), ((5, 6), (1, 1))],
)
def test_resize_equals_torch(mode, size, out):
    torch = pytorch()
    x = planes(*size)
    options = {} if mode == "area" else {"align_corners": False}
    # In double precision: in single, PyTorch's coordinates alone are off by 3e-6.
    exact = torch.from_numpy(x)[None].double()
    theirs = torch.nn.functional.interpolate(exact, out, mode=mode, **options)
    np.testing.assert_allclose(blind.resize(x, out, mode), theirs[0].numpy(), rtol=0, atol=1e-6)


def test_resize_keeps_the_place():
    """A smooth picture, shrunk and enlarged by odd sizes, is not shifted (see the docstring)."""
    ramp = np.broadcast_to(np.linspace(0, 1, 64, dtype=np.float32), (3, 64, 64))
    for mode in ("area", "bilinear", "bicubic"):
        there = blind.resize(ramp, (64, 41), mode)
        back = blind.resize(there, (64, 64), mode)
        assert abs(float((back - ramp)[:, :, 8:-8].mean())) < 1e-3


# -------------------------------------------------------------------------------- noise and JPEG


@pytest.mark.parametrize("gray", [True, False])
def test_gaussian_noise_has_its_sigma(gray):
    x = np.full((3, 100, 100), 0.5, np.float32)
    noise = blind.gaussian_noise(x, 20.0, gray, np.random.default_rng(0)) - x
    assert abs(noise.std() * 255 - 20) < 0.6
    assert (np.ptp(noise, axis=0).max() < 1e-6) == gray


@pytest.mark.parametrize("gray", [True, False])
def test_poisson_noise_grows_with_light(gray):
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 1, -1)
    x = np.broadcast_to(ramp, (3, 2000, 256))
    noise = blind.poisson_noise(x, 2.0, gray, np.random.default_rng(0)) - x
    assert np.abs(noise.mean()) < 1e-3
    # Variance of a count with mean v * 256, over 256, times the strength.
    expected = 2.0 * np.sqrt(ramp.ravel() / 256)
    np.testing.assert_allclose(noise.std(axis=(0, 1)), expected, rtol=0.1, atol=1e-6)
    assert (np.ptp(noise, axis=0).max() < 1e-6) == gray


def test_poisson_noise_of_a_flat_picture():
    """One value only: one level, as published; no logarithm of zero."""
    x = np.zeros((3, 8, 8), np.float32)
    assert np.all(blind.poisson_noise(x, 1.0, False, np.random.default_rng(0)) == 0)


def test_jpeg_leaves_blocks_and_thins_chroma(photo):
    x = photo[100:228, 100:228].transpose(2, 0, 1).astype(np.float32) / 255
    steps = {}
    for quality in (30, 95):
        y = blind.jpeg(x, quality)
        assert y.shape == x.shape
        np.testing.assert_allclose(y * 255, np.rint(y * 255), atol=1e-4)
        gray = y.mean(axis=0)
        jump = np.abs(np.diff(gray, axis=1)).mean(axis=0)  # between neighbouring columns
        on_grid = np.arange(127) % 8 == 7
        steps[quality] = jump[on_grid].mean() / jump[~on_grid].mean()
    assert steps[30] > 1.1 * steps[95]
    checker = np.indices((16, 16)).sum(axis=0) % 2
    colours = np.stack([checker, 1 - checker, np.full((16, 16), 0.5)]).astype(np.float32)
    assert np.abs(blind.jpeg(colours, 95)[0] - colours[0]).mean() > 0.1  # 4:2:0


def test_sharpen_by_direct_filtering(photo):
    x = photo[60:140, 200:290].transpose(2, 0, 1).astype(np.float32) / 255
    axis = np.arange(51) - 25.0
    line = np.exp(-axis * axis / 128)
    line /= line.sum()

    def blur(p):
        for a in (1, 2):
            p = scipy.ndimage.correlate1d(p.astype(float), line, axis=a, mode="mirror")
        return p

    residual = x - blur(x)
    soft = blur(np.abs(residual) * 255 > 10)
    expected = soft * np.clip(x + residual / 2, 0, 1) + (1 - soft) * x
    found = blind.sharpen(x)
    # A residual at the threshold may fall to either side: one mask pixel weighs 1/400.
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert found.std() > 1.05 * x.std()
    flat = np.full((3, 20, 20), 0.3, np.float32)
    np.testing.assert_allclose(blind.sharpen(flat), flat, atol=1e-6)


# --------------------------------------------------------------------------------------- examples


@pytest.mark.parametrize(("scale", "size"), [(4, 48), (2, 32), (1, 24), (3, 27)])
def test_example_shapes(photo, scale, size):
    make = sr.MakeExample(settings(scale=scale, hr_size=size))
    for seed in range(4):
        example = make({"image": photo, "_name": "a"}, np.random.default_rng(seed))
        assert example["lr"].shape == (size // scale, size // scale, 3)
        assert example["hr"].shape == example["hr_usm"].shape == (size, size, 3)
        assert all(example[k].dtype == np.uint8 for k in ("lr", "hr", "hr_usm"))
        assert example["_name"] == "a"


def test_examples_are_functions_of_the_generator(photo):
    make = pickle.loads(pickle.dumps(sr.MakeExample(settings())))  # as Grain's workers get it
    one, same, other = (make({"image": photo}, np.random.default_rng(s)) for s in (3, 3, 4))
    assert all(np.array_equal(one[key], same[key]) for key in one)
    assert not np.array_equal(one["lr"], other["lr"])


def test_plain_examples_are_the_benchmarks_resize_and_jpeg(photo):
    data = settings()
    data.blind.update(usm=False, plain=1.0, plain_noise=0.0, plain_jpeg=0.0)
    lr, sharp = blind.degrade_blind(photo, 4, data.blind, np.random.default_rng(0))
    assert sharp is None
    np.testing.assert_array_equal(lr, degrade.degrade(photo, 4))
    data.blind.plain_jpeg = 1.0
    saved, _ = blind.degrade_blind(photo, 4, data.blind, np.random.default_rng(0))
    assert 0.5 < np.abs(saved.astype(float) - lr).mean() < 10
    data.blind.update(plain=0.5, plain_jpeg=0.0)
    part, clean = photo[:64, :64], degrade.degrade(photo[:64, :64], 4)
    found = [
        blind.degrade_blind(part, 4, data.blind, np.random.default_rng(seed))[0]
        for seed in range(40)
    ]
    assert 10 <= sum(np.array_equal(one, clean) for one in found) <= 30


def test_without_sharpening_there_is_no_second_target(photo):
    data = settings()
    data.blind.usm = False
    assert set(sr.MakeExample(data)({"image": photo}, np.random.default_rng(0))) == {"lr", "hr"}


@pytest.mark.parametrize("shape", [(32, 32), (33, 47), (40, 300)])
def test_pictures_hardly_larger_than_the_crop(photo, shape):
    example = sr.MakeExample(settings())(
        {"image": photo[: shape[0], : shape[1]]}, np.random.default_rng(0)
    )
    assert example["lr"].shape == (8, 8, 3)


def mild(**changes):
    """Nothing but the resize to LR and JPEG at its best."""
    data = settings(**changes)
    data.blind.update({"usm": False, "final_sinc": 0.0})
    for order in (data.blind.first, data.blind.second):
        order.update({"blur": 0.0, "resize": (0.0, 0.0, 1.0), "gaussian": 1.0})
        order.update({"noise": (0.0, 0.0), "jpeg": (100, 100)})
    return data


@pytest.mark.parametrize("crop", ["random", "resize"])
def test_lr_lies_on_hr(photo, crop):
    """With mild settings the enlarged LR fits HR better than any shift of it."""
    data = mild(hr_size=96, crop=crop, flip=True)
    image = photo[:96, 200:296] if crop == "resize" else photo
    make, wrong = sr.MakeExample(data), []
    for seed in range(6):
        example = make({"image": image}, np.random.default_rng(seed))
        lr = example["lr"].transpose(2, 0, 1).astype(np.float32)
        high = example["hr"].transpose(2, 0, 1).astype(np.float32)
        up = blind.resize(lr, (96, 96), "bicubic")
        errors = {
            (dy, dx): np.abs(np.roll(up, (dy, dx), (1, 2)) - high)[:, 4:-4, 4:-4].mean()
            for dy in (-2, 0, 2)
            for dx in (-2, 0, 2)
        }
        wrong.append(min(errors, key=errors.get))
    assert wrong == [(0, 0)] * 6


def test_every_branch_is_taken_as_often_as_it_should(photo, monkeypatch):
    """Counts each branch over whole degradations of a small picture."""
    counts: dict[str, int] = {}

    def spy(name, function):
        def counted(*args, **kwargs):
            result = function(*args, **kwargs)
            key = f"{name}:{result}" if name == "mode" else name
            counts[key] = counts.get(key, 0) + 1
            if name == "factor":
                kind = "up" if result > 1 else "down" if result < 1 else "keep"
                counts[kind] = counts.get(kind, 0) + 1
            if name.endswith("noise") and args[2]:
                counts["gray"] = counts.get("gray", 0) + 1
            return result

        return counted

    for name, short in (
        ("filter2d", "filter"),
        ("jpeg", "jpeg"),
        ("draw_mode", "mode"),
        ("draw_factor", "factor"),
        ("gaussian_noise", "gaussian noise"),
        ("poisson_noise", "poisson noise"),
    ):
        monkeypatch.setattr(blind, name, spy(short, getattr(blind, name)))
    for name in ("draw_sinc", "gaussian", "plateau"):
        monkeypatch.setattr(blur_kernels, name, spy(name, getattr(blur_kernels, name)))
    image, section = photo[:16, :16], sections.defaults().blind
    section.usm = False
    n = 1500
    for seed in range(n):
        blind.degrade_blind(image, 4, section, np.random.default_rng(seed))
    expected = {
        "filter": n * (1.0 + 0.8 + 0.8),
        "jpeg": n * 2,
        **{f"mode:{mode}": n * 3 / 3 for mode in blind.MODES},
        "up": n * (0.2 + 0.3),
        "down": n * (0.7 + 0.4),
        "keep": n * (0.1 + 0.3),
        "gaussian noise": n,
        "poisson noise": n,
        "gray": n * 2 * 0.4,
        "draw_sinc": n * (0.1 + 0.1 * 0.8 + 0.8),
        "gaussian": n * 1.8 * 0.9 * 0.85,
        "plateau": n * 1.8 * 0.9 * 0.15,
    }
    counts.pop("factor")
    assert set(counts) == set(expected) | {"mode:" + m for m in blind.MODES}
    for key, wanted in expected.items():
        assert abs(counts[key] - wanted) < 5 * math.sqrt(wanted), (key, counts[key], wanted)


def test_both_final_orders(photo):
    """JPEG last leaves its own 8x8 grid in LR; JPEG before the resize does not."""
    data = mild()
    data.blind.second.update({"jpeg": (5, 5), "resize": (1.0, 0.0, 0.0)})
    steps = []
    for seed in range(30):
        lr, _ = blind.degrade_blind(photo, 4, data.blind, np.random.default_rng(seed))
        jump = np.abs(np.diff(lr.astype(float).mean(axis=2), axis=1)).mean(axis=0)
        on_grid = np.arange(lr.shape[1] - 1) % 8 == 7
        steps.append(jump[on_grid].mean() / jump[~on_grid].mean())
    steps = np.sort(steps)
    assert 5 <= np.sum(steps > 1.5) <= 25
    assert np.all((steps > 1.5) | (steps < 1.3))


def test_validation_is_the_same_every_time(tmp_path):
    data = settings()
    one, two = list(sr.validation_pairs(data)), list(sr.validation_pairs(data))
    assert len(one) == 2
    for (name, lr, hr), (_, again, plain) in zip(one, two, strict=True):
        assert lr.shape[0] * 4 == hr.shape[0], name
        assert np.array_equal(lr, again)
        assert np.array_equal(hr, plain)
    data.degradation = "bicubic"
    for (_, _, hr), (_, _, clean) in zip(one, sr.validation_pairs(data), strict=True):
        assert np.array_equal(hr, clean)  # not sharpened


def test_batches_from_the_pipeline():
    from jaxgen.data.pipeline import train_dataset
    from jaxgen.data.sr.sources import open_source

    data = settings(rescale=(0.5, 1.0))
    batches = train_dataset(
        open_source(data, "train"), sr.train_transform(data), batch_size=3, seed=0
    )
    assert {k: v.shape for k, v in batches[0].items()} == {
        "lr": (3, 8, 8, 3),
        "hr": (3, 32, 32, 3),
        "hr_usm": (3, 32, 32, 3),
    }


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("margin", -1, "margin"),
        ("kernel_sizes", (7, 20), "odd"),
        ("final_sinc", 1.5, "final_sinc must be at most 1"),
        ("first.blur", -0.1, "first.blur must be at least 0"),
        ("first.kernels", (1.0,), "tuple of 6 numbers, from 0 to 1"),
        ("second.resize", (0.5, 0.5, 0.5), "sum 1"),
        ("second.jpeg", (95, 30), "rising"),
        ("second.jpeg", (30, 101), "from 1 to 100"),
        ("first.sigma", (0.0, 3.0), "rising range .* at least 0.001"),
        ("first.factor", (1.1, 1.5), "around 1"),
    ],
)
def test_impossible_settings_are_named(key, value, message):
    data = settings()
    node = data.blind
    *path, last = key.split(".")
    for name in path:
        node = node[name]
    with node.ignore_type():
        node[last] = value
    with pytest.raises(UserError, match=message):
        sections.check(data)


def test_unknown_and_missing_keys_of_the_section():
    data = settings()
    data.blind.first.jpg = (30, 95)
    with pytest.raises(UserError, match=r"first\.jpg; did you mean data\.blind\.first\.jpeg\?"):
        sections.check(data)
    data = settings()
    del data.blind["usm"]
    with pytest.raises(UserError, match=r"data\.blind\.usm is missing"):
        sections.check(data)
