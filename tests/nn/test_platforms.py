"""A program holds the convolutions of the platform that it is lowered for, whatever its host."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jaxgen.models.srgan.generator import SRResNet
from jaxgen.models.swift_srgan.generator import SwiftGenerator
from jaxgen.nn import attention as attention_module
from jaxgen.nn.attention import attention
from jaxgen.nn.conv import conv2d
from jaxgen.nn.dcgan import transposed_conv2d
from jaxgen.nn.depthwise import SeparableConv, depthwise_conv2d


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def separable(x, deep, point):
    layer = SeparableConv(3, 3, use_bias=False)
    return layer.apply(
        {"params": {"depthwise": {"kernel": deep}, "pointwise": {"kernel": point}}}, x
    )


PICTURE = shape(2, 33, 34, 64)
# The layer, its arrays, and the convolutions that it is made of: as many for each gradient.
LAYERS = {
    "winograd": (conv2d, (PICTURE, shape(3, 3, 64, 64)), 1),
    "several": (lambda x, kernel: conv2d([x, x], kernel), (PICTURE, shape(3, 3, 128, 64)), 1),
    "point": (conv2d, (PICTURE, shape(1, 1, 64, 5)), 1),
    "few_out": (conv2d, (PICTURE, shape(3, 3, 64, 3)), 1),
    "depthwise": (depthwise_conv2d, (PICTURE, shape(3, 3, 1, 64)), 1),
    "thinned": (lambda x, k: depthwise_conv2d(x, k, 2), (PICTURE, shape(3, 3, 1, 64)), 1),
    "separable": (separable, (PICTURE, shape(3, 3, 1, 64), shape(1, 1, 64, 3)), 2),
    "transposed": (transposed_conv2d, (PICTURE, shape(4, 4, 64, 16)), 1),
}


def value_and_gradients(f):
    def everything(*arrays):
        y, pullback = jax.vjp(f, *arrays)
        return y, pullback(jnp.cos(y))

    return everything


def lowered(f, arrays, platform):
    return jax.jit(f).trace(*arrays).lower(lowering_platforms=(platform,)).as_text()


def counts(text):
    """(convolutions, matrix products) of a StableHLO text."""
    return text.count("stablehlo.convolution"), text.count("stablehlo.dot_general")


@pytest.mark.parametrize("name", LAYERS)
def test_accelerators_get_plain_convolutions_on_a_cpu_host(name):
    layer, arrays, convolutions = LAYERS[name]
    assert jax.default_backend() == "cpu"
    for platform in ("tpu", "cuda"):
        f = value_and_gradients(layer)
        assert counts(lowered(f, arrays, platform)) == (3 * convolutions, 0), platform


@pytest.mark.parametrize("name", LAYERS)
def test_cpus_get_their_own_ways_without_a_branch(name):
    layer, arrays, convolutions = LAYERS[name]
    f = value_and_gradients(layer)
    there, products = counts(lowered(f, arrays, "cpu"))
    assert there < 3 * convolutions or products
    assert not re.search(r"\bconditional\(", jax.jit(f).lower(*arrays).compile().as_text())


@pytest.mark.parametrize("name", ["point", "few_out", "thinned", "separable", "transposed"])
def test_one_by_one_under_vmap_equals_the_batch(name):
    layer, (picture, *kernels), _ = LAYERS[name]
    keys = jax.random.split(jax.random.key(0), 1 + len(kernels))
    x, *kernels = (
        jax.random.normal(key, s.shape) for key, s in zip(keys, (picture, *kernels), strict=True)
    )

    def gradients(x, *kernels):
        return jax.grad(lambda *arrays: jnp.sum(jnp.sin(layer(*arrays))), range(1 + len(kernels)))(
            x, *kernels
        )

    each = jax.vmap(gradients, in_axes=(0, *[None] * len(kernels)))(x[:, None], *kernels)
    whole = gradients(x, *kernels)
    np.testing.assert_allclose(each[0][:, 0], whole[0], atol=1e-4 * jnp.abs(whole[0]).max())
    for a, b in zip(each[1:], whole[1:], strict=True):
        np.testing.assert_allclose(a.sum(0), b, atol=1e-4 * jnp.abs(b).max())


def test_gradient_penalties_too():
    """Second order: four convolutions, one of which is computed twice."""
    kernel = shape(3, 3, 64, 64)

    def penalty(kernel, x):
        return jnp.sum(jax.grad(lambda x: jnp.sum(jnp.sin(conv2d(x, kernel))))(x) ** 2)

    found = [counts(lowered(jax.grad(penalty), (kernel, PICTURE), p)) for p in ("tpu", "cpu")]
    assert found[0][0] >= 4
    assert found[0][1] == found[1][0] == 0


@pytest.mark.parametrize(
    ("net", "size"),
    [(SRResNet(blocks=1), (2, 24, 24, 3)), (SwiftGenerator(blocks=1), (2, 24, 24, 3))],
)
def test_whole_networks_hold_no_products_for_a_tpu(net, size):
    variables = jax.eval_shape(net.init, jax.random.key(0), shape(*size))

    def loss(params, state, x):
        y, _ = net.apply({"params": params, **state}, x, train=True, mutable=list(state))
        return jnp.mean(y**2)

    params, state = variables["params"], {k: v for k, v in variables.items() if k != "params"}
    convolutions, products = counts(lowered(jax.grad(loss), (params, state, shape(*size)), "tpu"))
    kernels = sum(leaf.ndim == 4 for leaf in jax.tree.leaves(params))
    assert products == 0
    assert convolutions == 3 * kernels - 1  # none for the picture's own gradient


def test_a_program_for_several_platforms_chooses_when_it_runs():
    x, kernel = jnp.ones((2, 33, 34, 64)), jnp.ones((3, 3, 64, 64))
    exported = export.export(jax.jit(conv2d), platforms=("cpu", "tpu"))(x, kernel)
    assert jnp.allclose(exported.call(x, kernel), conv2d(x, kernel), rtol=1e-5)


def test_cudnn_s_attention_is_in_programs_for_cuda_alone(monkeypatch):
    """On a host that has it; here its place is taken by an operation that nothing else uses."""
    monkeypatch.setattr(attention_module, "_fused", lambda *arrays: True)
    monkeypatch.setattr(jax.nn, "dot_product_attention", lambda q, k, v, **kwargs: jnp.atan2(q, v))
    arrays = shape(2, 6, 1, 8), shape(2, 6, 1, 8), shape(2, 6, 1, 8)
    f = value_and_gradients(lambda q, k, v: attention(q, k, v, jnp.ones((2, 6), bool)))
    held = {p: "stablehlo.atan2" in lowered(f, arrays, p) for p in ("cpu", "tpu", "cuda")}
    assert held == {"cpu": False, "tpu": False, "cuda": True}
