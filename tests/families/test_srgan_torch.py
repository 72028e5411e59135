"""SRGAN's networks equal the same networks in PyTorch with the same weights, 1e-5, float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.referees import pytorch

from jaxgen.models.srgan.discriminator import Discriminator
from jaxgen.models.srgan.generator import KerasGenerator, SRResNet

torch = pytorch()
from torch import nn  # noqa: E402


def randomised(module, x):
    """Variables with every statistic and gain away from its initial value."""
    variables = jax.jit(module.init)(jax.random.key(0), x)
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [
        v + 0.1 * jax.random.normal(k, v.shape) * jnp.maximum(jnp.abs(v).mean(), 0.1)
        for v, k in zip(leaves, keys, strict=True)
    ]
    variables = jax.tree.unflatten(tree, noisy)
    return jax.tree_util.tree_map_with_path(
        lambda path, v: np.abs(v) if path[-1].key == "var" else np.asarray(v), variables
    )


def conv(variables, name, strides=1):
    weights = variables["params"][name]
    k, _, c, n = weights["kernel"].shape
    layer = nn.Conv2d(c, n, k, strides, k // 2)
    layer.weight.data = torch.tensor(weights["kernel"].transpose(3, 2, 0, 1))
    layer.bias.data = torch.tensor(weights["bias"])
    return layer


def norm(variables, name):
    gains, moments = variables["params"][name], variables["batch_stats"][name]
    layer = nn.BatchNorm2d(len(gains["scale"]))
    layer.weight.data, layer.bias.data = torch.tensor(gains["scale"]), torch.tensor(gains["bias"])
    layer.running_mean, layer.running_var = (torch.tensor(moments[k]) for k in ("mean", "var"))
    return layer


def prelu(variables, name):
    alpha = variables["params"][name]["alpha"]
    layer = nn.PReLU(len(alpha))
    layer.weight.data = torch.tensor(alpha)
    return layer


def dense(variables, name, kernel=None):
    weights = variables["params"][name]
    kernel = weights["kernel"] if kernel is None else kernel
    layer = nn.Linear(*kernel.shape)
    layer.weight.data, layer.bias.data = torch.tensor(kernel.T), torch.tensor(weights["bias"])
    return layer


def run(layers, x):
    with torch.inference_mode():
        return nn.Sequential(*layers).eval()(x)


def relative(ours, theirs):
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


# 80 x 80 is large enough for the Winograd path of the up-stages.
@pytest.mark.parametrize("size", [(24, 24), (80, 77)])
def test_generator(size):
    module = SRResNet(blocks=4)
    x = np.random.default_rng(0).uniform(-1, 1, (1, *size, 3)).astype(np.float32)
    v = randomised(module, jnp.asarray(x[:, :8, :8]))
    ours = np.asarray(jax.jit(module.apply)(v, x))

    first = run([conv(v, "conv_in"), prelu(v, "prelu_in")], torch.tensor(x).permute(0, 3, 1, 2))
    y = first
    for i in range(4):
        b = f"block_{i}"
        y = y + run(
            [
                conv(v, f"{b}_conv_0"),
                norm(v, f"{b}_norm_0"),
                prelu(v, f"{b}_prelu"),
                conv(v, f"{b}_conv_1"),
                norm(v, f"{b}_norm_1"),
            ],
            y,
        )
    y = first + run([conv(v, "conv_trunk"), norm(v, "norm_trunk")], y)
    for i in range(2):
        up = [conv(v, f"up_{i}_conv"), nn.PixelShuffle(2), prelu(v, f"up_{i}_prelu")]
        y = run(up, y)
    theirs = run([conv(v, "conv_out")], y).permute(0, 2, 3, 1).numpy()
    assert ours.shape == theirs.shape
    assert relative(ours, theirs) <= 1e-5


def test_inception_generator():
    """Keras' block35 on the trunk: bias-free convolutions, BatchNorm without gain, epsilon 1e-3."""
    module = KerasGenerator(blocks=2, inception=True)
    x = np.random.default_rng(0).uniform(-1, 1, (1, 19, 24, 3)).astype(np.float32)
    v = randomised(module, jnp.asarray(x[:, :8, :8]))
    ours = np.asarray(jax.jit(module.apply)(v, x))

    def conv_norm(block, name, y):
        kernel = torch.tensor(v["params"][block][name]["kernel"].transpose(3, 2, 0, 1))
        moments = v["batch_stats"][block][name]["norm"]
        moments = [torch.tensor(moments[k]).reshape(1, -1, 1, 1) for k in ("mean", "var")]
        shift = torch.tensor(v["params"][block][name]["norm"]["bias"]).reshape(1, -1, 1, 1)
        y = nn.functional.conv2d(y, kernel, None, 1, kernel.shape[-1] // 2)
        return torch.relu((y - moments[0]) / torch.sqrt(moments[1] + 1e-3) + shift)

    def norm_trunk(y):
        layer = norm(v, "norm_trunk")
        layer.eps = 1e-3
        return run([layer], y)

    first = run([conv(v, "conv_in"), prelu(v, "prelu_in")], torch.tensor(x).permute(0, 3, 1, 2))
    y = first
    for block in ("block_0", "block_1"):
        ends = [conv_norm(block, "branch0", y)]
        for branch, depth in ((1, 2), (2, 3)):
            end = y
            for i in range(depth):
                end = conv_norm(block, f"branch{branch}_{i}", end)
            ends.append(end)
        assert [end.shape[1] for end in ends] == [32, 32, 64]
        y = torch.relu(y + 0.17 * run([conv(v, block)], torch.cat(ends, 1)))
    y = first + norm_trunk(run([conv(v, "conv_trunk")], y))
    for i in range(2):
        y = run([conv(v, f"up_{i}_conv"), nn.UpsamplingNearest2d(scale_factor=2)], y)
        y = nn.functional.leaky_relu(y, 0.2)
    theirs = torch.tanh(run([conv(v, "conv_out")], y)).permute(0, 2, 3, 1).numpy()
    assert ours.shape == theirs.shape == (1, 76, 96, 3)
    assert relative(ours, theirs) <= 1e-5


@pytest.mark.parametrize("head", ["dense", "pool"])
def test_discriminator(head):
    module = Discriminator(features=8, hidden=16, head=head)
    x = np.random.default_rng(0).uniform(-1, 1, (3, 32, 48, 3)).astype(np.float32)
    v = randomised(module, jnp.asarray(x))
    ours = np.asarray(jax.jit(module.apply)(v, x))

    layers = [conv(v, "conv_0"), nn.LeakyReLU(0.2)]
    for i in range(1, 8):
        layers += [conv(v, f"conv_{i}", 1 + i % 2), norm(v, f"norm_{i}"), nn.LeakyReLU(0.2)]
    y = run(layers, torch.tensor(x).permute(0, 3, 1, 2))  # (3, 64, 2, 3)
    if head == "pool":
        y, kernel = y.mean((2, 3)), None
    else:
        # Ours flattens (h, w, c), PyTorch (c, h, w).
        kernel = v["params"]["dense_0"]["kernel"].reshape(2, 3, 64, 16)
        y, kernel = y.flatten(1), kernel.transpose(2, 0, 1, 3).reshape(-1, 16)
    theirs = run([dense(v, "dense_0", kernel), nn.LeakyReLU(0.2), dense(v, "dense_1")], y)
    assert relative(ours, theirs[:, 0].numpy()) <= 1e-5
