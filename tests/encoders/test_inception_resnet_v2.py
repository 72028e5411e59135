"""Inception-ResNet-v2: published counts and keys, each layer equal to torch, all kinds of files."""

import hashlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.referees import pytorch

from jaxgen import weights
from jaxgen.encoders import inception_resnet_v2 as inception
from jaxgen.encoders import inception_resnet_v2_layout as layout
from jaxgen.encoders import perceptual
from jaxgen.errors import UserError

WIDTH = 1 / 8
NEEDED_BY_BLOCK35_5 = {
    *("conv2d_1a", "conv2d_2a", "conv2d_2b", "conv2d_3b", "conv2d_4a", "mixed_5b"),
    *(f"block35_{i}" for i in range(1, 6)),
}


def count(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def fingerprint(shapes):
    """(how many, hash) of names with their shapes: as made from the original's own list."""
    lines = sorted(f"{name} {tuple(shape)}" for name, shape in shapes.items())
    return len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def names_and_shapes(expected, rules):
    """What an original's file would hold."""
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.int8), expected)
    return {key: value.shape for key, value in weights.to_torch(zeros, rules).items()}


@pytest.fixture(scope="module")
def variables():
    """A narrow network with every statistic, gain and bias away from where it starts."""
    rng = np.random.default_rng(0)
    start = inception.init_variables(1, WIDTH, classes=7)

    def moved(path, a):
        kind = path[-1].key
        if kind in ("scale", "var"):
            return rng.uniform(0.7, 1.3, a.shape).astype(np.float32)
        return a if kind == "kernel" else rng.normal(0, 0.1, a.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(moved, start)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).uniform(-1, 1, (2, 81, 90, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def every_layer(variables, image):
    """All layers, after their activation."""
    names = (*inception.LAYER_NAMES, "logits")
    return jax.jit(lambda v, x: inception.features(v, x, names, False))(variables, image)


def test_published_counts():
    whole = inception.expected_params(classes=1000)
    assert (count(whole["params"]), count(whole["batch_stats"])) == (55_843_464, 60_544)
    # Keras without its top; it has no gains.
    del whole["params"]["classifier"]
    params = weights.flatten(whole["params"])
    trainable = count({key: leaf for key, leaf in params.items() if not key.endswith("/scale")})
    assert trainable == 54_276_192
    assert trainable + count(whole["batch_stats"]) == 54_336_736


def test_names_and_shapes_are_the_originals():
    """The hashes are of the lists that timm 1.0.31 and Keras 3.15.1 print of their networks."""
    expected = inception.expected_params(classes=1000)
    port = names_and_shapes(expected, inception.torch_rules())
    assert fingerprint(port) == (1102, "a27c53ab9bde77e9")
    assert port["repeat_1.19.branch1.1.conv.weight"] == (160, 128, 1, 7)
    keras = names_and_shapes(expected, layout.keras_rules())
    keras = {key: shape for key, shape in keras.items() if not key.endswith("/gamma")}
    assert fingerprint(keras) == (898, "7462ddf03a1f793e")


def test_every_layer_equals_torch(variables, image, every_layer):
    torch = pytorch()
    state = weights.to_torch(variables, inception.torch_rules())
    theirs = torch_layers(torch, state, image)
    assert set(theirs) == set(every_layer)
    for name, y in theirs.items():
        expected = y.permute(0, 2, 3, 1).numpy() if y.ndim == 4 else y.numpy()
        ours = every_layer[name]
        assert ours.shape == expected.shape, name
        assert np.max(np.abs(ours - expected)) <= 1e-5 * np.max(np.abs(expected)), name


def test_before_the_activation(variables, image, every_layer):
    """Blocks and convolutions have a ReLU; pools and concatenations have none of their own."""
    names = ("conv2d_2b", "maxpool_5a", "mixed_5b", "block35_2")
    before = jax.jit(lambda v, x: inception.features(v, x, names))(variables, image)
    for name, y in before.items():
        np.testing.assert_allclose(np.maximum(y, 0), every_layer[name], rtol=1e-5, atol=1e-5)
        assert (np.min(y) < 0) == (name in ("conv2d_2b", "block35_2")), name
    assert np.min(every_layer["block8_10"]) < 0  # the last block has no ReLU


def torch_layers(torch, state, image):
    """The network written with torch's functions on the port's keys: {layer: (b, c, h, w)}."""
    fn = torch.nn.functional
    state = {key: torch.tensor(value) for key, value in state.items()}

    def conv(x, key, stride=1, pad=0):
        y = fn.conv2d(x, state[f"{key}.conv.weight"], None, stride, pad)
        bn = [state[f"{key}.bn.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        return torch.relu(fn.batch_norm(y, *bn, eps=1e-3))

    def chain(x, key, *pads, last_stride=1):
        for i, pad in enumerate(pads):
            stride = last_stride if i == len(pads) - 1 else 1
            x = conv(x, f"{key}.{i}", stride, pad)
        return x

    def block(x, key, scale, pads):
        ends = [conv(x, f"{key}.branch0")]
        ends += [chain(x, f"{key}.branch{i}", *p) for i, p in enumerate(pads, start=1)]
        up = fn.conv2d(
            torch.cat(ends, 1), state[f"{key}.conv2d.weight"], state[f"{key}.conv2d.bias"]
        )
        return x + scale * up

    out = {}
    with torch.inference_mode():
        x = torch.tensor(image).permute(0, 3, 1, 2)
        for key, stride, pad in (("1a", 2, 0), ("2a", 1, 0), ("2b", 1, 1)):
            x = out[f"conv2d_{key}"] = conv(x, f"conv2d_{key}", stride, pad)
        x = out["maxpool_3a"] = fn.max_pool2d(x, 3, 2)
        for key in ("3b", "4a"):
            x = out[f"conv2d_{key}"] = conv(x, f"conv2d_{key}")
        x = out["maxpool_5a"] = fn.max_pool2d(x, 3, 2)
        average = fn.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        x = out["mixed_5b"] = torch.cat(
            [
                conv(x, "mixed_5b.branch0"),
                chain(x, "mixed_5b.branch1", 0, 2),
                chain(x, "mixed_5b.branch2", 0, 1, 1),
                conv(average, "mixed_5b.branch3.1"),
            ],
            1,
        )
        for i in range(10):
            x = torch.relu(block(x, f"repeat.{i}", 0.17, ((0, 1), (0, 1, 1))))
            out[f"block35_{i + 1}"] = x
        x = out["mixed_6a"] = torch.cat(
            [
                conv(x, "mixed_6a.branch0", 2),
                chain(x, "mixed_6a.branch1", 0, 1, 0, last_stride=2),
                fn.max_pool2d(x, 3, 2),
            ],
            1,
        )
        for i in range(20):
            x = torch.relu(block(x, f"repeat_1.{i}", 0.1, ((0, (0, 3), (3, 0)),)))
            out[f"block17_{i + 1}"] = x
        x = out["mixed_7a"] = torch.cat(
            [
                chain(x, "mixed_7a.branch0", 0, 0, last_stride=2),
                chain(x, "mixed_7a.branch1", 0, 0, last_stride=2),
                chain(x, "mixed_7a.branch2", 0, 1, 0, last_stride=2),
                fn.max_pool2d(x, 3, 2),
            ],
            1,
        )
        for i in range(9):
            x = torch.relu(block(x, f"repeat_2.{i}", 0.2, ((0, (0, 1), (1, 0)),)))
            out[f"block8_{i + 1}"] = x
        x = out["block8_10"] = block(x, "block8", 1.0, ((0, (0, 1), (1, 0)),))
        x = out["conv_7b"] = conv(x, "conv2d_7b")
        out["logits"] = fn.linear(x.mean((2, 3)), state["classif.weight"], state["classif.bias"])
    return out


def test_port_both_ways(variables):
    state = weights.to_torch(variables, inception.torch_rules())
    state["conv2d_1a.bn.num_batches_tracked"] = np.asarray(3)
    again = inception.from_torch(state)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    # pretrained-models' name of the classifier; none at all.
    for key in ("weight", "bias"):
        state[f"last_linear.{key}"] = state.pop(f"classif.{key}")
    again = inception.from_torch(state)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    state = {key: value for key, value in state.items() if "last_linear" not in key}
    assert "classifier" not in inception.from_torch(state)["params"]
    del state["repeat.3.conv2d.bias"]
    state["repeat.10.conv2d.bias"] = np.zeros(3)
    with pytest.raises(UserError, match=r"1 missing: repeat.3.*1 extra: repeat.10.conv2d.bias"):
        inception.from_torch(state)


def test_keras_weights_under_any_count_of_their_layers(variables, tmp_path):
    """Fresh Keras; an older one that counts from 1; the second network of a session."""
    gainless = jax.tree_util.tree_map_with_path(
        lambda path, a: np.ones_like(a) if path[-1].key == "scale" else a, variables
    )
    fresh = weights.to_torch(gainless, layout.keras_rules())
    fresh = {key: value for key, value in fresh.items() if not key.endswith("/gamma")}
    for first, ending in ((0, ""), (1, ":0"), (204, "")):

        def renumbered(match, first=first):
            number = int(match[2] or 0) + first
            return f"{match[1]}_{number}/" if number else f"{match[1]}/"

        pattern = r"^(conv2d|batch_normalization)(?:_(\d+))?/"
        named = {re.sub(pattern, renumbered, key) + ending: v for key, v in fresh.items()}
        path = tmp_path / f"keras_{first}.npz"
        np.savez(path, **named)
        tensors = weights.read_tensors(path)
        assert layout.is_keras(tensors)
        jax.tree.map(np.testing.assert_array_equal, inception.from_keras(tensors), gainless)
    del tensors["block35_2_conv/kernel"]
    with pytest.raises(UserError, match="1 missing: block35_2_conv/kernel"):
        inception.from_keras(tensors)


def test_perceptual_files(variables, image, every_layer, tmp_path):
    """The port's file, and a file of ours; cut to what the layers need."""
    layers = ("block35_5", "mixed_5b")
    weights.write_safetensors(
        tmp_path / "port.safetensors", weights.to_torch(variables, inception.torch_rules())
    )
    weights.write_safetensors(tmp_path / "ours.safetensors", {"inception_resnet_v2": variables})
    for name in ("port", "ours"):
        path = tmp_path / f"{name}.safetensors"
        params = perceptual.load("inception_resnet_v2", f"file:{path}", layers)
        for kind in ("params", "batch_stats"):
            wanted = {k: t for k, t in variables[kind].items() if k in NEEDED_BY_BLOCK35_5}
            jax.tree.map(np.testing.assert_array_equal, params[kind], wanted)
    ours = jax.jit(
        lambda p, x: perceptual.features("inception_resnet_v2", p, x, layers, False, "raw")
    )(params, image)
    for layer in layers:
        np.testing.assert_allclose(ours[layer], every_layer[layer], rtol=1e-5, atol=1e-5)
    weights.write_safetensors(
        tmp_path / "bad.safetensors", {"inception_resnet_v2": {"params": variables["params"]}}
    )
    with pytest.raises(UserError, match=r"missing: batch_stats/"):
        perceptual.load("inception_resnet_v2", f"file:{tmp_path}/bad.safetensors", layers)


def test_random_network(image):
    cut = inception.load_perceptual("random", ("mixed_5b",), 0.125, seed=3)
    whole = inception.init_variables(3, 0.125)
    assert list(cut["params"])[-1] == "mixed_5b"
    for kind in cut:
        for name in cut[kind]:
            jax.tree.map(np.testing.assert_array_equal, cut[kind][name], whole[kind][name])
    kernel = whole["params"]["conv_7b"]["kernel"]
    assert kernel.shape == (1, 1, 260, 192)
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / 260), rtol=0.02)
    other = inception.init_variables(4, 0.125, "conv2d_1a")["params"]["conv2d_1a"]["kernel"]
    assert not np.array_equal(other, whole["params"]["conv2d_1a"]["kernel"])
    # He's variance and the small residual scales keep the size of the features.
    names = ("conv2d_1a", "mixed_5b", "block35_10", "mixed_6a")
    found = jax.jit(lambda v, x: inception.features(v, x, names))(whole, jnp.asarray(image))
    spread = [float(jnp.sqrt(jnp.mean(f**2))) for f in found.values()]
    assert max(spread) / min(spread) < 10, spread


def test_only_the_needed_depth_is_computed_in_the_given_dtype(image):
    params = inception.load_perceptual("random", ("mixed_5b",), 0.125)

    def run(dtype):
        return jax.jit(
            lambda p, x: inception.features(p, x, ("mixed_5b",), dtype=dtype)["mixed_5b"]
        )

    text = run(jnp.float32).lower(params, jnp.asarray(image)).as_text()
    # A 1x1 convolution is a matmul on a CPU.
    assert sum(text.count(f"stablehlo.{kind}") for kind in ("convolution", "dot_general")) == 12
    half, whole = (run(d)(params, jnp.asarray(image)) for d in (jnp.bfloat16, jnp.float32))
    assert half.dtype == jnp.bfloat16
    scale = float(jnp.max(jnp.abs(whole)))
    assert 0 < float(jnp.max(jnp.abs(half.astype(jnp.float32) - whole))) < 0.05 * scale


@pytest.mark.parametrize(
    ("layer", "side"), [("conv2d_1a", 3), ("mixed_5b", 27), ("mixed_6a", 43), ("conv_7b", 75)]
)
def test_least_image(layer, side):
    assert inception.min_side(layer) == side
    params = inception.expected_params(1 / 32)

    def shape(side):
        x = jax.ShapeDtypeStruct((1, side, side + 5, 3), jnp.float32)
        return jax.eval_shape(lambda p, x: inception.features(p, x, (layer,)), params, x)[layer]

    assert shape(side).shape[1] == 1
    with pytest.raises(UserError, match=f"too small for {layer} .* at least {side} pixels"):
        shape(side - 1)


def test_mistakes(tmp_path):
    def load(weights, layers):
        return perceptual.load("inception_resnet_v2", weights, layers)

    assert load("none", ()) == {}
    with pytest.raises(UserError, match=r"needs a layer, e\.g\. mixed_5b"):
        load("random", ())
    with pytest.raises(
        UserError, match=r"no .* layer block35_11; choose from .*block35_1 ... block35_10, mixed_6a"
    ):
        load("random", ("block35_11",))
    with pytest.raises(UserError, match=r"no perceptual weights at .*irn.npz: get .* Keras"):
        load(f"file:{tmp_path}/irn.npz", ("mixed_5b",))
    with pytest.raises(UserError, match=r'"random" or "none", not \'irn\.npz\''):
        load("irn.npz", ("mixed_5b",))
    with pytest.raises(UserError, match="unknown perceptual net 'vgg11'; there are vgg19, incept"):
        perceptual.load("vgg11", "random", ("conv1_1",))
    params = inception.init_variables(0, 1 / 32, deepest="mixed_5b")
    picture = jnp.zeros((1, 32, 32, 3))
    with pytest.raises(UserError, match=r"no .* layer mixed_6a; there are .*, mixed_5b$"):
        inception.features(params, picture, ("mixed_6a",))
    with pytest.raises(UserError, match=r"in \[-1, 1\]: use the perceptual input raw, not 'caffe'"):
        perceptual.features("inception_resnet_v2", params, picture, ("mixed_5b",), True, "caffe")
