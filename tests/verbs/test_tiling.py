"""Tiled upscaling equals whole upscaling, for any size, tile, radius and multiple."""

import functools
import importlib
import pkgutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reach import lively, true_radius
from support.upscaling import of_module, upscale_float

import jaxgen.models
from jaxgen import config as configs
from jaxgen import devices
from jaxgen.data.resize import imresize
from jaxgen.errors import UserError
from jaxgen.models.srgan.generator import KerasGenerator, SRResNet
from jaxgen.train import loop
from jaxgen.train.family import wanted_parts
from jaxgen.verbs.upscale import tiling as upscale
from jaxgen.verbs.upscale.contract import Upscale


def upscalers(config):
    """Every `Upscale` of a config's model; none of families that are made of other models."""
    if any(want.needed for want in wanted_parts(config).values()):
        return []
    verbs = importlib.import_module(f"jaxgen.models.{config.family}").verbs(config)
    return [verb for verb in verbs.values() if isinstance(verb, Upscale)]


def of_config(family, variant="tiny"):
    return configs.load(f"{REPOSITORY}/configs/{family}.py:{variant}")


FAMILIES = sorted(m.name for m in pkgutil.iter_modules(jaxgen.models.__path__))
FAMILIES = [family for family in FAMILIES if upscalers(of_config(family))]


class Net(nn.Module):
    """Zero-padded convolutions with biases, so that an invented border shows; radius 1 each.

    `down` > 1 works on strided features: its result depends on the window's phase.
    """

    layers: int
    scale: int
    down: int = 1

    @nn.compact
    def __call__(self, x):
        init = nn.initializers.normal(0.3)
        for _ in range(self.layers):
            x = nn.leaky_relu(nn.Conv(6, (3, 3), kernel_init=init, bias_init=init)(x))
        if self.down > 1:
            low = nn.Conv(
                6, (self.down, self.down), strides=self.down, padding="VALID", kernel_init=init
            )(x)
            x = x + jnp.repeat(jnp.repeat(low, self.down, axis=1), self.down, axis=2)
        x = nn.Conv(3 * self.scale**2, (1, 1), kernel_init=init)(x)
        b, h, w, _ = x.shape
        x = x.reshape(b, h, w, self.scale, self.scale, 3).transpose(0, 1, 3, 2, 4, 5)
        return jnp.tanh(x.reshape(b, h * self.scale, w * self.scale, 3))


def make(layers=3, scale=2, down=1, radius=None):
    net = Net(layers, scale, down)
    variables = jax.jit(net.init)(jax.random.key(layers), jnp.zeros((1, 8, 8, 3)))
    # The strided layer reaches at most down - 1 pixels to either side.
    reach = layers + down - 1 if radius is None else radius
    return of_module(net.apply, scale, reach, multiple=down), {"g": variables}


def picture(height, width, seed=0, channels=3):
    rng = np.random.default_rng(seed)
    shape = (height, width, channels) if channels else (height, width)
    return rng.integers(0, 256, shape, dtype=np.uint8)


# Built once: every new verb is a new compilation.
VERBS = {key: make(*key) for key in ((1, 2, 1), (3, 2, 1), (2, 3, 2), (4, 4, 4))}


@settings(max_examples=10, deadline=None)
@given(
    key=st.sampled_from(sorted(VERBS)),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    tile=st.integers(1, 24),
    batch=st.integers(1, 2),
    seed=st.integers(0, 9),
)
def test_tiled_equals_whole(key, height, width, tile, batch, seed):
    verb, variables = VERBS[key]
    image = picture(height, width, seed)
    x = image.astype(np.float32) / 127.5 - 1.0
    # The reference is the network itself on the whole picture, not another path through our code.
    m = verb.multiple
    whole = np.pad(x, ((0, -height % m), (0, -width % m), (0, 0)), mode="reflect")
    whole = np.asarray(verb.apply(variables, whole[None], None))[0]
    whole = whole[: height * verb.scale, : width * verb.scale]
    tiled = upscale_float(verb, variables, x, tile=tile, batch=batch)
    assert tiled.shape == whole.shape
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-5)

    levels = (whole + 1.0) * 127.5
    rounded = upscale.upscale_image(verb, variables, image, tile=tile, batch=batch)
    assert rounded.dtype == np.uint8
    # Within half a level of the unrounded value: equal but for ties.
    assert np.abs(rounded - levels).max() <= 0.5 + 1e-2


@pytest.mark.parametrize(
    "generator",
    [
        SRResNet(scale=2, features=4, blocks=2),
        SRResNet(scale=4, features=4, blocks=1, edge_kernel=3, norm=False, skip=True),
        SRResNet(scale=8, features=4, blocks=1),
        KerasGenerator(scale=4, features=4, blocks=1),
    ],
    ids=lambda g: f"{type(g).__name__}_x{g.scale}",
)
def test_the_familys_generators_know_their_radius(generator):
    shape = (1, 8, 8, 3)
    drawn = generator.init(jax.random.key(0), jnp.zeros(shape), train=False)
    # Large enough for every tap to show; the light form's last layer starts at zero.
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda a: a + rng.normal(0, 0.1, a.shape).astype("f"), drawn)
    variables = {
        k: jax.tree.map(jnp.abs, v) if k == "batch_stats" else v for k, v in variables.items()
    }

    def apply(variables, x):
        return generator.apply(variables, x, train=False)

    verb = of_module(apply, generator.scale, generator.radius())
    x = picture(48, 34).astype(np.float32) / 127.5 - 1.0
    whole = np.asarray(apply(variables, x[None]))[0]
    tiled = upscale_float(verb, {"g": variables}, x, tile=10)
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-5 * np.abs(whole).max())


@functools.cache
def of_family(family, variant="tiny"):
    """(verb, variables) of each `Upscale` of a config."""
    config = of_config(family, variant)
    shapes = variable_shapes(config)
    return [(verb, lively({net: shapes[net] for net in verb.nets})) for verb in upscalers(config)]


def variable_shapes(config):
    """Every net's variables, {"params": ..., "batch_stats": ...}, as shapes."""
    from jaxgen.data.pipeline import train_dataset

    task = loop.load_task(config)
    records, transform = task.train_data()
    batch = train_dataset(records, transform, batch_size=1, seed=0)[0]
    params, mutable = jax.eval_shape(task.init, jax.random.key(0), batch)
    return {net: {"params": params[net], **mutable.get(net, {})} for net in params}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_familys_radius_is_true_and_not_wasteful(family):
    for verb, variables in of_family(family):
        found = true_radius(verb, variables)
        assert found <= verb.radius <= found + 2, (found, verb.radius)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_tiled_equals_whole(family):
    for verb, variables in of_family(family):
        m = verb.multiple
        # More than three windows down and two across, with their overlaps.
        height, width = (-(-(2 * verb.radius + n) // m) * m for n in (40, 24))
        x = picture(height, width).astype(np.float32) / 127.5 - 1.0
        whole = np.asarray(jax.jit(verb.apply)(variables, x[None], None))[0]
        tiled = upscale_float(verb, variables, x, tile=12)
        np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-5 * np.abs(whole).max())


@pytest.mark.parametrize("key", sorted(VERBS))
def test_the_probe_finds_a_known_radius(key):
    """Of the strided nets, `reach` counts down - 1 pixels, to whichever side."""
    verb, variables = VERBS[key]
    assert true_radius(verb, variables) == verb.radius


def test_the_probe_sees_further_than_is_claimed():
    verb, variables = make(layers=9, scale=2, radius=1)
    assert true_radius(verb, variables) == 9
    everywhere = of_module(lambda v, x: x + x.mean(axis=(1, 2), keepdims=True), 1, radius=1)
    with pytest.raises(AssertionError, match="further than 50"):
        true_radius(everywhere, {"g": {}}, limit=50)


def test_a_radius_that_is_too_small_shows():
    """The property above can fail: with too small a pad the seams are far above 1e-5."""
    verb, variables = make(layers=4, scale=2, radius=2)
    x = picture(30, 30).astype(np.float32) / 127.5 - 1.0
    whole = np.asarray(verb.apply(variables, x[None], None))[0]
    assert np.abs(upscale_float(verb, variables, x, tile=8) - whole).max() > 1e-3


@settings(max_examples=200, deadline=None)
@given(
    multiple=st.sampled_from([1, 2, 4, 8]),
    length=st.integers(1, 60),
    core=st.integers(1, 12),
    pad=st.integers(0, 8),
)
def test_spans_cover_once_with_full_context(multiple, length, core, pad):
    length, core, pad = length * multiple, core * multiple, pad * multiple
    window = min(core + 2 * pad, length)
    found = upscale.spans(length, window, pad)
    assert [s.low for s in found] == [0] + [s.high for s in found[:-1]]
    assert found[-1].high == length
    for span in found:
        end = span.start + window
        assert 0 <= span.start <= span.low < span.high <= end <= length
        assert span.start % multiple == 0
        assert span.low - span.start >= pad or span.start == 0
        assert end - span.high >= pad or end == length


@settings(max_examples=200, deadline=None)
@given(
    height=st.integers(1, 5000),
    width=st.integers(1, 5000),
    pixels=st.integers(1, 400_000),
    pad=st.integers(0, 60),
    multiple=st.sampled_from([1, 2, 8]),
)
def test_default_windows_fit_and_have_a_centre(height, width, pixels, pad, multiple):
    size, pad = (height * multiple, width * multiple), pad * multiple
    window = upscale.fitting_window(size, pixels, pad, multiple)
    if size[0] * size[1] <= pixels:
        assert window == size
    for length, side in zip(size, window, strict=True):
        assert side <= length
        assert side % multiple == 0
        assert side == length or side > 2 * pad
    smallest = 2 * pad + 32
    assert window[0] * window[1] <= max(pixels, smallest**2, smallest * min(size))


def test_one_compilation_and_the_real_border():
    """All windows of a picture have one shape, and no window reaches over the border."""
    verb, variables = make(layers=2)
    shapes = []

    def apply(variables, x):
        shapes.append(x.shape)
        return verb.apply({"g": variables}, x, None)

    counted = of_module(apply, verb.scale, verb.radius)
    upscale.upscale_image(counted, variables, picture(50, 61), tile=10)
    assert shapes == [(8, 14, 14, 3)]  # 8 fake devices, one window each
    upscale.upscale_image(counted, variables, picture(70, 33), tile=10)
    assert shapes == [(8, 14, 14, 3)]


def test_small_memory_is_tiled_by_itself(monkeypatch):
    verb, variables = make(layers=2)
    image = picture(150, 130)
    whole = upscale.upscale_image(verb, variables, image, tile=1000)
    per_pixel = upscale.bytes_per_pixel(verb, variables)
    # Three times 12 channels of float32, the output before its pixel shuffle.
    assert per_pixel == 3 * 12 * 4
    monkeypatch.setattr(devices, "memory", lambda: 64 * 64 * per_pixel)
    calls = []
    tiled = upscale.upscale_image(
        verb, variables, image, progress=lambda done, total: calls.append((done, total))
    )
    assert len({total for _, total in calls}) == 1
    assert calls[-1][0] == calls[-1][1] == 6
    assert (tiled != whole).mean() < 1e-3  # rounding ties


def test_out_of_memory_halves_the_windows():
    verb, variables = make(layers=2)
    image = picture(90, 80)

    def apply(variables, x):
        if x.shape[1] * x.shape[2] > 50 * 50:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return verb.apply({"g": variables}, x, None)

    tight = of_module(apply, verb.scale, verb.radius)
    whole = upscale.upscale_image(verb, variables, image)
    assert (upscale.upscale_image(tight, variables, image) != whole).mean() < 1e-3
    with pytest.raises(UserError, match=r"tile of 60 pixels does not fit.*such as 30"):
        upscale.upscale_image(tight, variables, image, tile=60)

    def never(variables, x):  # but for the small trace that estimates the memory
        if x.shape[1:3] != (32, 32):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return verb.apply({"g": variables}, x, None)

    with pytest.raises(UserError, match="memory does not hold a window"):
        upscale.upscale_image(of_module(never, 2, 2), variables, image)


def test_other_errors_of_the_device_are_not_hidden():
    verb, variables = VERBS[(1, 2, 1)]

    def broken(variables, x):
        if x.shape[1:3] != (32, 32):
            raise jax.errors.JaxRuntimeError("INTERNAL: something else")
        return verb.apply({"g": variables}, x, None)

    for tile in (None, 8):
        with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
            upscale.upscale_image(of_module(broken, 2, 2), variables, picture(9, 9), tile=tile)


def test_gray_stays_gray():
    verb, variables = make()
    gray = picture(21, 17, channels=0)
    color = np.repeat(gray[..., None], 3, axis=-1)
    x = color.astype(np.float32) / 127.5 - 1.0
    expected = np.asarray(verb.apply(variables, x[None], None))[0] @ np.array([0.299, 0.587, 0.114])
    result = upscale.upscale_image(verb, variables, gray, tile=6)
    assert result.shape == (42, 34)
    assert np.abs(result - (expected + 1.0) * 127.5).max() <= 0.5 + 1e-2


@pytest.mark.parametrize("height", [1, 255, 257, 700])
def test_alpha_in_bands_equals_whole(height):
    alpha = picture(height, 9, channels=0)
    assert np.array_equal(upscale.upscale_alpha(alpha, 4), imresize(alpha, scale=4))


def test_into_a_memory_map(tmp_path):
    verb, variables = make()
    image = picture(20, 30)
    out = np.memmap(tmp_path / "out.raw", np.uint8, "w+", shape=(40, 60, 3))
    result = upscale.upscale_image(verb, variables, image, tile=8, out=out)
    assert result is out
    assert np.array_equal(out, upscale.upscale_image(verb, variables, image, tile=8))
    with pytest.raises(ValueError, match="out must be"):
        upscale.upscale_image(verb, variables, image, out=out[1:])


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), {}, "uint8"),
        (np.zeros((4, 4, 2), np.uint8), {}, r"\(4, 4, 2\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), {}, r"\(2, 4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), {}, "empty"),
        (np.zeros((4, 4, 3), np.uint8), {"tile": 0}, "at least 1"),
        (np.zeros((4, 4, 3), np.uint8), {"batch": 0}, "from 1 to 65536, not 0"),
    ],
)
def test_bad_pictures_are_user_errors(image, options, message):
    verb, variables = VERBS[(1, 2, 1)]
    with pytest.raises(UserError, match=message):
        upscale.upscale_image(verb, variables, image, **options)
