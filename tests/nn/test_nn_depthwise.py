"""jaxgen.nn.depthwise equals XLA's and PyTorch's convolutions: values, two derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import in_float64
from support.referees import pytorch

from jaxgen import weights
from jaxgen.nn import depthwise
from jaxgen.nn.depthwise import SeparableConv, depthwise_conv2d

# (b, h, w, c), k: heights of one band, of two even ones, and of two that need filling.
SHAPES = [((2, 9, 7, 5), 3), ((1, 64, 11, 3), 5), ((2, 35, 12, 8), 9), ((3, 1, 1, 2), 3)]


def numbers(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def reference(x, kernel, strides=1):
    pad = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (strides, strides),
        [(pad, pad)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[3],
    )


def assert_close(got, wanted, tolerance=1e-5):
    got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= tolerance * np.abs(wanted).max()


@pytest.mark.parametrize(("shape", "k"), SHAPES)
def test_forward_and_both_gradients_equal_float64(shape, k):
    x, kernel, g = numbers(0, *shape), numbers(1, k, k, 1, shape[-1]), numbers(2, *shape)

    def all_three(conv):
        def f(x, kernel, g):
            y, pullback = jax.vjp(conv, x, kernel)
            return y, *pullback(g)

        return f

    got = jax.jit(all_three(depthwise_conv2d))(x, kernel, g)
    for a, b in zip(got, in_float64(all_three(reference), x, kernel, g), strict=True):
        assert_close(a, b)


def test_gradient_penalty_equals_plain_convolution():
    x, kernel = numbers(0, 2, 8, 7, 3), numbers(1, 3, 3, 1, 3)

    def penalty(conv):
        def loss(x, k):
            return jnp.sum(jnp.sin(conv(x, k)))

        def f(x, k):
            return sum(jnp.sum(d**2) for d in jax.grad(loss, argnums=(0, 1))(x, k))

        return jax.grad(f, argnums=(0, 1))

    got = jax.jit(penalty(depthwise_conv2d))(x, kernel)
    for a, b in zip(got, in_float64(penalty(reference), x, kernel), strict=True):
        assert_close(a, b)


def test_strides_even_kernels_and_bfloat16():
    x = numbers(0, 1, 9, 8, 4)
    for k, strides in ((3, 2), (4, 1)):
        kernel = numbers(1, k, k, 1, 4)
        assert_close(depthwise_conv2d(x, kernel, strides), reference(x, kernel, strides))
    layer = SeparableConv(3, 5, dtype=jnp.bfloat16)
    y, variables = layer.init_with_output(jax.random.key(0), x)
    assert y.dtype == jnp.bfloat16
    assert {a.dtype for a in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert_close(y, SeparableConv(3, 5).apply(variables, x), 3e-2)


@pytest.mark.parametrize("features", [3, 16])  # as one dense convolution, and as two
@pytest.mark.parametrize(
    ("kernel_size", "strides", "use_bias"), [(3, 1, True), (9, 1, False), (3, 2, True)]
)
def test_separable_equals_torch_with_gradients(features, kernel_size, strides, use_bias):
    torch = pytorch()
    assert 3 <= depthwise.DENSE_FEATURES < 16
    net = torch.nn.Sequential(
        torch.nn.Conv2d(6, 6, kernel_size, strides, kernel_size // 2, groups=6, bias=use_bias),
        torch.nn.Conv2d(6, features, 1, bias=use_bias),
    )
    x = numbers(0, 2, 12, 13, 6)
    layer = SeparableConv(features, kernel_size, strides, use_bias)
    names = {"0": "depthwise", "1": "pointwise"}
    rules = [
        rule for source, target in names.items() for rule in weights.module_rules(source, target)
    ]
    tensors = {key: value.detach().numpy() for key, value in net.named_parameters()}
    params = weights.convert(tensors, rules, jax.jit(layer.init)(jax.random.key(0), x)["params"])

    inputs = torch.from_numpy(np.asarray(x).transpose(0, 3, 1, 2).copy()).requires_grad_()
    output = net(inputs)
    torch.sum(torch.sin(output)).backward()

    def loss(params, x):
        y = layer.apply({"params": params}, x)
        return jnp.sum(jnp.sin(y)), y

    (dparams, dx), y = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(params, x)
    assert_close(y, output.detach().numpy().transpose(0, 2, 3, 1))
    assert_close(dx, inputs.grad.numpy().transpose(0, 2, 3, 1))
    got = weights.to_torch(dparams, rules)
    for key, value in net.named_parameters():
        assert_close(got[key], value.grad.numpy())


def test_zero_pointwise_kernel_starts_at_zero_and_learns():
    x = numbers(0, 1, 8, 8, 4)
    layer = SeparableConv(3, 3, kernel_init=jax.nn.initializers.zeros)
    y, variables = layer.init_with_output(jax.random.key(0), x)
    assert not np.any(y)
    grads = jax.grad(lambda v: jnp.sum((layer.apply(v, x) - 1.0) ** 2))(variables)["params"]
    assert np.abs(grads["pointwise"]["kernel"]).max() > 0
