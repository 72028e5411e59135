"""The prior at its published sizes: counts, sharding, converters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REPOSITORY, noise, run
from support.first_stage import with_parts

import jaxgen
from jaxgen import config as configs
from jaxgen import weights
from jaxgen.errors import UserError
from jaxgen.models.prior import convert as net2net
from jaxgen.nn.transformer import GPT, Bidirectional
from jaxgen.runs import convert
from jaxgen.runs.convert import recognise, to_torch
from jaxgen.train import mesh as meshes

DRIN = GPT(1024, 1024, 512, 24, 16, 1024)
CIN = GPT(16384, 16384, 256, 48, 24, 1536)
MASKGIT = Bidirectional(2025, 257, 24, 16, 768, 3072)


def shapes_of(module):
    return jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))


def size(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


# ------------------------------------------------------------------------------------- published


@pytest.mark.parametrize(
    ("module", "count"), [(DRIN, 304_932_864), (CIN, 1_410_640_896), (MASKGIT, 172_457_193)]
)
def test_published_sizes(module, count):
    assert size(shapes_of(module)) == count


def cin_shardings():
    mesh = meshes.make_mesh({"data": 1, "fsdp": 8}, jax.devices()[:8])
    config = configs.load(f"{REPOSITORY}/configs/prior.py:cin")
    shapes = {"g": shapes_of(CIN)["params"]}
    return shapes, meshes.state_shardings(shapes, mesh, config.mesh)


def test_the_largest_is_cut_over_the_devices():
    shapes, shardings = cin_shardings()
    held = sum(
        np.prod(place.shard_shape(leaf.shape))
        for leaf, place in zip(jax.tree.leaves(shapes), jax.tree.leaves(shardings), strict=True)
    )
    assert held < 1.01 * size(shapes) / 8


@pytest.mark.slow
def test_the_largest_begins_on_eight_devices():
    _, shardings = cin_shardings()

    def init():
        return {"g": CIN.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"]}

    program = jax.jit(init, out_shardings=shardings).lower().compile()
    about = program.memory_analysis()
    assert about.output_size_in_bytes + about.temp_size_in_bytes < 4 * 1_410_640_896 / 2
    state = program()
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state))
    assert held < 1.01 * 4 * 1_410_640_896 / 8


def net2net_keys(layers, ids, width, length):
    """Key -> shape of a Net2Net checkpoint, as taming-transformers names them."""
    wide = 4 * width
    keys = {"tok_emb.weight": (ids, width), "pos_emb": (1, length, width)}
    keys |= {"ln_f.weight": (width,), "ln_f.bias": (width,), "head.weight": (ids, width)}
    for i in range(layers):
        for norm in ("ln1", "ln2"):
            keys |= {f"blocks.{i}.{norm}.{n}": (width,) for n in ("weight", "bias")}
        for layer in ("key", "query", "value", "proj"):
            keys[f"blocks.{i}.attn.{layer}.weight"] = (width, width)
            keys[f"blocks.{i}.attn.{layer}.bias"] = (width,)
        keys |= {f"blocks.{i}.mlp.0.weight": (wide, width), f"blocks.{i}.mlp.0.bias": (wide,)}
        keys |= {f"blocks.{i}.mlp.2.weight": (width, wide), f"blocks.{i}.mlp.2.bias": (width,)}
        keys[f"blocks.{i}.attn.mask"] = (1, 1, length, length)
    keys = {f"transformer.{key}": shape for key, shape in keys.items()}
    return keys | {"first_stage_model.encoder.conv_in.weight": (128, 3, 3, 3)}


def maskgit_keys(fixtures_dir):
    lines = (fixtures_dir / "retrieval" / "keys_maskgit.txt").read_text().splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("# MaskGIT transformer"))
    found = {}
    for line in lines[begin + 1 :]:
        name, _, shape = line.partition(" ")
        found[name] = tuple(int(n) for n in shape.strip("()").split(",") if n.strip())
    return found


def goes_both_ways(keys, layout, left_out=()):
    """Keys of a published file at full size become a net and come back, none missing or extra.

    Of one byte a number, each with values of its own, so that nothing of gigabytes is made.
    """
    rng = np.random.default_rng(0)
    tensors = {
        key: np.broadcast_to(rng.integers(0, 100, shape[-1:], dtype=np.int8), shape)
        for key, shape in keys.items()
    }
    name, found, sizes = recognise(tensors)
    assert (name, found.name) == ("prior", layout)
    config = found.config(sizes)
    assert found.read(config) == sizes
    expected = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, np.int8), found.expected(config)
    )
    variables = weights.convert(tensors, found.rules(sizes), expected)
    again = weights.to_torch(variables, found.rules(sizes))
    wanted = {key for key in keys if not key.startswith(left_out)} if left_out else set(keys)
    assert again.keys() == {key for key in wanted if not key.endswith("attn.mask")}
    for key in list(again)[::37]:
        np.testing.assert_array_equal(again[key], tensors[key], err_msg=key)


def test_a_net2net_checkpoint_goes_both_ways():
    keys = net2net_keys(24, 1024, 1024, 512)
    goes_both_ways(keys, "taming Net2Net transformer", ("first_stage_model",))


@pytest.mark.slow
def test_the_largest_net2net_checkpoint_goes_both_ways():
    keys = net2net_keys(48, 16384, 1536, 256)
    goes_both_ways(keys, "taming Net2Net transformer", ("first_stage_model",))


def test_maskgit_s_transformer_goes_both_ways(fixtures_dir):
    goes_both_ways(maskgit_keys(fixtures_dir), "MaskGIT transformer")


def net2net_file(fixtures_dir, path, length, image, codes=64):
    """A small Net2Net checkpoint as the original saves it; heads of 64.

    Args: image: channels of the condition's pictures; 0: a start token.
    """
    rng = np.random.default_rng(0)
    tensors = {
        key: (0.2 * rng.standard_normal(shape, np.float32))
        for key, shape in net2net_keys(2, codes, 64, length).items()
        if key.startswith("transformer.")
    }
    with np.load(fixtures_dir / "taming_vqgan_tiny.npz") as file:
        first = {key[3:]: file[key] for key in file.files if key.startswith("sd:")}
    tensors |= {f"first_stage_model.{key}": value for key, value in first.items()}
    if image:
        second = dict(first)
        for key in ("encoder.conv_in.weight", "decoder.conv_out.weight", "decoder.conv_out.bias"):
            shape = tuple(image if n == 3 else n for n in first[key].shape[:2])
            shape += first[key].shape[2:]
            second[key] = rng.standard_normal(shape, np.float32)
        tensors |= {f"cond_stage_model.{key}": value for key, value in second.items()}
        tensors["cond_stage_model.colorize"] = np.zeros((3, 8, 1, 1), np.float32)
    weights.write_tensors(path, tensors)
    return tensors


@pytest.mark.parametrize(
    ("image", "length", "cells"), [(0, 20, 4), (1, 32, 4), (5, 32, 4)], ids=["none", "depth", "seg"]
)
def test_a_net2net_checkpoint_is_a_model_whole(fixtures_dir, tmp_path, image, length, cells):
    tensors = net2net_file(fixtures_dir, tmp_path / "net2net.safetensors", length, image)
    line = convert.write_own(tmp_path / "net2net.safetensors", tmp_path / "model")
    condition = "image" if image else "none"
    assert f"taming Net2Net, family prior, condition {condition}" in line
    model = jaxgen.load(tmp_path / "model")
    side = 2 * cells  # the first stage has 2 pixels a code
    assert (model.config.data.size, model.config.model.sampling.top_k) == (side, 100)
    if image:
        photo = noise(side, side) % 5
        half = model.complete(photo, 0.5)
        assert half.shape == (1, *photo.shape)
    else:
        assert model.generate("", n=2, seed=1).shape == (2, side, side, 3)
    convert.write_torch(tmp_path / "model", tmp_path / "again.safetensors")
    again = weights.read_tensors(tmp_path / "again.safetensors")
    left_out = ("attn.mask", "colorize")
    wanted = {k for k in tensors if not k.endswith(left_out) and "_model.loss." not in k}
    assert again.keys() == wanted
    for key, value in again.items():
        np.testing.assert_array_equal(value, tensors[key], err_msg=key)


def test_a_net2net_checkpoint_that_is_none(fixtures_dir, tmp_path, monkeypatch):
    path = tmp_path / "net2net.safetensors"
    net2net_file(fixtures_dir, path, 20, 0, codes=40)
    with pytest.raises(UserError, match="writes 40 codes and its first stage has 64"):
        convert.write_own(path, None)
    net2net_file(fixtures_dir, path, 0, 0)
    with pytest.raises(UserError, match="not of taming Net2Net transformer"):
        convert.write_own(path, None)
    monkeypatch.setattr(net2net, "_COORDINATES", (2, 64))
    net2net_file(fixtures_dir, path, 20, 0)
    with pytest.raises(UserError, match="FacesHQ's size, whose condition are coordinates"):
        convert.write_own(path, None)
    monkeypatch.undo()
    tensors = net2net_file(fixtures_dir, path, 20, 0)
    del tensors["first_stage_model.quant_conv.bias"]
    weights.write_tensors(path, tensors)
    with pytest.raises(UserError, match="quant_conv"):
        convert.write_own(path, None)


@pytest.mark.slow
def test_a_trained_transformer_goes_out_where_it_is_like_the_published(tmp_path):
    for shared in (True, False):
        config = with_parts(
            configs.load(
                f"{REPOSITORY}/configs/prior.py:tiny",
                {
                    "model.condition": "none",
                    "model.drop_condition": 0.0,
                    "model.shared_ids": shared,
                    "train.steps": 1,
                    "train.eval_every": -1,
                },
            )
        )
        run(config, tmp_path / str(shared))
    layout, tensors = to_torch(tmp_path / "True")
    assert layout.name == "taming Net2Net transformer"
    assert tensors["transformer.head.weight"].shape == (16, 16)
    with pytest.raises(UserError, match="no published layout has the networks"):
        to_torch(tmp_path / "False")
