"""Spectral normalisation: the singular value it finds, its state, PyTorch's arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.referees import pytorch

from jaxgen.nn import spectral_norm
from jaxgen.nn.spectral_norm import SpectralConv, SpectralDense
from jaxgen.weights.keymap import convert, to_torch


@pytest.fixture
def kernel():
    return jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 4, 8)), jnp.float32)


def start(kernel):
    rng = np.random.default_rng(1)
    u, v = (rng.normal(size=shape) for shape in (kernel.shape[-1:], kernel.shape[:-1]))
    return jnp.asarray(u / np.linalg.norm(u), jnp.float32), jnp.asarray(v, jnp.float32)


def test_iterated_it_divides_by_the_largest_singular_value(kernel):
    normal, u, v = spectral_norm.normalize(kernel, *start(kernel), steps=100)
    matrix = np.asarray(kernel, np.float64).reshape(-1, 8)
    np.testing.assert_allclose(normal * np.linalg.norm(matrix, 2), kernel, rtol=1e-5)
    assert np.linalg.norm(np.asarray(normal).reshape(-1, 8), 2) == pytest.approx(1.0, abs=1e-5)
    for vector in (u, v):
        assert float(jnp.linalg.norm(vector)) == pytest.approx(1.0, abs=1e-6)


def test_gradient_flows_through_sigma_but_not_into_the_vectors(kernel):
    """d(W / sigma) = dW / sigma - W (u^T dW v) / sigma^2."""
    u, v = start(kernel)
    weight = jnp.asarray(np.random.default_rng(2).normal(size=kernel.shape), jnp.float32)
    _, new_u, new_v = spectral_norm.normalize(kernel, u, v, steps=1)

    def loss(kernel):
        return jnp.sum(weight * spectral_norm.normalize(kernel, u, v, steps=1)[0])

    matrix = kernel.reshape(-1, 8)
    sigma = new_v.reshape(-1) @ matrix @ new_u
    outer = jnp.outer(new_v.reshape(-1), new_u).reshape(kernel.shape)
    expected = weight / sigma - jnp.sum(weight * kernel) / sigma**2 * outer
    np.testing.assert_allclose(jax.grad(loss)(kernel), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", [SpectralConv(5, 3), SpectralDense(5)])
def test_state_moves_in_training_only(layer):
    x = jax.random.normal(jax.random.key(1), (2, 6, 6, 4))
    variables = layer.init(jax.random.key(0), x, train=True)
    assert set(variables) == {"params", "spectral"}
    assert variables["params"]["kernel"].dtype == jnp.float32
    plain, kept = layer.apply(variables, x, mutable=["spectral"])
    assert jax.tree.all(jax.tree.map(jnp.array_equal, kept["spectral"], variables["spectral"]))
    trained, moved = layer.apply(variables, x, train=True, mutable=["spectral"])
    before, after = variables["spectral"]["norm"], moved["spectral"]["norm"]
    assert all(not jnp.array_equal(before[name], after[name]) for name in ("u", "v"))
    # A training pass uses the vectors that it stores; without a place to store them it can run too.
    again = layer.apply({**variables, **moved}, x)
    np.testing.assert_allclose(again, trained, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(layer.apply(variables, x, train=True), trained)
    assert not jnp.allclose(plain, trained)


def test_bfloat16_computes_in_it_and_keeps_float32_state():
    layer = SpectralConv(5, 3, dtype=jnp.bfloat16)
    x = jnp.ones((1, 6, 6, 4))
    variables = jax.jit(layer.init)(jax.random.key(0), x)
    y, state = layer.apply(variables, x, train=True, mutable=["spectral"])
    assert y.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state))


def torch_case(kind):
    """(torch layer under spectral norm, ours, rules, torch input, our input)."""
    torch = pytorch()
    norm = torch.nn.utils.spectral_norm
    torch.manual_seed(0)
    if kind == "dense":
        x = torch.randn(3, 7)
        ours, rules = SpectralDense(5), spectral_norm.rules("layer", "layer")
        return norm(torch.nn.Linear(7, 5)), ours, rules, x, x.numpy()
    size, stride = {"conv": (3, 1), "strided": (4, 2)}[kind]
    x = torch.randn(2, 6, 8, 10)
    layer = norm(torch.nn.Conv2d(6, 5, size, stride, 1))
    ours = SpectralConv(5, size, strides=stride, padding=1)
    return layer, ours, spectral_norm.rules("layer", "layer", size), x, nhwc(x)


def nhwc(tensor):
    array = tensor.detach().numpy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def state_dict(layer):
    return {f"layer.{key}": value.numpy().copy() for key, value in layer.state_dict().items()}


@pytest.mark.parametrize("kind", ["conv", "strided", "dense"])
def test_three_training_passes_equal_pytorch_and_convert_both_ways(kind):
    layer, ours, rules, x, our_x = torch_case(kind)
    empty = jax.eval_shape(ours.init, jax.random.key(0), our_x)
    variables = nested(
        convert(state_dict(layer), rules, {k: {"layer": v} for k, v in empty.items()})
    )
    for _ in range(3):
        expected = nhwc(layer(x))
        y, state = ours.apply(variables, our_x, train=True, mutable=["spectral"])
        np.testing.assert_allclose(y, expected, atol=1e-5 * np.abs(expected).max())
        variables = {**variables, **state}
    layer.eval()
    np.testing.assert_allclose(
        ours.apply(variables, our_x), nhwc(layer(x)), atol=1e-5 * np.abs(expected).max()
    )
    back = to_torch({k: {"layer": v} for k, v in variables.items()}, rules)
    theirs = state_dict(layer)
    assert back.keys() == theirs.keys()
    for key in back:
        np.testing.assert_allclose(back[key], theirs[key], atol=1e-6, err_msg=key)


def nested(tree):
    return {collection: values["layer"] for collection, values in tree.items()}


def test_a_whole_net_is_normalised_kernel_by_kernel():
    rng = np.random.default_rng(0)
    params = {
        "conv": {"kernel": rng.normal(size=(3, 3, 4, 6)).astype("f"), "bias": np.ones(6, "f")},
        "dense": {"kernel": rng.normal(size=(5, 7)).astype("f")},
    }
    vectors = spectral_norm.start_tree(jax.random.key(0), params)
    assert sorted(vectors) == ["conv/kernel", "dense/kernel"]
    normed, vectors = spectral_norm.normalize_tree(params, vectors, steps=100)
    for name in ("conv", "dense"):
        kernel = np.asarray(normed[name]["kernel"])
        largest = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)[0]
        np.testing.assert_allclose(largest, 1.0, rtol=1e-3)
    np.testing.assert_array_equal(normed["conv"]["bias"], params["conv"]["bias"])
