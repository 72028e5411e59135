"""ResNets: torchvision's counts and keys, equal to torch in inference and in training mode."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.referees import pytorch

from jaxgen import weights
from jaxgen.encoders import resnet
from jaxgen.errors import UserError

# Parameters, statistics, and names with shapes of torchvision 0.29 (how many, hash).
PUBLISHED = {
    "resnet18": (11_689_512, 9_600, 102, "2bb53b15765c4651"),
    "resnet34": (21_797_672, 17_024, 182, "b945021fb00b779b"),
    "resnet50": (25_557_032, 53_120, 267, "cf11dad974eadeaa"),
    "resnet101": (44_549_160, 105_344, 522, "d916ed2068e1af5d"),
    "resnet152": (60_192_808, 151_424, 777, "2fe195791c8ffb5f"),
}


def count(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("arch", resnet.ARCHS)
def test_published_counts_names_and_shapes(arch):
    expected = resnet.expected_params(arch, 1000)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.int8), expected)
    state = weights.to_torch(zeros, resnet.torch_rules())
    lines = sorted(f"{key} {value.shape}" for key, value in state.items())
    hashed = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    sizes = count(expected["params"]), count(expected["batch_stats"])
    assert (*sizes, len(lines), hashed) == PUBLISHED[arch]


def random_variables(arch, classes=10, width=1 / 8):
    """Every statistic, gain and bias away from where it starts."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        kind = path[-1].key
        if kind == "kernel":
            std = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return rng.normal(0, std, leaf.shape).astype(np.float32)
        if kind in ("scale", "var"):
            return rng.uniform(0.5, 1.0, leaf.shape).astype(np.float32)
        return rng.normal(0, 0.1, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, resnet.expected_params(arch, classes, width))


def torch_layers(torch, state, image, training=False):
    """A ResNet written with torch's functions on torchvision's keys: {layer: (b, c, h, w)}."""
    fn = torch.nn.functional

    def norm(x, key):
        mean, var = state[f"{key}.running_mean"], state[f"{key}.running_var"]
        gain, bias = state[f"{key}.weight"], state[f"{key}.bias"]
        return fn.batch_norm(x, mean, var, gain, bias, training, 0.1, 1e-5)

    def block(x, key, stride):
        bottleneck = f"{key}.conv3.weight" in state
        # (padding, stride) of each convolution.
        table = ((0, 1), (1, stride), (0, 1)) if bottleneck else ((1, stride), (1, 1))
        y = x
        for i, (pad, step) in enumerate(table, start=1):
            y = norm(fn.conv2d(y, state[f"{key}.conv{i}.weight"], None, step, pad), f"{key}.bn{i}")
            y = torch.relu(y) if i < len(table) else y
        if f"{key}.downsample.0.weight" in state:
            x = fn.conv2d(x, state[f"{key}.downsample.0.weight"], None, stride)
            x = norm(x, f"{key}.downsample.1")
        return torch.relu(x + y)

    out = {}
    x = torch.tensor(np.asarray(image)).permute(0, 3, 1, 2)
    x = torch.relu(norm(fn.conv2d(x, state["conv1.weight"], None, 2, 3), "bn1"))
    x = out["stem"] = fn.max_pool2d(x, 3, 2, 1)
    for stage in range(1, 5):
        i = 0
        while f"layer{stage}.{i}.conv1.weight" in state:
            x = block(x, f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1)
            i += 1
        out[f"layer{stage}"] = x
    out["pooled"] = x.mean((2, 3))
    out["logits"] = fn.linear(out["pooled"], state["fc.weight"], state["fc.bias"])
    return out


def close(ours, theirs, name):
    expected = theirs.permute(0, 2, 3, 1) if theirs.ndim == 4 else theirs
    expected = expected.detach().numpy()
    assert ours.shape == expected.shape, name
    assert np.max(np.abs(ours - expected)) <= 1e-5 * np.max(np.abs(expected)), name


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_every_layer_equals_torch(arch):
    torch = pytorch()
    variables = random_variables(arch)
    state = weights.to_torch(variables, resnet.torch_rules())
    state = {key: torch.tensor(value) for key, value in state.items()}
    # Odd sizes, and pictures that are negative at the border: the max-pool's padding is not 0.
    image = np.random.default_rng(1).normal(-1, 1, (2, 75, 98, 3)).astype(np.float32)
    x = resnet.prepare(jnp.asarray(image))
    ours = jax.jit(lambda v, x: resnet.features(v, x, resnet.LAYER_NAMES))(variables, x)
    with torch.inference_mode():
        theirs = torch_layers(torch, state, x)
    assert set(ours) == set(theirs) == set(resnet.LAYER_NAMES)
    for name in ours:
        close(ours[name], theirs[name], name)


def test_training_mode_equals_torch_and_moves_the_statistics():
    torch = pytorch()
    variables = random_variables("resnet18")
    state = weights.to_torch(variables, resnet.torch_rules())
    state = {key: torch.tensor(value) for key, value in state.items()}
    image = np.random.default_rng(1).normal(0, 1, (4, 64, 64, 3)).astype(np.float32)
    net = resnet.module_of(variables["params"])
    ours, moved = jax.jit(
        lambda v, x: net.apply(v, x, ("logits",), train=True, mutable=["batch_stats"])
    )(variables, image)
    theirs = torch_layers(torch, state, image, training=True)
    close(ours["logits"], theirs["logits"], "logits")
    mean = moved["batch_stats"]["layer2_0"]["bn1"]["mean"]
    np.testing.assert_allclose(mean, state["layer2.0.bn1.running_mean"], atol=1e-6)
    assert np.abs(mean - variables["batch_stats"]["layer2_0"]["bn1"]["mean"]).max() > 1e-3


@pytest.mark.parametrize("arch", resnet.ARCHS)
def test_depth_width_and_classes_are_seen_from_the_keys(arch):
    variables = random_variables(arch, classes=3, width=1 / 32)
    state = weights.to_torch(variables, resnet.torch_rules())
    state["bn1.num_batches_tracked"] = np.asarray(5)
    again = resnet.from_torch(state)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    net = resnet.module_of(again["params"])
    assert (net.arch, net.classes, net.width) == (arch, 3, 1 / 32)


def test_files_without_classifier_and_mistakes():
    variables = random_variables("resnet18", classes=3, width=1 / 32)
    state = weights.to_torch(variables, resnet.torch_rules())
    headless = {key: value for key, value in state.items() if not key.startswith("fc.")}
    bare = resnet.from_torch(headless)
    picture = jnp.zeros((1, 32, 32, 3))
    assert resnet.features(bare, picture)["pooled"].shape == (1, 16)
    with pytest.raises(UserError, match=r"no ResNet layer logits; there are stem, .*pooled$"):
        resnet.features(bare, picture, ("logits",))
    del headless["layer2.0.bn1.bias"]
    with pytest.raises(UserError, match=r"1 missing: layer2.0.bn1.bias"):
        resnet.from_torch(headless)
    odd = {k: v for k, v in state.items() if not k.startswith("layer4.1.")}
    with pytest.raises(UserError, match=r"basic blocks \(2, 2, 2, 1\); there are resnet18,"):
        resnet.from_torch(odd)
    with pytest.raises(UserError, match="not a ResNet"):
        resnet.from_torch({"features.0.weight": np.zeros((3, 3))})


def test_only_the_needed_depth_is_computed():
    variables = random_variables("resnet18", width=1 / 32)
    run = jax.jit(lambda v, x: resnet.features(v, x, ("layer1",), dtype=jnp.bfloat16))
    picture = jnp.zeros((1, 64, 64, 3))
    assert run.lower(variables, picture).as_text().count("stablehlo.convolution") == 5
    assert run(variables, picture)["layer1"].dtype == jnp.bfloat16
