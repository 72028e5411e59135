"""The KL autoencoder: published counts, parity with diffusers, its weights both ways, its loss."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REPOSITORY
from support.diffusion import assert_near, golden, nhwc, state_dict

from jaxgen import config as configs
from jaxgen import weights
from jaxgen.models.vae import networks, verbs
from jaxgen.models.vae.convert import COMPVIS, DIFFUSERS, join_diffusers, part_diffusers
from jaxgen.models.vae.networks import VAE, divergence, sample, split
from jaxgen.models.vae.task import make_vae
from jaxgen.runs import convert
from jaxgen.weights.keymap import flatten

CONFIG = f"{REPOSITORY}/configs/vae.py"


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_published_counts():
    config = configs.load(f"{CONFIG}:sd")
    params = DIFFUSERS.expected(config)["params"]
    assert size(params) == 83_653_863
    assert size(params["encoder"]) == 34_163_592
    assert size(params["decoder"]) == 49_490_179
    assert (size(params["quant_conv"]), size(params["post_quant_conv"])) == (72, 20)


@pytest.fixture(scope="module")
def file(fixtures_dir):
    return golden(fixtures_dir, "sd_vae_tiny")


def converted(tensors):
    """(config, variables) of a state dict of diffusers'."""
    joined = DIFFUSERS.join(tensors)
    sizes = DIFFUSERS.sizes(joined)
    config = DIFFUSERS.config(sizes)
    return config, weights.convert(joined, DIFFUSERS.rules(sizes), DIFFUSERS.expected(config))


def test_equals_diffusers(file):
    config, variables = converted(state_dict(file))
    net = make_vae(config)

    @jax.jit
    def run(x, noise):
        moments = net.apply(variables, x, method=VAE.moments)
        z = sample(moments, noise) * 0.18215
        decoded = net.apply(variables, z, method=VAE.decode)
        verb = verbs(config)["encode"]
        latents = verb.encode({"g": variables}, x)
        return moments, z, decoded, latents, verb.decode({"g": variables}, latents)

    moments, z, decoded, latents, from_mean = run(nhwc(file["image"]), nhwc(file["eps"]))
    most = max(1e-5, 10 * float(file["f64_rel"].max()))
    assert_near(moments, nhwc(file["moments"]), most)
    assert_near(split(moments)[0], nhwc(file["mean"]), most)
    assert_near(z, nhwc(file["latent_scaled"]), most)
    assert_near(decoded, nhwc(file["decoded"]), most)
    assert_near(from_mean, nhwc(file["decoded_from_mean"]), most)
    assert_near(divergence(moments), file["kl"], most)
    assert_near(latents, 0.18215 * nhwc(file["mean"]), most)


def test_both_layouts_there_and_back(file):
    """diffusers' names are CompVis's of the original's own list, and come back."""
    tensors = state_dict(file)
    names = [str(key).removeprefix("first_stage_model.") for key in file["compvis_keys"]]
    compvis = dict(zip(sorted(tensors), names, strict=True))
    joined = join_diffusers(tensors)
    assert {key: joined[name].size for key, name in compvis.items()} == {
        key: value.size for key, value in tensors.items()
    }
    assert joined.keys() == set(compvis.values())
    again = part_diffusers(joined)
    assert again.keys() == tensors.keys()
    for key, value in tensors.items():
        np.testing.assert_array_equal(again[key], value, err_msg=key)
    _, variables = converted(tensors)
    sizes = COMPVIS.sizes(joined)
    back = weights.to_torch(variables, COMPVIS.rules(sizes))
    assert back.keys() == joined.keys()
    for key, value in joined.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key)


def test_older_names_of_the_attention(file):
    tensors = state_dict(file)
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    older = {}
    for key, value in tensors.items():
        for new, old in names.items():
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        older[key] = value
    assert older.keys() != tensors.keys()
    assert join_diffusers(older).keys() == join_diffusers(tensors).keys()


def test_published_keys_fit(fixtures_dir):
    """Both full lists, without a key missing or over: shapes alone."""
    names = json.loads((fixtures_dir / "sd1_compvis_to_diffusers.json").read_text())["vae"]
    config = configs.load(f"{CONFIG}:sd")
    sizes = COMPVIS.read(config)
    tree = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), DIFFUSERS.expected(config))
    ours = weights.to_torch(tree, COMPVIS.rules(sizes))
    prefix = "first_stage_model."
    assert ours.keys() == {name.removeprefix(prefix) for name in names.values()}
    assert part_diffusers(ours).keys() == names.keys()
    assert COMPVIS.sizes(ours) == sizes


def test_converted_file_is_recognised(file, tmp_path):
    path = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    path.parent.mkdir()
    weights.write_tensors(path, state_dict(file))
    (path.parent / "config.json").write_text(
        json.dumps({"_class_name": "AutoencoderKL", "scaling_factor": 0.5, "norm_num_groups": 32})
    )
    found = convert.convert(path)
    assert (found.family, found.layout.name) == ("vae", "diffusers AutoencoderKL")
    assert found.config.model.scaling == 0.5
    model = found.model()
    assert model.encode(np.zeros((20, 16, 3), np.uint8)).shape == (3, 2, 4)


def test_compvis_s_file_is_recognised(file, tmp_path):
    weights.write_tensors(tmp_path / "kl.safetensors", join_diffusers(state_dict(file)))
    found = convert.convert(tmp_path / "kl.safetensors")
    assert found.layout.name == "CompVis KL autoencoder"
    found.export(tmp_path / "own")
    layout, back = convert.to_torch(tmp_path / "own", "diffusers AutoencoderKL")
    assert layout is DIFFUSERS
    assert back.keys() == state_dict(file).keys()


def test_latents_are_measured_in_training(monkeypatch):
    """Where no scale is given, training's running deviation brings latents to 1."""
    monkeypatch.setattr(networks, "DECAY", 0.9)
    net = make_vae(configs.load(f"{CONFIG}:tiny", {"model.gan_start": -1}))
    x = jax.random.uniform(jax.random.key(1), (4, 8, 8, 3), minval=-1.0)
    variables = jax.jit(net.init)(jax.random.key(0), x)
    bias = variables["params"]["quant_conv"]["bias"].at[:2].set(3.0).at[2:].set(-30.0)
    variables["params"]["quant_conv"]["bias"] = bias
    rngs = {"quantize": jax.random.key(2)}
    state = {"latents": variables["latents"]}

    @jax.jit
    def step(state):
        params = {"params": variables["params"]}
        _, changed = net.apply({**params, **state}, x, train=True, mutable=["latents"], rngs=rngs)
        return changed

    for _ in range(90):
        state = step(state)
    latents = net.apply({**variables, **state}, x, method=VAE.encode)
    np.testing.assert_allclose(latents.std(), 1.0, rtol=0.02)
    again = net.apply({**variables, **state}, latents, method=VAE.decode)
    np.testing.assert_allclose(again, net.apply({**variables, **state}, x).picture, atol=1e-4)
    assert set(flatten(state)) == {"latents/mean", "latents/square"}


def test_a_measured_scale_has_no_published_layout():
    config = configs.load(f"{CONFIG}:tiny")
    assert COMPVIS.read(config) is None


def test_patches_have_no_published_layout():
    config = configs.load(f"{CONFIG}:sd")
    assert COMPVIS.read(config)["features"] == 128
    with config.unlocked():
        config.model.autoencoder.patch = 2
    assert COMPVIS.read(config) is None


def test_the_draw_has_its_deviation():
    moments = jnp.concatenate([jnp.full((1, 50, 50, 1), 2.0), jnp.full((1, 50, 50, 1), -2.0)], -1)
    z = sample(moments, jax.random.normal(jax.random.key(0), (1, 50, 50, 1)))
    np.testing.assert_allclose([z.mean(), z.std()], [2.0, np.exp(-1.0)], atol=0.02)
