"""DF-GAN: published counts, parity with the originals and their penalty, files, mistakes."""

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
from jaxgen.losses.gradient_penalty import input_gradient_norms, matching_aware_penalty
from jaxgen.models.dfgan import task as dfgan
from jaxgen.models.dfgan.convert import LAYOUTS
from jaxgen.models.dfgan.discriminator import Discriminator, Features, Joined
from jaxgen.models.dfgan.generator import Block, Generator
from jaxgen.nn.conv import conv2d
from jaxgen.nn.text import Text
from jaxgen.nn.unet_discriminator import UNetDiscriminator
from jaxgen.runs import convert

G, D, G_2020, D_2020 = LAYOUTS


def load(variant="", **changes):
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    return configs.load(f"{REPOSITORY}/configs/dfgan.py:{variant}", changes)


def text_of(sentence):
    return Text(
        words=sentence[:, None], mask=jnp.ones((len(sentence), 1), bool), sentence=sentence
    )  # fmt: skip


def size_of(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def count(generator):
    noise = jnp.zeros((1, *generator.noise))
    return size_of(
        jax.eval_shape(generator.init, jax.random.key(0), noise, text_of(jnp.zeros((1, 256))))
    )


# ----------------------------------------------------------------------------------------- counts


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 9_744_131),
        ({"features": 64}, 31_819_267),
        ({"size": 128}, 7_306_499),
        ({"size": 64}, 4_868_867),
        ({"version": "2020"}, 12_240_010),
        ({"version": "2020", "features": 64}, 31_480_074),
        ({"block": "rdb"}, 10_003_883),
        ({"block": "rdb", "features": 64}, 32_856_787),
    ],
)
def test_published_counts_of_generators(settings, expected):
    assert count(Generator(**settings)) == expected


@pytest.mark.parametrize(
    ("layout", "features", "size", "published", "ours", "judge"),
    [
        (D, 32, 256, 6_619_206, 6_421_830, 295_936),
        (D, 64, 256, 26_472_582, 25_684_614, 886_784),
        (D, 32, 128, 4_915_013, 4_783_429, 295_936),
        (D, 32, 64, 3_210_820, 3_145_028, 295_936),
        (D_2020, 32, 256, 20_170_566, 19_645_254, 443_392),
        (D_2020, 64, 256, 80_379_526, 78_280_326, 1_476_608),
    ],
)
def test_published_counts_of_discriminators(layout, features, size, published, ours, judge):
    """Ours lacks the shortcuts that are never used; the layout's files have them."""
    sizes = {"size": size, "features": features, "text_width": 256}
    tree = layout.expected(layout.config(sizes))["params"]
    assert size_of(tree["judge"]) == judge
    # The first version has both in one network.
    ours_alone = size_of(tree) if layout is D_2020 else size_of(tree["features"])
    assert ours_alone == ours
    dead = sum(int(np.prod(rule.zeros)) for rule in layout.rules(sizes) if rule.zeros)
    assert ours_alone + dead == published


def test_the_paper_s_config_has_the_published_networks():
    for variant, expected in (("paper", 9_744_131), ("coco", 9_744_131)):
        config = load(variant)
        assert count(dfgan.make_generator(config)) == expected
        assert D.read(config) == {"size": 256, "features": 32, "text_width": 256}
        assert G.read(config) is not None
    # Dense blocks are compared at about equal size.
    base, dense = (count(dfgan.make_generator(load(name))) for name in ("", "rdb"))
    assert 1.0 < dense / base < 1.05
    assert isinstance(dfgan.make_discriminator(load("unet")), UNetDiscriminator)


# ---------------------------------------------------------------------------- what the parts do


def test_at_first_the_text_and_dense_blocks_do_nothing():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, 4, 4, 8)), jnp.float32)
    s, other = (jnp.asarray(rng.standard_normal((2, 6)), jnp.float32) for _ in range(2))
    module = Block(4, block="rdb")
    params = jax.jit(module.init)(jax.random.key(0), x, s)["params"]
    run = jax.jit(lambda params, s: module.apply({"params": params}, x, s))
    y = run(params, s)
    assert y.shape == (2, 8, 8, 4)
    np.testing.assert_array_equal(y, run(params, other))
    # Growth is a quarter of the channels; whatever the layers do, nothing comes of it.
    assert params["dense"]["layer_0"]["kernel"].shape == (3, 3, 4, 1)
    params["dense"]["layer_0"]["kernel"] = 100 * jnp.ones((3, 3, 4, 1))
    np.testing.assert_array_equal(y, run(params, s))
    # PyTorch's start: uniform within 1 / sqrt(fan in), biases too.
    limit = 1 / np.sqrt(9 * 8)
    kernel, bias = params["conv_0"]["kernel"], params["conv_0"]["bias"]
    assert 0.95 * limit < np.abs(kernel).max() <= limit
    assert abs(np.mean(kernel)) < 0.15 * limit
    assert 0.3 * limit < np.abs(bias).max() <= limit


def test_with_sentence_first_the_first_layer_sees_both():
    z, text = jnp.zeros((1, 5)), text_of(jnp.zeros((1, 6)))
    for first, expected in ((False, 5), (True, 11)):
        module = Generator(size=8, features=2, z_size=5, sentence_first=first)
        params = jax.eval_shape(module.init, jax.random.key(0), z, text)["params"]
        assert params["dense_in"]["kernel"].shape == (expected, 16 * 4)


def test_the_judge_s_convolution_is_that_of_the_concatenation():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, 4, 4, 3)), jnp.float32)
    sentences = tuple(jnp.asarray(rng.standard_normal((2, 5)), jnp.float32) for _ in range(2))
    module = Joined(6)
    variables = jax.jit(module.init)(jax.random.key(0), x, sentences)
    for ours, sentence in zip(module.apply(variables, x, sentences), sentences, strict=True):
        tiled = jnp.broadcast_to(sentence[:, None, None], (2, 4, 4, 5))
        whole = conv2d(jnp.concatenate([x, tiled], axis=-1), variables["params"]["kernel"])
        np.testing.assert_allclose(ours, whole, atol=1e-6)


# ----------------------------------------------------------------------------------------- parity


def fixture(folder, name):
    """({network: its state dict}, the other arrays)."""
    with np.load(folder / f"{name}.npz") as file:
        arrays = dict(file)
    states = {net: {} for net in ("netG", "netD", "netC")}
    for key in [key for key in arrays if ":" in key]:
        net, name = key.split(":")
        states[net][name] = arrays.pop(key)
    return states, arrays


def converted(layout, tensors):
    sizes = layout.sizes(tensors)
    config = layout.config(sizes)
    assert layout.read(config) == sizes
    variables = weights.convert(tensors, layout.rules(sizes), layout.expected(config))
    back = weights.to_torch(variables, layout.rules(sizes))
    assert back.keys() == tensors.keys()
    for key, tensor in back.items():
        # What nothing uses is not kept.
        equal = np.zeros_like(tensor) if _dead(key, tensors) else tensors[key]
        np.testing.assert_array_equal(tensor, equal, err_msg=key)
    return config, variables


def _dead(key, tensors):
    weight = tensors[key.replace(".bias", ".weight")]
    return ".conv_s." in key and weight.shape[0] == weight.shape[1]


def assert_close(ours, theirs, relative=1e-5):
    """Relative to the largest value, as every parity test here."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=relative * np.abs(theirs).max())


def before_tanh(module, variables, z, sentence):
    """(picture, what the last convolution gave)."""
    drawn, seen = module.apply(
        variables, z, text_of(sentence), capture_intermediates=lambda m, _: m.name == "conv_out"
    )
    return drawn.image, seen["intermediates"]["conv_out"]["__call__"][0]


@pytest.mark.parametrize("version", ["new", "2020"])
def test_generators_equal_the_originals(version, fixtures_dir):
    """The fixtures' random weights give values up to 300 (2020: 3e19) before tanh, where float32's
    rounding moves a picture by 1e-4: what is compared is the value before tanh, to 1e-5 of the
    largest, wherever tanh leaves it to be seen, and the sign where it does not."""
    states, arrays = fixture(fixtures_dir, f"dfgan_{version}")
    config, variables = converted(G if version == "new" else G_2020, states["netG"])
    module = dfgan.make_generator(config)
    picture, before = jax.jit(partial(before_tanh, module))(variables, arrays["z"], arrays["sent"])
    y = arrays["y"].transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(np.sign(picture), np.sign(y))
    seen = np.abs(y) < 0.99
    assert (seen.sum() > 500) == (version == "new")
    error = np.abs(np.where(seen, np.arctanh(np.where(seen, y, 0.0)) - before, 0.0))
    assert error.max() <= 1e-5 * np.abs(before).max()


@pytest.mark.parametrize("layout", [G, G_2020])
def test_generators_equal_pytorch_s_operations(layout):
    """With weights of usual size, against the networks written out in PyTorch's functions."""
    torch = pytorch()
    sizes = {"size": 16, "features": 2, "z_size": 3, "text_width": 5}
    config = layout.config(sizes)
    rng = np.random.default_rng(0)

    def tame(a):
        return (rng.standard_normal(a.shape) / np.sqrt(max(1, a.size // a.shape[-1]))).astype("f4")

    variables = jax.tree.map(tame, layout.expected(config))
    state = weights.to_torch(variables, layout.rules(sizes))
    state = {key: torch.tensor(value) for key, value in state.items()}
    z, s = (rng.standard_normal((3, n)).astype("f4") for n in (3, 5))
    theirs = original(torch, state, torch.tensor(z), torch.tensor(s), layout is G_2020)
    ours = jax.jit(dfgan.make_generator(config).apply)(variables, z, text_of(jnp.asarray(s))).image
    assert 0.05 < np.std(ours) < 0.9
    assert_close(ours, theirs.numpy().transpose(0, 2, 3, 1))


def original(torch, state, z, s, old):
    """The published forward pass: everything in its published order, nothing at a smaller size."""
    f = torch.nn.functional

    def conv(x, key):
        kernel = state[f"{key}.weight"]
        return f.conv2d(x, kernel, state[f"{key}.bias"], padding=kernel.shape[2] // 2)

    def mlp(c, key):
        hidden = f.relu(f.linear(c, state[f"{key}.linear1.weight"], state[f"{key}.linear1.bias"]))
        return f.linear(hidden, state[f"{key}.linear2.weight"], state[f"{key}.linear2.bias"])

    def fuse(x, c, keys):
        for key in keys:
            gamma, beta = (
                mlp(c, f"{key}.fc_{kind}")[:, :, None, None] for kind in ("gamma", "beta")
            )
            x = f.leaky_relu(gamma * x + beta, 0.2)
        return x

    c = s if old else torch.cat([z, s], dim=1)
    x = f.linear(z, state["fc.weight"], state["fc.bias"]).reshape(len(z), -1, 4, 4)
    for i in range(3 if old else 2):
        name = f"block{i}" if old else f"GBlocks.{i}"
        if old:
            keys = [[f"{name}.affine{2 * n + k}" for k in (0, 1)] for n in (0, 1)]
        else:
            keys = [[f"{name}.fuse{n + 1}.affine{k}" for k in (0, 1)] for n in (0, 1)]
        if i or not old:
            x = f.interpolate(x, scale_factor=2)
        y = conv(fuse(x, c, keys[0]), f"{name}.c1")
        y = conv(fuse(y, c, keys[1]), f"{name}.c2")
        x = conv(x, f"{name}.c_sc") if f"{name}.c_sc.weight" in state else x
        x = x + (state[f"{name}.gamma"] * y if old else y)
    return torch.tanh(conv(f.leaky_relu(x, 0.2), "conv_img.1" if old else "to_rgb.1"))


@pytest.mark.parametrize("version", ["new", "2020"])
def test_discriminators_equal_the_originals(version, fixtures_dir):
    states, arrays = fixture(fixtures_dir, f"dfgan_{version}")
    old = version == "2020"
    tensors = states["netD"] if old else side_by_side(states, ("netD", "netC"))
    config, variables = converted(D_2020 if old else D, tensors)
    module = dfgan.make_discriminator(config)
    x = arrays["y" if old else "img"].transpose(0, 2, 3, 1)

    @jax.jit
    def run(variables, x, sentence):
        features = Features(module.features, module.version)
        parts = {"params": variables["params"]["features"]}
        judged = module.apply(variables, x, (sentence, sentence[::-1]))
        return features.apply(parts, x), [one.pair for one in judged]

    features, (right, wrong) = run(variables, x, arrays["sent"])
    assert_close(features.transpose(0, 3, 1, 2), arrays["feat"])
    assert_close(right, arrays["logit"].ravel())
    assert np.abs(right - wrong).max() > 1e-3


def side_by_side(states, nets):
    return {f"{net}.{key}": value for net in nets for key, value in states[net].items()}


def test_the_penalty_and_its_gradient_equal_the_original_s(fixtures_dir):
    states, arrays = fixture(fixtures_dir, "dfgan_new")
    tensors = side_by_side(states, ("netD", "netC"))
    config, variables = converted(D, tensors)
    module = dfgan.make_discriminator(config)

    @jax.jit
    @jax.value_and_grad
    def penalty(variables, x, sentence):
        logits = lambda x, s: module.apply(variables, x, (s,))[0].pair  # noqa: E731
        return 2.0 * matching_aware_penalty(input_gradient_norms(logits, x, sentence))

    value, gradient = penalty(variables, arrays["img"].transpose(0, 2, 3, 1), arrays["sent"])
    np.testing.assert_allclose(value, arrays["magp"], rtol=1e-5)
    found = weights.to_torch(gradient, D.rules(D.sizes(tensors)))
    norms = [np.linalg.norm(found[key].ravel()) for key in tensors]
    np.testing.assert_allclose(norms, arrays["magp_grad_norms"], rtol=1e-5, atol=0)
    assert np.count_nonzero(norms) >= 16


# ----------------------------------------------------------------------------------------- files


def test_a_checkpoint_of_all_nets(jaxgen_command, tmp_path):
    """`state_epoch_*.pth`: nets below "model", optimizers beside it, prefixes of DataParallel."""
    torch = pytorch()
    states = {}
    for layout, width in ((G, {"z_size": 3}), (D, {})):
        sizes = {"size": 16, "features": 2, "text_width": 5, **width}
        shapes = layout.expected(layout.config(sizes))
        tree = jax.tree.map(lambda a: np.full(a.shape, 0.5, "f4"), shapes)
        for key, value in weights.to_torch(tree, layout.rules(sizes)).items():
            net, name = key.split(".", 1) if layout is D else ("netG", key)
            states.setdefault(net, {})[f"module.{name}"] = torch.tensor(value)
    assert sorted(states) == ["netC", "netD", "netG"]
    torch.save({"model": states, "optimizers": {"optimizer_G": {}}, "epoch": 7}, "e.pth")

    code, _, err = jaxgen_command("convert", "e.pth", "--to", "g")
    assert code == 2
    assert "fit DF-GAN generator and DF-GAN discriminator alike; say which it is with" in err
    for net, layout, count in (("g", G, 80), ("d", D, 14)):
        code, out, _ = jaxgen_command("convert", "e.pth", "--to", net, "--layout", layout.name)
        assert code == 0
        assert out.rstrip().endswith(f"parameters; for train.init_from.{net}")
        assert f"`train.init_from.{net}`" in (tmp_path / net / "README.md").read_text()
        assert jaxgen_command("convert", net, "--to-torch", f"{net}.pth")[0] == 0
        back = torch.load(f"{net}.pth", weights_only=True)
        assert len(back) == count
        found = convert.convert(f"{net}.pth")
        assert found.layout is layout
    # What PyTorch's own modules take.
    assert {f"module.{key}" for key in torch.load("g.pth", weights_only=True)} == set(
        states["netG"]
    )


def test_networks_that_were_never_published_have_no_layout():
    for name in ("", "rdb"):
        assert [one for one in LAYOUTS if one.net == "g" and one.read(load(name))] == []
    assert D.read(load("unet")) is None
    assert D.read(load()) == {"size": 32, "features": 12, "text_width": 64}
    config = load("2020", model__generator__features=8)
    assert G_2020.read(config)["features"] == 8
    assert [one.read(config) is None for one in LAYOUTS] == [True, True, False, False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__size": 48}, "data.size=48: DF-GAN draws 8, 16, 32"),
        ({"model__version": "2021"}, "unknown model.version '2021'; there are 2022, 2020"),
        ({"model__generator__block": "dense"}, "unknown model.generator.block 'dense'"),
        ({"model__discriminator__form": "patch"}, "unknown model.discriminator.form 'patch'"),
    ],
)
def test_impossible_settings_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        dfgan.make_task(load("tiny", **changes))


def test_logits_are_float32_in_bfloat16():
    module = Discriminator(features=2, dtype=jnp.bfloat16)
    picture, sentence = jnp.zeros((2, 16, 16, 3)), jnp.zeros((2, 5))
    variables = jax.eval_shape(module.init, jax.random.key(0), picture, (sentence,))
    (judged,) = jax.eval_shape(module.apply, variables, picture, (sentence,))
    assert judged.pair.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
