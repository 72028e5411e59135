"""ESRGAN: published counts, parity with the originals, key layouts, interpolation, the recipes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REPOSITORY, tiny
from support.reach import lively, true_radius

from jaxgen import config as configs
from jaxgen import weights
from jaxgen.cli.interpolate import interpolate as interpolate_command
from jaxgen.data.resize import imresize
from jaxgen.errors import UserError
from jaxgen.losses import adversarial
from jaxgen.models.esrgan import task as esrgan
from jaxgen.models.esrgan.convert import LAYOUTS
from jaxgen.models.esrgan.discriminators import UNetDiscriminatorSN, VGGStyleDiscriminator
from jaxgen.models.esrgan.rrdbnet import RRDB, RRDBNet
from jaxgen.models.esrgan.srvgg import SRVGGNetCompact
from jaxgen.nn.conv import Conv
from jaxgen.runs import model as run
from jaxgen.runs.interpolation import interpolate
from jaxgen.tasks.sr.losses import PIXEL
from jaxgen.tasks.sr.task import upscale_verb

BASICSR, NEW, OLD, SRVGG, *_, VGG, UNET = LAYOUTS


def load(variant="", **changes):
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    return configs.load(f"{REPOSITORY}/configs/esrgan.py:{variant}", changes)


def count(module, size=32):
    picture = jax.ShapeDtypeStruct((1, size, size, 3), "float32")
    variables = jax.eval_shape(module.init, jax.random.key(0), picture)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


# -------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize(
    ("module", "size", "expected"),
    [
        (RRDBNet(), 32, 16_697_987),
        (RRDBNet(scale=2), 32, 16_703_171),
        (RRDBNet(scale=1), 32, 16_723_907),
        (RRDBNet(blocks=6), 32, 4_467_779),
        (RRDBNet(blocks=16), 32, 11_662_019),
        (SRVGGNetCompact(), 32, 621_424),
        (SRVGGNetCompact(convs=32), 32, 1_213_296),
        (VGGStyleDiscriminator(), 128, 14_499_401),
        (VGGStyleDiscriminator(size=256), 256, 21_055_049),
        (UNetDiscriminatorSN(), 64, 4_376_897),
    ],
)
def test_published_parameter_counts(module, size, expected):
    assert count(module, size) == expected


@pytest.mark.parametrize(
    ("variant", "generator", "discriminator"),
    [
        ("paper", 16_697_987, 14_499_401),
        ("realesrgan", 16_697_987, 4_376_897),
        ("x2", 16_703_171, 4_376_897),
        ("anime", 4_467_779, 4_376_897),
        ("compact", 1_213_296, 4_376_897),
    ],
)
def test_variants_have_the_published_networks(variant, generator, discriminator):
    config = load(variant)
    assert count(esrgan.make_generator(config)) == generator
    assert count(esrgan.make_discriminator(config), config.data.hr_size) == discriminator


def test_pixel_weights_are_the_published_ones_for_our_range():
    """An L1 distance in [-1, 1] is twice the one in [0, 1]."""
    x, y = np.random.default_rng(0).uniform(size=(2, 1, 8, 8, 3)).astype(np.float32)
    for variant, published in (("paper", 1e-2), ("realesrgan", 1.0)):
        ours = load(variant).model.loss.pixel * PIXEL["l1"](2 * x - 1, 2 * y - 1)
        np.testing.assert_allclose(ours, published * np.abs(x - y).mean(), rtol=1e-5)


@pytest.mark.parametrize(
    "module",
    [
        RRDBNet(features=4, growth=4, blocks=1),
        RRDBNet(scale=1, features=4, growth=4, blocks=1, skip=True),
        RRDBNet(scale=3, features=4, growth=4, blocks=1),
        RRDBNet(scale=8, features=4, growth=4, blocks=1, plus=True),
        RRDBNet(scale=2, features=4, growth=4, blocks=1, unshuffle=4),
        SRVGGNetCompact(scale=2, features=4, convs=3),
    ],
)
def test_radius_is_exact(module):
    verb = upscale_verb(module, module.scale, module.multiple())
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    assert true_radius(verb, {"g": lively(shapes)}) == verb.radius


def test_every_block_has_its_own_start_and_the_loop_is_the_blocks_in_turn():
    module = RRDBNet(features=8, growth=4, blocks=2)
    x = jax.random.uniform(jax.random.key(1), (1, 6, 5, 3), minval=-1.0)
    variables = jax.jit(module.init)(jax.random.key(0), x)
    body = variables["params"]["body"]
    assert sorted(body) == ["0", "1"]
    kernels = [np.asarray(body[i]["rdb1"]["conv1"]["kernel"]) for i in "01"]
    # He's start times 0.1: a tenth of sqrt(2 / (9 * 8)).
    assert 0.8 < np.std(kernels) / (0.1 * np.sqrt(2 / 72)) < 1.2
    assert not np.allclose(*kernels)

    # Written out, and as the loop that it is on accelerators.
    looped = module.clone(remat=True)

    @partial(jax.jit, static_argnums=0)
    def inside(module, variables, x):
        names = ("conv_first", "conv_body")
        _, seen = module.apply(variables, x, capture_intermediates=lambda m, _: m.name in names)
        first, last = (seen["intermediates"][name]["__call__"][0] for name in names)
        y = first
        for i in "01":
            y = RRDB(8, 4).apply({"params": variables["params"]["body"][i]}, y)
        return last, Conv(8, 3).apply({"params": variables["params"]["conv_body"]}, y)

    for form in (module, looped):
        np.testing.assert_allclose(*inside(form, variables, x), atol=1e-6)


@pytest.mark.parametrize("remat", [False, True])
def test_remat_computes_blocks_again_in_the_backward_pass(remat):
    module = RRDBNet(features=4, growth=4, blocks=1, remat=remat)
    x = jnp.zeros((1, 6, 6, 3))
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    assert sorted(variables["params"]["body"]["0"]) == ["rdb1", "rdb2", "rdb3"]
    gradient = jax.grad(lambda v: jnp.sum(jnp.square(module.apply(v, x))))
    assert ("remat" in str(jax.make_jaxpr(gradient)(variables))) == remat


def test_skip_starts_at_bicubic():
    module = RRDBNet(features=8, blocks=0, skip=True)
    x = np.random.default_rng(0).uniform(-1, 1, (1, 9, 8, 3)).astype(np.float32)
    y = module.apply(jax.jit(module.init)(jax.random.key(0), x), x)
    np.testing.assert_allclose(y[0], imresize(x[0], scale=4, mode="float"), atol=1e-5)


@pytest.mark.parametrize("size", [16, 32, 64])
def test_vgg_discriminator_of_smaller_pictures(size):
    module = VGGStyleDiscriminator(size=size, features=4, hidden=8)
    x = jnp.zeros((2, size, size, 3))
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    assert f"conv{int(np.log2(size)) - 3}_1" in variables["params"]
    assert variables["params"]["linear1"]["kernel"].shape[0] == 16 * 4 * min(
        8, 2 ** (int(np.log2(size)) - 3)
    )
    logits = jax.eval_shape(module.apply, variables, x)
    assert logits.shape == (2,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__scale": 5, "data__hr_size": 160}, "RRDBNet upscales by 1, 2, 3, 4, 8 or 16"),
        ({"data__hr_size": 96}, "needs a power of two"),
        ({"model__discriminator__form": "patch"}, "unknown discriminator form"),
        ({"model__generator__form": "edsr"}, "unknown generator form"),
        ({"model__generator__form": "srvgg"}, "config\\.model\\.generator"),
    ],
)
def test_impossible_settings_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        esrgan.make_task(load(**changes))


def test_crops_must_fit_the_pixel_unshuffle():
    config = load("tiny", data__scale=1)
    assert esrgan.verbs(config)["upscale"].multiple == 4
    config.data.hr_size = 34
    with pytest.raises(UserError, match=r"data\.hr_size=34 must be a multiple of 4"):
        esrgan.make_task(config)


# ----------------------------------------------------------------------- parity and key layouts


def converted(layout, tensors):
    """(config, variables) of a file's tensors, as `jaxgen convert` makes them."""
    sizes = layout.sizes(tensors)
    config = layout.config(sizes)
    return config, weights.convert(tensors, layout.rules(sizes), layout.expected(config))


def fixture(folder, name):
    """(state dict, x, y) of an original in eval mode, NCHW, pictures in [0, 1]."""
    with np.load(folder / f"basicsr_{name}.npz") as file:
        state = {k.removeprefix("sd:"): file[k] for k in file.files if k.startswith("sd:")}
        return state, file["x"], file["y"]


def renamed(state, layout, source=BASICSR):
    """A state dict moved to another layout of the same network."""
    _, variables = converted(source, state)
    return weights.to_torch(variables, layout.rules(source.sizes(state)))


@pytest.mark.parametrize(
    ("name", "layout", "sizes"),
    [
        ("rrdbnet_x4", BASICSR, {"scale": 4, "features": 16, "blocks": 2, "growth": 8}),
        ("rrdbnet_x2", BASICSR, {"scale": 2, "features": 16, "blocks": 2, "growth": 8}),
        ("srvgg_x4", SRVGG, {"scale": 4, "features": 16, "convs": 4}),
        ("vgg_disc_128", VGG, {"size": 128, "features": 8, "hidden": 100}),
        ("unet_disc_sn", UNET, {"features": 16}),
    ],
)
def test_parity_with_the_original_and_exact_way_back(name, layout, sizes, fixtures_dir):
    state, x, y = fixture(fixtures_dir, name)
    assert layout.sizes(state) == sizes
    config, variables = converted(layout, state)
    ours = jnp.asarray(x.transpose(0, 2, 3, 1)) * 2 - 1
    if layout.net == "g":
        ours = (
            jax.jit(esrgan.verbs(config)["upscale"].apply)({"g": variables}, ours, None) + 1
        ) / 2
        expected = y.transpose(0, 2, 3, 1)
    else:
        ours = jax.jit(esrgan.make_discriminator(config).apply)(variables, ours)
        expected = y.reshape(ours.shape)
    np.testing.assert_allclose(ours, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)
    assert layout.read(config) == sizes
    back = weights.to_torch(variables, layout.rules(layout.read(config)))
    assert back.keys() == {k for k in state if not k.endswith("num_batches_tracked")}
    for key, tensor in back.items():
        np.testing.assert_array_equal(tensor, state[key], err_msg=key)


def test_the_three_layouts_hold_the_same_network(fixtures_dir):
    state, _, _ = fixture(fixtures_dir, "rrdbnet_x2")
    _, expected = converted(BASICSR, state)
    for layout, key in (
        (NEW, "RRDB_trunk.1.RDB3.conv5.weight"),
        (OLD, "model.1.sub.1.RDB3.conv5.0.weight"),
    ):
        other = renamed(state, layout)
        assert len(other) == len(state)
        np.testing.assert_array_equal(other[key], state["body.1.rdb3.conv5.weight"])
        assert layout.sizes(other) == BASICSR.sizes(state)
        assert [one.name for one in LAYOUTS if one.sizes(other)] == [layout.name]
        _, variables = converted(layout, other)
        jax.tree.map(np.testing.assert_array_equal, variables, expected)
    old = renamed(state, OLD)
    for ours, theirs in (
        ("conv_first", "model.0"),
        ("conv_body", "model.1.sub.2"),
        ("conv_up1", "model.3"),
        ("conv_up2", "model.6"),
        ("conv_hr", "model.8"),
        ("conv_last", "model.10"),
    ):
        np.testing.assert_array_equal(old[f"{theirs}.bias"], state[f"{ours}.bias"])


def test_each_file_is_of_one_layout_and_a_missing_key_is_named(fixtures_dir):
    names = ("rrdbnet_x4", "srvgg_x4", "vgg_disc_128", "unet_disc_sn")
    for name, layout in zip(names, (BASICSR, SRVGG, VGG, UNET), strict=True):
        state, _, _ = fixture(fixtures_dir, name)
        assert [one.name for one in LAYOUTS if one.sizes(state)] == [layout.name]
    state, _, _ = fixture(fixtures_dir, "rrdbnet_x4")
    del state["body.1.rdb2.conv3.weight"]
    with pytest.raises(UserError, match=r"1 missing: body\.1\.rdb2\.conv3\.weight"):
        converted(BASICSR, state)


def test_full_size_layouts_have_the_published_number_of_tensors():
    for layout, variant in ((BASICSR, "paper"), (OLD, "paper"), (NEW, "x2")):
        config = load(variant)
        expected = weights.flatten(layout.expected(config))
        rules = layout.rules(layout.read(config))
        tree = {path: np.zeros(leaf.shape, np.int8) for path, leaf in expected.items()}
        tensors = weights.to_torch(tree, rules)
        assert len(tensors) == 702
        assert layout.sizes(tensors) == layout.read(config)


def test_our_small_form_is_written_in_no_layout():
    config = load()
    assert [one.name for one in LAYOUTS if one.net == "g" and one.read(config)] == []
    assert [one.name for one in LAYOUTS if one.net == "d" and one.read(config)] == [VGG.name]


# ------------------------------------------------------------------------------------ the losses


def test_relativistic_loss_of_the_task_is_the_paper_s():
    """Equations 1 and 2 with all means over the whole batch, halved as in the code."""
    config = load("tiny", model__pretrain_steps=0)
    assert config.model.loss.adversarial_kind == "relativistic"
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(2, 4, 8, 8)).astype(np.float32)

    def bce(logits, target):
        p = 1 / (1 + np.exp(-logits.astype(np.float64)))
        return -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()

    d = 0.5 * (bce(real - fake.mean(), 1) + bce(fake - real.mean(), 0))
    g = 0.5 * (bce(real - fake.mean(), 0) + bce(fake - real.mean(), 1))
    kind = config.model.loss.adversarial_kind
    np.testing.assert_allclose(adversarial.discriminator_loss(real, fake, kind), d, rtol=1e-5)
    np.testing.assert_allclose(adversarial.generator_loss(fake, kind, real), g, rtol=1e-5)


def test_unet_discriminator_on_eight_devices_equals_one():
    """Its logit maps' relativistic means and its singular vectors are of the global batch."""
    module = UNetDiscriminatorSN(features=2)
    pictures = np.random.default_rng(0).uniform(-1, 1, (8, 16, 16, 3)).astype(np.float32)
    # Each picture has its own brightness, and so its own mean logit.
    pictures = pictures * 0.3 + np.linspace(-0.7, 0.7, 8, dtype=np.float32).reshape(8, 1, 1, 1)
    shapes = jax.eval_shape(module.init, jax.random.key(0), pictures)
    variables = lively(shapes)
    relativistic = partial(adversarial.discriminator_loss, kind="relativistic")

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def step(params, state, x):
        logits, state = module.apply({"params": params, **state}, x, train=True, mutable=True)
        real, fake = 3 * logits, logits[::-1]
        return relativistic(real, fake), (real, fake, state["spectral"])

    mesh = jax.sharding.Mesh(jax.devices(), ("data",))
    cut = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    state = {"spectral": variables["spectral"]}
    one, eight = (
        step(variables["params"], state, x) for x in (pictures, jax.device_put(pictures, cut))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), one, eight)
    # Means of each device's own would be seen.
    value, (real, fake, _) = one[0]
    each = [relativistic(real[i : i + 1], fake[i : i + 1]) for i in range(8)]
    np.testing.assert_allclose(eight[0][0], value, rtol=1e-5)
    assert abs(np.mean(each) - value) > 1e-3 * value


# --------------------------------------------------------------------------------- interpolation


@pytest.fixture(scope="module")
def two_models(tmp_path_factory):
    """Folders of a PSNR model and a GAN of one network."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name, pretrain in ((0, "psnr", -1), (1, "gan", 0)):
        config = load("tiny", model__pretrain_steps=pretrain)
        module = esrgan.make_generator(config)
        shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
        net = jax.tree.map(np.asarray, lively(shapes, seed))
        run.Model(name, config, {"g": net}, step=5 + seed).export(folder / name)
    return folder / "psnr", folder / "gan"


def test_interpolation_lies_between_and_ends_at_the_two(two_models):
    a, b = map(run.load, two_models)
    for alpha, wanted in ((0.0, a), (1.0, b)):
        ends = interpolate(a, b, alpha)
        jax.tree.map(np.testing.assert_array_equal, ends.nets, dict(wanted.nets))
    middle = interpolate(a, b, 0.25)
    jax.tree.map(
        lambda x, y, z: np.testing.assert_allclose(z, 0.75 * x + 0.25 * y, rtol=1e-6, atol=1e-7),
        dict(a.nets), dict(b.nets), middle.nets,
    )  # fmt: skip
    assert jax.tree.leaves(middle.nets)[0].dtype == np.float32
    assert "interpolation" not in b.config


def test_interpolate_command_writes_a_model(two_models, tmp_path, capsys):
    psnr, gan = two_models
    interpolate_command(str(psnr), str(gan), tmp_path / "mix", alpha=0.8)
    assert "0.8" in capsys.readouterr().out
    mixed = run.load(tmp_path / "mix")
    assert mixed.config.interpolation.to_dict() == {"a": "psnr", "b": "gan", "alpha": 0.8}
    assert mixed.step == 6
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    np.testing.assert_array_equal(
        mixed.upscale(image), interpolate(run.load(psnr), run.load(gan), 0.8).upscale(image)
    )


def test_interpolation_of_different_networks_says_what_differs(two_models):
    a, b = map(run.load, two_models)
    config = load("tiny", model__generator__skip=False)
    other = run.Model("other", config, dict(a.nets), step=1)
    with pytest.raises(UserError, match=r"psnr and other are .*generator\.skip: True -> False"):
        interpolate(a, other, 0.5)
    srgan = tiny()
    with pytest.raises(UserError, match="family: 'esrgan' -> 'srgan'"):
        interpolate(a, run.Model("srgan", srgan, dict(a.nets), step=1), 0.5)
    with pytest.raises(UserError, match="alpha must lie between 0 and 1"):
        interpolate(a, b, 1.5)
