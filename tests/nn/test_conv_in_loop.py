"""Convolutions' gradients in the body of a loop: the same values, and without XLA's slow form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.devices import in_loop
from jaxgen.nn import plain_conv
from jaxgen.nn.conv import Conv
from jaxgen.nn.cpu import dense, gradients
from jaxgen.nn.plain_conv import Form

# (b, h, w), kernel, c, n, strides, pads: narrow, wide ends, odd sizes, discriminators' strides.
SHAPES = {
    "narrow": ((2, 9, 7), (3, 3), 5, 6, (1, 1), (1, 1)),
    "point": ((2, 9, 7), (1, 1), 5, 6, (1, 1), (0, 0)),
    "large": ((1, 12, 13), (9, 9), 3, 8, (1, 1), (4, 4)),
    "winograd": ((1, 61, 62), (3, 3), 64, 64, (1, 1), (1, 1)),
    "strided": ((2, 9, 12), (3, 3), 5, 6, (2, 2), (1, 1)),
    "patch": ((2, 16, 16), (4, 4), 5, 6, (2, 2), (1, 1)),
    "uneven": ((2, 11, 8), (4, 3), 5, 6, (2, 1), (1, 0)),
    "unpadded": ((2, 12, 12), (4, 4), 3, 6, (4, 4), (0, 0)),
    "padded_beyond": ((2, 6, 6), (1, 1), 3, 6, (1, 1), (1, 1)),
}


def arrays(name):
    (b, h, w), size, c, n, strides, pads = SHAPES[name]
    rng = np.random.default_rng(0)
    form = Form(strides, pads)
    x = jnp.asarray(rng.standard_normal((b, h, w, c)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((*size, c, n)), jnp.float32)
    y = plain_conv.conv([x], kernel, form)
    return x, kernel, jnp.asarray(rng.standard_normal(y.shape), jnp.float32), form


@pytest.mark.parametrize("at_once", [gradients.AT_ONCE, 0])
@pytest.mark.parametrize("name", SHAPES)
def test_both_gradients_are_those_of_the_plain_ones(name, at_once, monkeypatch):
    """All taps of the input's gradient at once, or a convolution for each place in a stride."""
    monkeypatch.setattr(gradients, "AT_ONCE", at_once)
    x, kernel, g, form = arrays(name)
    way = dense if dense.takes(kernel.shape, form) else gradients
    pairs = [
        (
            way.kernel_gradient_in_loop([x], g, form, kernel.shape[:2]),
            plain_conv.kernel_gradient([x], g, form, kernel.shape[:2]),
        ),
        (
            gradients.input_gradient(g, kernel, form, x.shape[1:3]),
            plain_conv.input_gradient(g, kernel, form, x.shape[1:3]),
        ),
    ]
    for got, wanted in pairs:
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("strides", [1, 2])
def test_a_layer_in_a_loop_has_no_dilated_convolution(strides):
    layer = Conv(6, 3, strides)
    x = jnp.ones((2, 12, 12, 5))
    variables = jax.jit(layer.init)(jax.random.key(0), x)

    def slope(variables, x):
        return jax.grad(lambda v, x: jnp.square(layer.apply(v, x)).sum(), (0, 1))(variables, x)

    def looped(variables, x):
        def body(total, _):
            with in_loop():
                return jax.tree.map(jnp.add, total, slope(variables, x)), None

        zeros = jax.tree.map(jnp.zeros_like, (variables, x))
        return jax.lax.scan(body, zeros, None, length=3)[0]

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, 3 * b, rtol=1e-4, atol=1e-4),
        jax.jit(looped)(variables, x),
        jax.jit(slope)(variables, x),
    )
    lowered = {f: jax.jit(f).trace(variables, x).lower(lowering_platforms=("cpu",)).as_text()
               for f in (looped, slope)}  # fmt: skip
    slow = "[f, 0, 1, b]"  # pictures as channels: a kernel's gradient
    assert slow in lowered[slope]
    assert slow not in lowered[looped]
    assert "lhs_dilate = [2" not in lowered[looped]
    elsewhere = jax.jit(looped).trace(variables, x).lower(lowering_platforms=("cuda",)).as_text()
    assert slow in elsewhere, "other platforms keep XLA's own"
