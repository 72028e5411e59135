"""LPIPS and its trunks: equal to PyTorch, published counts, what a distance must do, its files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from support.lpips_weights import random_heads, random_trunk
from support.referees import pytorch

from jaxgen import weights
from jaxgen.encoders import alexnet, lpips, squeezenet
from jaxgen.errors import UserError

NETS = ("alex", "vgg", "squeeze")
# Odd sides: pooling must drop or keep the last row and column as torch does.
SHAPE = (3, 53, 46, 3)


# ------------------------------------------------------------------ the original, in PyTorch


def torch_features(net):
    """torchvision's `.features` of the trunk, which is not installed, with random weights."""
    torch = pytorch()
    from torch import nn

    torch.manual_seed(0)

    class Fire(nn.Module):
        def __init__(self, inputs, squeezed, expanded):
            super().__init__()
            self.squeeze = nn.Conv2d(inputs, squeezed, 1)
            self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
            self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

        def forward(self, x):
            x = self.squeeze(x).relu()
            return torch.cat([self.expand1x1(x), self.expand3x3(x)], 1).relu()

    if net == "alex":
        layers = [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
        layers += [nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
        for inputs, outputs in ((192, 384), (384, 256), (256, 256)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
    elif net == "vgg":
        layers, inputs = [], 3
        for stage, (count, outputs) in enumerate(
            zip((2, 2, 3, 3, 3), (64, 128, 256, 512, 512), strict=True)
        ):
            layers += [nn.MaxPool2d(2, 2)] if stage else []
            for _ in range(count):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
                inputs = outputs
    else:
        pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        layers = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool, Fire(64, 16, 64), Fire(128, 16, 64)]
        layers += [pool, Fire(128, 32, 128), Fire(256, 32, 128), pool, Fire(256, 48, 192)]
        layers += [Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)]
    for module in nn.Sequential(*layers).modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.normal_(module.bias, std=0.1)
    return nn.Sequential(*layers)


# Where in `.features` the compared layers end, and which slice of a whole LPIPS they close.
ENDS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29), "squeeze": (1, 4, 7, 9, 10, 11, 12)}


def torch_distance(net, features, heads, x, y):
    """Zhang et al., equation 1, as the authors' code has it; (b, h, w, 3) in [-1, 1] -> (b,)."""
    import torch

    def layers(image):
        image = torch.tensor(image).permute(0, 3, 1, 2)
        shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
        scale = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
        z = (image - shift) / scale
        for i, layer in enumerate(features):
            z = layer(z)
            if i in ENDS[net]:
                yield z / (z.pow(2).sum(1, keepdim=True).sqrt() + 1e-10)

    total = 0.0
    with torch.no_grad():
        for i, (a, b) in enumerate(zip(layers(x), layers(y), strict=True)):
            head = torch.tensor(heads[f"lin{i}.model.1.weight"])
            total += torch.nn.functional.conv2d((a - b) ** 2, head).mean((2, 3))[:, 0]
    return total.numpy()


def trunk_state(features):
    return {f"features.{k}": v.numpy() for k, v in features.state_dict().items()}


def pictures(shape=SHAPE, seed=0):
    """Smooth noise, so that neighbouring pixels are alike; [-1, 1]."""
    noise = np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)
    smooth = ndimage.gaussian_filter(noise, (0, 1.5, 1.5, 0))
    return np.clip(4 * smooth, -1, 1)


@pytest.fixture(scope="module", params=NETS)
def net_and_params(request):
    net = request.param
    return net, lpips.from_torch(random_trunk(net) | random_heads(net))


distance = jax.jit(lpips.lpips)


# ----------------------------------------------------------------------------------- parity


@pytest.mark.parametrize(
    ("net", "heads"),
    [*((net, "random") for net in NETS), ("alex", "published"), ("vgg", "published")],
)
def test_equals_the_original(net, heads, request):
    features = torch_features(net)
    lin = random_heads(net)
    if heads == "published":
        folder = request.getfixturevalue("data_dir") / "weights"
        lin = weights.read_tensors(folder / f"lpips_lin_v0.1_{net}.pth")
    params = lpips.from_torch(trunk_state(features) | lin)
    assert lpips.trunk_of(params["trunk"]) == net
    x, y = pictures(), pictures(seed=1)
    y[1] = 0.9 * x[1]
    expected = torch_distance(net, features, lin, x, y)
    ours = distance(params, x, y)
    assert ours.shape == (3,)
    assert ours.dtype == jnp.float32
    assert np.max(np.abs(ours - expected)) <= 1e-5 * np.max(expected)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("module", "net", "sides"),
    [
        (alexnet, "alex", (31, 42)),
        (squeezenet, "squeeze", (17, 32)),
        (squeezenet, "squeeze", (19, 21)),
    ],
)
def test_every_layer_equals_torch_down_to_the_least_size(module, net, sides):
    torch = pytorch()
    features = torch_features(net)
    params = module.from_torch(
        trunk_state(features) | {"classifier.1.weight": np.zeros((4, 4), np.float32)}
    )
    x = pictures((1, *sides, 3))
    ours = jax.jit(lambda p, x: module.features(p, x))(params, x)
    z, seen = torch.tensor(x).permute(0, 3, 1, 2), []
    with torch.no_grad():
        for layer in features:
            z = layer(z)
            if not isinstance(layer, (torch.nn.Conv2d, torch.nn.MaxPool2d)):
                seen.append(z.permute(0, 2, 3, 1).numpy())
    assert len(seen) == len(ours) == len(module.LAYERS)
    for name, expected in zip(module.LAYERS, seen, strict=True):
        assert ours[name].shape == expected.shape
        assert np.max(np.abs(ours[name] - expected)) <= 1e-5 * np.max(np.abs(expected)), name


def test_published_counts():
    def count(tree):
        return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))

    assert count(alexnet.expected_params()) == 2_469_696
    # 1,235,496 in all, of which 513,000 classify.
    assert count(squeezenet.expected_params()) == 722_496
    # Heads: what the published files hold.
    heads = [count(lpips._expected(net)["heads"]) for net in NETS]
    assert heads == [1_152, 1_472, 2_240]


def test_layers_on_request_and_in_bfloat16():
    params = alexnet.from_torch(random_trunk("alex"))
    x = pictures((1, 35, 35, 3))
    taken = jax.jit(lambda p, x: alexnet.features(p, x, ("conv2", "conv1"), jnp.bfloat16))(
        params, x
    )
    whole = jax.jit(lambda p, x: alexnet.features(p, x, ("conv2",)))(params, x)["conv2"]
    assert sorted(taken) == ["conv1", "conv2"]
    assert taken["conv2"].dtype == jnp.bfloat16
    error = jnp.max(jnp.abs(taken["conv2"].astype(jnp.float32) - whole))
    assert 0 < error < 0.05 * jnp.max(whole)


# -------------------------------------------------------------------------- what a distance does


def test_zero_for_equal_pictures_symmetric_and_by_pair(net_and_params):
    _, params = net_and_params
    x, y = pictures(), pictures(seed=1)
    y[0] = x[0]
    d = distance(params, x, y)
    assert 0 <= d[0] < 1e-12
    assert min(d[1:]) > 1e-3
    np.testing.assert_allclose(distance(params, y, x), d, rtol=1e-6, atol=1e-12)
    # A pair's distance does not depend on its neighbours in the batch.
    np.testing.assert_allclose(distance(params, x[::-1], y[::-1]), d[::-1], rtol=1e-5, atol=1e-12)


def test_grows_with_noise_and_with_blur(net_and_params):
    _, params = net_and_params
    x = np.repeat(pictures((1, *SHAPE[1:])), 3, axis=0)
    noise = np.random.default_rng(2).standard_normal(x[0].shape).astype(np.float32)
    noisy = distance(params, x, np.stack([x[0] + s * noise for s in (0.02, 0.1, 0.3)]))
    blurred = distance(
        params, x, np.stack([ndimage.gaussian_filter(x[0], (s, s, 0)) for s in (0.5, 1.0, 2.0)])
    )
    assert 0 < noisy[0] < noisy[1] < noisy[2]
    assert 0 < blurred[0] < blurred[1] < blurred[2]


def test_gradient_is_finite_even_where_all_features_are_zero():
    params = lpips.from_torch(random_trunk("alex") | random_heads("alex"))
    slope = jax.jit(jax.grad(lambda p, x, y: jnp.sum(lpips.lpips(p, x, y)), argnums=1))
    x, y = pictures(), pictures(seed=1)
    assert float(jnp.max(jnp.abs(slope(params, x, y)))) > 0
    dead = jax.tree.map(np.array, params)
    dead["trunk"]["conv1"]["bias"][:] = -1e3
    dead["trunk"]["conv2"]["bias"][:] = -1
    assert np.max(distance(dead, x, y)) < 1e-12
    np.testing.assert_array_equal(slope(dead, x, y), np.zeros_like(x))


def test_on_uint8_pictures_gray_or_not():
    params = lpips.from_torch(random_trunk("squeeze") | random_heads("squeeze"))
    measure = lpips.picture_distance(params)
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, *SHAPE[1:]), dtype=np.uint8)
    unit = [np.stack([v] * 3).astype(np.float32) / 127.5 - 1 for v in (a, b)]
    assert measure(a, b) == pytest.approx(float(distance(params, *unit)[0]), rel=1e-5)
    assert measure(a[..., 0], b[..., 0]) == pytest.approx(
        measure(*(np.repeat(v[..., :1], 3, -1) for v in (a, b))), rel=1e-6
    )


def test_unfit_arrays_are_explained(net_and_params):
    net, params = net_and_params
    least = {"alex": 31, "vgg": 16, "squeeze": 17}[net]
    small = jnp.zeros((1, least, 64, 3))
    assert jax.eval_shape(lpips.lpips, params, small, small).shape == (1,)
    with pytest.raises(UserError, match=f"at least {least}"):
        lpips.lpips(params, small[:, 1:], small[:, 1:])
    with pytest.raises(UserError, match=r"arrays alike, not \(1, 40, 40, 3\) and \(1, 40, 41, 3\)"):
        lpips.lpips(params, jnp.zeros((1, 40, 40, 3)), jnp.zeros((1, 40, 41, 3)))


# --------------------------------------------------------------------------------------- files


def whole_state(net):
    """The keys of a whole LPIPS: slices, heads twice, the input scaling."""
    state = {}
    for key, value in random_trunk(net).items():
        index = int(key.split(".")[1])
        part = 1 + sum(index > end for end in ENDS[net])
        state[f"net.slice{part}.{key.removeprefix('features.')}"] = value
    for key, value in random_heads(net).items():
        state[key] = value
        state[key.replace("lin", "lins.")] = value
    state["scaling_layer.shift"] = np.zeros((1, 3, 1, 1), np.float32)
    state["scaling_layer.scale"] = np.ones((1, 3, 1, 1), np.float32)
    return state


@pytest.mark.parametrize("net", ["alex", "squeeze"])
def test_two_files_in_any_order_or_one_whole(net, tmp_path):
    trunk, heads, whole = (tmp_path / f"{n}.safetensors" for n in ("trunk", "heads", "whole"))
    dense = {"classifier.1.weight": np.zeros((2, 2), np.float32)}
    weights.write_safetensors(trunk, random_trunk(net) | dense)
    weights.write_safetensors(heads, random_heads(net))
    weights.write_safetensors(whole, whole_state(net))
    expected = lpips.from_torch(random_trunk(net) | random_heads(net))
    for paths in ((trunk, heads), (heads, trunk), (whole,)):
        jax.tree.map(np.testing.assert_array_equal, lpips.load(*paths), expected)
    with pytest.raises(UserError, match=r"lin0.model.1.weight is in the other file too"):
        lpips.load(whole, heads)


def test_files_of_ours(tmp_path):
    expected = lpips.from_torch(random_trunk("squeeze") | random_heads("squeeze"))
    own = {"squeezenet1_1": expected["trunk"], "lpips_squeeze": expected["heads"]}
    for name, tree in own.items():
        weights.write_safetensors(tmp_path / f"{name}.safetensors", {name: tree})
    found = lpips.load(*(tmp_path / f"{name}.safetensors" for name in own))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_published_heads_from_their_pth_files(data_dir):
    for net in ("alex", "vgg"):
        heads = weights.read_tensors(data_dir / "weights" / f"lpips_lin_v0.1_{net}.pth")
        params = lpips.from_torch(random_trunk(net) | heads)
        for name, head in params["heads"].items():
            np.testing.assert_array_equal(head, heads[f"{name}.model.1.weight"].ravel())


def test_missing_files_and_parts_say_where_they_come_from(tmp_path):
    with pytest.raises(UserError) as error:
        lpips.load(tmp_path / "alexnet.pth")
    for part in (
        f"{tmp_path}/alexnet.pth",
        "alexnet-owt-7be5be79.pth",
        "vgg16-397923af.pth",
        "squeezenet1_1-b8a52dc0.pth",
        "IMAGENET1K_V1",
        "weights/v0.1/alex.pth",
    ):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"no trunk of LPIPS .*AlexNet"):
        lpips.from_torch(random_heads("alex"))
    with pytest.raises(UserError, match=r"no LPIPS heads .*squeezenet1_1.*v0.1/squeeze.pth"):
        lpips.from_torch(random_trunk("squeeze"))


def test_weights_that_do_not_fit_are_explained():
    with pytest.raises(
        UserError, match=r"the trunk is that of LPIPS-alex, but the heads .*-squeeze"
    ):
        lpips.from_torch(random_trunk("alex") | random_heads("squeeze"))
    with pytest.raises(UserError, match=r"VGG19, but LPIPS has VGG16; .*vgg16-397923af.pth"):
        lpips.from_torch(
            random_trunk("vgg") | random_heads("vgg") | {"features.34.weight": np.zeros(1)}
        )
    # Trunk and heads in one error.
    state = random_trunk("alex") | random_heads("alex") | {"features.99.weight": np.zeros(3)}
    del state["features.3.bias"]
    state["lin2.model.1.weight"] = np.zeros((1, 7, 1, 1), np.float32)
    with pytest.raises(UserError) as error:
        lpips.from_torch(state)
    for part in ("1 missing: features.3.bias", "1 extra: features.99.weight",
                 "1 misshapen: lin2.model.1.weight (1, 7, 1, 1)"):  # fmt: skip
        assert part in str(error.value)
    state = random_trunk("alex") | random_heads("alex")
    state["lin1.model.1.weight"] = state["lin1.model.1.weight"] - 0.5
    with pytest.raises(UserError, match="lin1: negative weights"):
        lpips.from_torch(state)
