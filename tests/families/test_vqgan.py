"""VQGAN: published counts, parity with taming-transformers, its checkpoints both ways."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REPOSITORY

from jaxgen import config as configs
from jaxgen import user_file, weights
from jaxgen.errors import UserError
from jaxgen.models.vqgan import make_task, verbs
from jaxgen.models.vqgan.convert import LAYOUTS
from jaxgen.models.vqgan.networks import Autoencoder
from jaxgen.models.vqgan.task import make_autoencoder
from jaxgen.nn.patchgan import NLayerDiscriminator
from jaxgen.runs import convert
from jaxgen.tasks.autoencoder.losses import adaptive_weight
from jaxgen.tasks.autoencoder.task import make_discriminator
from jaxgen.train import family
from jaxgen.weights.keymap import flatten

CONFIG = f"{REPOSITORY}/configs/vqgan.py"
BY_NAME = {layout.name: layout for layout in LAYOUTS}
G, D = BY_NAME["taming VQGAN"], BY_NAME["taming VQGAN discriminator"]


def assert_near(ours, theirs):
    """To 1e-5 of the array's scale; theirs is NCHW where it has four axes."""
    theirs = np.asarray(theirs)
    theirs = theirs.transpose(0, 2, 3, 1) if theirs.ndim == 4 else theirs
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(np.asarray(ours) / scale, theirs / scale, atol=1e-5)


def shapes(module, *arrays):
    rngs = {"params": jax.random.key(0), "quantize": jax.random.key(0)}
    return jax.eval_shape(module.init, rngs, *arrays)


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("variant", "encoder", "decoder"),
    [("f16", 29_298_176, 42_449_795), ("f8", 26_345_728, 38_316_163)],
)
def test_published_counts(variant, encoder, decoder):
    config = configs.load(f"{CONFIG}:{variant}")
    picture = jax.ShapeDtypeStruct((1, 64, 64, 3), "float32")
    params = shapes(make_autoencoder(config), picture)["params"]
    assert size(params["encoder"]) == encoder
    assert size(params["decoder"]) == decoder
    assert size(params["quant_conv"]) == size(params["post_quant_conv"]) == 65_792


def test_discriminator_count_and_map():
    picture = jax.ShapeDtypeStruct((1, 256, 256, 3), "float32")
    variables = shapes(NLayerDiscriminator(), picture)
    assert size(variables["params"]) == 2_765_633
    out = jax.eval_shape(NLayerDiscriminator().apply, variables, picture)
    assert (out.shape, out.dtype) == ((1, 30, 30), jnp.float32)


# ------------------------------------------------------------------------------- taming's outputs


@pytest.fixture(scope="module")
def golden(fixtures_dir):
    return np.load(fixtures_dir / "taming_vqgan_tiny.npz")


@pytest.fixture(scope="module")
def published(golden):
    """Its state dict: autoencoder and discriminator."""
    return {key[3:]: golden[key] for key in golden.files if key.startswith("sd:")}


def converted(layout, tensors):
    """(config, variables) of one net of a state dict."""
    sizes = layout.sizes(tensors)
    config = layout.config(sizes)
    return config, weights.convert(tensors, layout.rules(sizes), layout.expected(config))


@pytest.fixture(scope="module")
def made(golden, published):
    """(the module's output, its variables, the pictures)."""
    config, variables = converted(G, published)
    x = golden["x"].transpose(0, 2, 3, 1)
    return jax.jit(make_autoencoder(config).apply)(variables, x), variables, x


def test_autoencoder_equals_taming(golden, published, made):
    config, variables = converted(G, published)
    net, (found, _, x) = make_autoencoder(config), made
    assert_near(net.apply(variables, x, method=Autoencoder.embed), golden["h"])
    codes = net.apply(variables, x, method=Autoencoder.encode)
    np.testing.assert_array_equal(np.asarray(codes).ravel(), golden["idx"])
    assert_near(found.picture, golden["rec"])
    np.testing.assert_allclose(found.loss, golden["loss_fixed"], rtol=1e-5)
    verb = verbs(config)["encode"]
    again = verb.encode({"g": variables}, x)
    np.testing.assert_array_equal(again, codes)
    assert_near(verb.decode({"g": variables}, again), golden["rec"])


def test_discriminator_equals_taming(golden, published):
    config, variables = converted(D, published)
    net, x = make_discriminator(config), golden["x"].transpose(0, 2, 3, 1)
    # The saved statistics are those after the training pass.
    assert_near(net.apply(variables, x), golden["disc_eval_after_train"][:, 0])
    trained, _ = net.apply(variables, x, train=True, mutable=["batch_stats"])
    assert_near(trained, golden["disc_train"][:, 0])


def test_adaptive_weight_equals_taming(fixtures_dir, published, made):
    wanted = np.load(fixtures_dir / "taming_adaptive_weight.npz")
    config, d = converted(D, published)
    found, g, x = made
    net = make_discriminator(config)
    near, to_near = jax.value_and_grad(lambda y: jnp.abs(y - x).mean())(found.picture)
    fool, to_fool = jax.value_and_grad(lambda y: -net.apply(d, y).mean())(found.picture)
    np.testing.assert_allclose(near, wanted["nll"], rtol=1e-5)
    np.testing.assert_allclose(fool, wanted["g"], rtol=1e-5)
    kernel = g["params"]["decoder"]["conv_out"]["kernel"]
    weigh = jax.jit(adaptive_weight)
    weight = weigh(found.hidden, kernel, to_near, to_fool, 1e4)
    np.testing.assert_allclose(weight, wanted["d_weight"], rtol=1e-5)
    assert weigh(found.hidden, kernel, to_near, to_fool, 3.0) == 3.0


# -------------------------------------------------------------------------------------- converting


@pytest.mark.parametrize("layout", [G, D], ids=lambda one: one.net)
def test_there_and_back(published, layout):
    config, variables = converted(layout, published)
    sizes = layout.sizes(published)
    assert layout.read(config) == sizes
    back = weights.to_torch(variables, layout.rules(sizes))
    own = {k: v for k, v in published.items() if (k.startswith("loss.")) == (layout is D)}
    own = {k: v for k, v in own.items() if not k.endswith("num_batches_tracked")}
    assert back.keys() == own.keys()
    for key, value in own.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key)


@pytest.mark.parametrize("name", ["f16", "f8"])
def test_full_size_key_lists(fixtures_dir, name):
    """Random values under every published key: none is missing, none is left over."""
    rng, tensors = np.random.default_rng(0), {}
    for line in (fixtures_dir / f"keys_{name}.txt").read_text().splitlines():
        key, shape, _ = line.split("\t")
        lengths = [int(n) for n in re.findall(r"\d+", shape)]
        tensors[key] = rng.random(lengths, np.float32)
    _, variables = converted(G, tensors)
    same = configs.load(f"{CONFIG}:{name}")
    picture = jax.ShapeDtypeStruct((1, 32, 32, 3), "float32")
    ours = shapes(make_autoencoder(same), picture)
    kinds = {path: leaf.shape for path, leaf in flatten(variables).items()}
    assert kinds == {path: leaf.shape for path, leaf in flatten(ours).items()}
    if name == "f16":
        assert len(tensors) == 365
        _, d = converted(D, tensors)
        assert size(d["params"]) == 2_765_633
    with pytest.raises(UserError, match="alike; say which it is with --layout"):
        convert.recognise(tensors)
    assert convert.recognise(tensors, "taming VQGAN")[1] is G
    tensors = {k: v for k, v in tensors.items() if not k.startswith("loss.")}
    assert convert.recognise(tensors)[1] is G


# ------------------------------------------------------------------------------------------ config


VARIANTS = user_file.run(CONFIG, "config")["VARIANTS"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_make_their_networks(variant):
    config = configs.load(f"{CONFIG}:{variant}")
    family.check(config)
    size = config.data.size
    picture = jax.ShapeDtypeStruct((1, size, size, config.model.channels), "float32")
    net = make_autoencoder(config)
    out = jax.eval_shape(net.apply, shapes(net, picture), picture)
    assert out.picture.shape == picture.shape
    assert out.codes.shape == (1, *(size // verbs(config)["encode"].factor,) * 2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data.size": 30}, "data.size=30 must be a multiple of 4"),
        ({"model.channels": 1}, "model.channels=1: data.source=shapes has pictures of 3"),
        ({"model.autoencoder.groups": 7}, "level 0 has 32 channels, no multiple of groups=7"),
        ({"model.loss.pixel_kind": "bce"}, "segmentations take bce, and nothing else does"),
        ({"model.loss.random_layers": ()}, "name a layer, or set perceptual=0"),
        ({"model.loss.lpips": ("no.pth",)}, "no LPIPS weights at no.pth"),
        ({"data.source": "plain"}, "data.source=plain needs data.path"),
    ],
)
def test_bad_settings_are_told_in_one_line(changes, said):
    config = configs.load(CONFIG, changes)
    with pytest.raises(UserError, match=re.escape(said)):
        make_task(config).train_data()


def test_attention_and_normalisation_forbid_tiling():
    assert verbs(configs.load(CONFIG))["encode"].radius is None
    assert verbs(configs.load(f"{CONFIG}:vqvae"))["encode"].radius is not None


# ----------------------------------------------------------------------------------------- MaskGIT


@pytest.fixture(scope="module")
def tokenizer(fixtures_dir):
    return np.load(fixtures_dir / "retrieval" / "maskgit_tokenizer.npz")


def test_maskgit_s_tokenizer_equals_the_original(tokenizer):
    tensors = {key[7:]: tokenizer[key] for key in tokenizer.files if key.startswith("params:")}
    layout = BY_NAME["MaskGIT tokenizer"]
    config, variables = converted(layout, tensors)
    sizes = layout.sizes(tensors)
    assert layout.read(config) == sizes
    back = weights.to_torch(variables, layout.rules(sizes))
    assert back.keys() == tensors.keys()
    assert convert.recognise(tensors)[1] is layout
    net, x = make_autoencoder(config), 2 * tokenizer["image"] - 1  # the original's are in [0, 1]
    z = net.apply(variables, x, method=Autoencoder.embed)
    codes = net.apply(variables, x, method=Autoencoder.encode)
    np.testing.assert_array_equal(codes, tokenizer["indices"])
    for ours, theirs in (
        (z, tokenizer["z"]),
        ((net.apply(variables, x).picture + 1) / 2, tokenizer["reconstruction"]),
        (
            (net.apply(variables, codes, method=Autoencoder.decode) + 1) / 2,
            tokenizer["decode_from_indices"],
        ),
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def test_maskgit_s_full_size_paths(fixtures_dir):
    rng, tensors = np.random.default_rng(0), {}
    lines = (fixtures_dir / "retrieval" / "keys_maskgit.txt").read_text().splitlines()
    for line in lines[1 : lines.index(next(one for one in lines[1:] if one.startswith("#")))]:
        key, _, shape = line.partition(" ")
        tensors[key] = rng.random([int(n) for n in re.findall(r"\d+", shape)], np.float32)
    assert len(tensors) == 168
    _, variables = converted(BY_NAME["MaskGIT tokenizer"], tensors)
    assert size(variables["params"]) == 54_515_587
