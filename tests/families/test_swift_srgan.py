"""Swift-SRGAN: counts, scales, and parity with the original's arrays, both ways."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REPOSITORY
from support.referees import pytorch

from jaxgen import config as configs
from jaxgen import weights
from jaxgen.errors import UserError
from jaxgen.models.swift_srgan import verbs
from jaxgen.models.swift_srgan.convert import LAYOUTS
from jaxgen.models.swift_srgan.discriminator import SwiftDiscriminator, adaptive_average_pool
from jaxgen.models.swift_srgan.generator import SwiftGenerator
from jaxgen.models.swift_srgan.task import make_discriminator, make_generator
from jaxgen.nn.resample import upsample_bicubic
from jaxgen.tasks.common import to_float
from jaxgen.tasks.sr.losses import SRLosses

GENERATOR, DISCRIMINATOR = LAYOUTS


def shapes(module, size):
    picture = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), picture)


def count(module, size=32):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(module, size)["params"]))


def converted(layout, tensors):
    """(config, variables) of a file's tensors, as `jaxgen convert` makes them."""
    sizes = layout.sizes(tensors)
    config = layout.config(sizes)
    return config, weights.convert(tensors, layout.rules(sizes), layout.expected(config))


@pytest.fixture(scope="module")
def fixture(fixtures_dir):
    """(state dict, x, y) of the original generator in eval mode, NCHW in [0, 1]."""
    with np.load(fixtures_dir / "swift_srgan_g_x4.npz") as file:
        state = {k.removeprefix("sd:"): file[k] for k in file.files if k.startswith("sd:")}
        return state, file["x"], file["y"]


@pytest.mark.parametrize(("scale", "expected"), [(2, 183_865), (4, 201_209), (8, 218_553)])
def test_generator_counts(scale, expected):
    assert count(SwiftGenerator(scale)) == expected


def test_discriminator_count_at_any_size():
    assert count(SwiftDiscriminator(), 96) == count(SwiftDiscriminator(), 256) == 19_413_279


def test_paper_config_has_the_original_s_networks():
    config = configs.load(f"{REPOSITORY}/configs/swift_srgan.py:paper")
    assert count(make_generator(config)) == 201_209
    assert count(make_discriminator(config), 96) == 19_413_279


@pytest.mark.parametrize("scale", [2, 4, 8, 16])
def test_scale_is_the_scale(scale):
    """The original has scale // 2 doubling stages: its x8 gives pictures of sixteen times."""
    generator = SwiftGenerator(scale, features=4, blocks=1)
    output, _ = jax.eval_shape(
        generator.init_with_output, jax.random.key(0), jax.ShapeDtypeStruct((1, 5, 7, 3), "float32")
    )
    assert output.shape == (1, 5 * scale, 7 * scale, 3)


def test_fixture_parity(fixture):
    state, x, y = fixture
    config, variables = converted(GENERATOR, state)
    assert GENERATOR.sizes(state) == {"features": 16, "blocks": 2, "edge_kernel": 9, "scale": 4}
    ours = jax.jit(verbs(config)["upscale"].apply)(
        {"g": variables}, jnp.asarray(x.transpose(0, 2, 3, 1)) * 2 - 1, None
    )
    ours = (np.asarray(ours).transpose(0, 3, 1, 2) + 1) / 2
    np.testing.assert_allclose(ours, y, atol=1e-5 * np.abs(y).max(), rtol=0)


def test_fixture_round_trip_is_exact(fixture):
    state, _, _ = fixture
    config, variables = converted(GENERATOR, state)
    back = weights.to_torch(variables, GENERATOR.rules(GENERATOR.read(config)))
    counts = {key for key in state if key.endswith("num_batches_tracked")}
    assert back.keys() == state.keys() - counts
    for key, tensor in back.items():
        np.testing.assert_array_equal(tensor, state[key], err_msg=key)


def test_one_missing_key_is_named(fixture):
    state = dict(fixture[0])
    del state["residual.1.block2.cnn.pointwise.weight"]
    with pytest.raises(UserError, match=r"1 missing: residual\.1\.block2\.cnn\.pointwise\.weight"):
        converted(GENERATOR, state)


def test_a_file_of_the_original_s_x8_is_known_as_x16(fixture):
    state = dict(fixture[0])
    for key, tensor in fixture[0].items():
        if key.startswith("upsampler.0."):
            for stage in (2, 3):
                state[key.replace(".0.", f".{stage}.", 1)] = tensor
    config, variables = converted(GENERATOR, state)
    assert config.data.scale == 16
    picture = jax.ShapeDtypeStruct((1, 4, 4, 3), jnp.float32)
    upscaled = jax.eval_shape(verbs(config)["upscale"].apply, {"g": variables}, picture, None)
    assert upscaled.shape == (1, 64, 64, 3)


def test_small_form_is_not_written_as_the_original():
    config = configs.load(f"{REPOSITORY}/configs/swift_srgan.py")
    assert GENERATOR.read(config) is None


def test_small_form_starts_at_the_bicubic_picture():
    config = configs.load(f"{REPOSITORY}/configs/swift_srgan.py")
    generator = make_generator(config)
    x = jax.random.uniform(jax.random.key(1), (1, 12, 12, 3), minval=-1.0)
    y, _ = jax.jit(generator.init_with_output)(jax.random.key(0), x)
    np.testing.assert_allclose(y, jax.jit(partial(upsample_bicubic, r=4))(x), atol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"norm": False, "skip": True, "edge_kernel": 5}])
def test_radius_is_exact(settings):
    """A change in one input pixel moves the output up to the radius and no further."""
    generator = SwiftGenerator(4, features=4, blocks=2, **settings)
    radius = generator.radius()
    side = 2 * radius + 5
    middle = side // 2

    def positive(path, leaf):
        # Nothing cancels, so what can be reached is reached; zeros elsewhere stay zeros.
        return jnp.full(leaf.shape, 0.0 if path[-1].key in ("bias", "mean") else 0.3)

    variables = jax.tree_util.tree_map_with_path(positive, shapes(generator, side))
    output = jax.jit(generator.apply)
    black = jnp.full((1, side, side, 3), -1.0)
    change = output(variables, black.at[0, middle, middle].set(1.0)) - output(variables, black)
    rows = np.flatnonzero(np.abs(np.asarray(change[0])).max(axis=(1, 2)))
    reach = max(middle - rows.min() // 4, rows.max() // 4 - middle)
    assert reach == radius


def test_total_variation_is_a_part_of_the_generator_s_loss():
    config = configs.load(f"{REPOSITORY}/configs/swift_srgan.py:tiny")
    config.model.loss.update(pixel=0.0, perceptual=0.0, adversarial=0.0, total_variation=0.5)
    generator = make_generator(config)
    rng = np.random.default_rng(0)
    lr, hr = (jnp.asarray(rng.integers(0, 256, (1, n, n, 3), np.uint8)) for n in (8, 16))
    x = to_float(lr)
    variables = jax.jit(generator.init)(jax.random.key(0), x)
    state = {"batch_stats": variables["batch_stats"]}
    fake, _ = jax.jit(partial(generator.apply, train=True, mutable=["batch_stats"]))(variables, x)
    losses = SRLosses(generator, make_discriminator(config), config)
    value, _ = jax.jit(losses.generate)(
        {"g": variables["params"]}, {"g": state}, {}, {"lr": lr, "hr": hr}, jax.random.key(1), 4
    )
    fake = np.asarray(fake)
    expected = np.abs(np.diff(fake, axis=1)).mean() + np.abs(np.diff(fake, axis=2)).mean()
    np.testing.assert_allclose(value, 0.5 * expected, rtol=1e-5)


def test_unknown_scale_is_refused():
    config = configs.load(f"{REPOSITORY}/configs/swift_srgan.py", {"data.scale": 3})
    with pytest.raises(UserError, match="2, 4, 8 or 16"):
        make_generator(config)


# ---------------------------------------------------------------------- against PyTorch


@pytest.mark.parametrize("side", [4, 6, 9, 16])
def test_adaptive_pool_equals_torch(side):
    torch = pytorch()
    x = np.random.default_rng(0).normal(size=(2, side, side + 1, 3)).astype(np.float32)
    theirs = torch.nn.AdaptiveAvgPool2d(6)(torch.from_numpy(x.transpose(0, 3, 1, 2)))
    ours = jax.jit(partial(adaptive_average_pool, size=6))(x)
    np.testing.assert_allclose(ours, theirs.numpy().transpose(0, 2, 3, 1), atol=1e-6)


def torch_discriminator(torch, features):
    """The original's stack under its keys, without the sigmoid at the end."""

    class Block(torch.nn.Module):
        def __init__(self, channels, out, stride, norm):
            super().__init__()
            self.cnn = torch.nn.Sequential()
            self.cnn.depthwise = torch.nn.Conv2d(
                channels, channels, 3, stride, 1, groups=channels, bias=not norm
            )
            self.cnn.pointwise = torch.nn.Conv2d(channels, out, 1, bias=not norm)
            self.bn = torch.nn.BatchNorm2d(out) if norm else torch.nn.Identity()

        def forward(self, x):
            return torch.nn.functional.leaky_relu(self.bn(self.cnn(x)), 0.2)

    widths = [3, *(features * 2 ** (i // 2) for i in range(8))]
    net = torch.nn.Sequential()
    net.blocks = torch.nn.Sequential(
        *(Block(widths[i], widths[i + 1], 1 + i % 2, i > 0) for i in range(8))
    )
    net.classifier = torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(6),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * features * 36, 20),
        torch.nn.LeakyReLU(0.2),
        torch.nn.Linear(20, 1),
    )
    return net


def test_discriminator_equals_torch():
    torch = pytorch()
    torch.manual_seed(0)
    net = torch_discriminator(torch, 4).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    state = {k: v.numpy() for k, v in net.state_dict().items()}
    assert GENERATOR.sizes(state) is None
    assert DISCRIMINATOR.sizes(state) == {"features": 4, "hidden": 20, "pool": 6}
    config, variables = converted(DISCRIMINATOR, state)
    x = torch.rand(2, 3, 96, 112)
    with torch.no_grad():
        theirs = net(x).numpy()[:, 0]
    picture = jnp.asarray(x.numpy().transpose(0, 2, 3, 1)) * 2 - 1
    ours = jax.jit(make_discriminator(config).apply)(variables, picture)
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max(), rtol=0)
    # And back: PyTorch itself reads what we write.
    back = weights.to_torch(variables, DISCRIMINATOR.rules(DISCRIMINATOR.read(config)))
    net.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in back.items()})
    for key, tensor in back.items():
        np.testing.assert_array_equal(tensor, state[key], err_msg=key)
