"""jaxgen.nn.pool equals flax's and PyTorch's: values, the gradients of ties, platforms."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.referees import pytorch

from jaxgen.nn.pool import max_pool

# (h, w), window, stride, pads: VGG's, ResNet's, SqueezeNet's last window, a gap, an overlap of two.
FORMS = {
    "vgg": ((8, 11), 2, 2, ((0, 0), (0, 0))),
    "resnet": ((9, 12), 3, 2, ((1, 1), (1, 1))),
    "over": ((10, 9), 3, 2, ((0, 1), (0, 0))),
    "gap": ((11, 12), 2, 3, ((0, 0), (0, 0))),
    "dense": ((7, 6), 4, 1, ((1, 2), (2, 1))),
}


def arrays(name):
    """Small whole numbers: most windows have several largest ones, and all sums are exact."""
    (h, w), window, stride, pads = FORMS[name]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(0, 3, (2, h, w, 5)), jnp.float32)
    y = flax_pool(x, window, stride, pads)
    return x, jnp.asarray(rng.integers(-9, 9, y.shape), jnp.float32), (window, stride, pads)


def flax_pool(x, window, stride, pads):
    return nn.max_pool(x, (window, window), (stride, stride), pads)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", FORMS)
def test_values_and_gradients_of_ties_equal_flax(name, dtype):
    x, g, form = arrays(name)
    x, g = x.astype(dtype), g.astype(dtype)
    got = jax.jit(lambda x, g: jax.vjp(lambda x: max_pool(x, *form), x)[1](g)[0])(x, g)
    wanted = jax.jit(lambda x, g: jax.vjp(lambda x: flax_pool(x, *form), x)[1](g)[0])(x, g)
    np.testing.assert_array_equal(max_pool(x, *form), flax_pool(x, *form))
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("name", ["vgg", "resnet"])
def test_gradients_equal_pytorch(name):
    torch = pytorch()
    x, g, (window, stride, pads) = arrays(name)
    there = torch.tensor(np.asarray(x).transpose(0, 3, 1, 2), requires_grad=True)
    y = torch.nn.functional.max_pool2d(there, window, stride, pads[0][0])
    y.backward(torch.tensor(np.asarray(g).transpose(0, 3, 1, 2)))
    got = jax.vjp(lambda x: max_pool(x, window, stride, pads), x)[1](g)[0]
    np.testing.assert_array_equal(got, there.grad.numpy().transpose(0, 2, 3, 1))


def test_second_order():
    """The gradient is linear in what comes back, and the places do not move."""
    x, g, form = arrays("resnet")

    def slope(pool):
        def inner(x, g):
            return jax.vjp(lambda x: pool(x, *form), x)[1](g)[0]

        return jax.grad(lambda x, g: jnp.sum(jnp.sin(inner(x, g))), argnums=(0, 1))(x, g)

    for got, wanted in zip(slope(max_pool), slope(flax_pool), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_accelerators_keep_xla_s_way():
    x, g, form = arrays("vgg")
    f = jax.jit(lambda x, g: jax.vjp(lambda x: max_pool(x, *form), x)[1](g)[0])
    held = {
        platform: "select_and_scatter"
        in f.trace(x, g).lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "tpu", "cuda")
    }
    assert held == {"cpu": False, "tpu": True, "cuda": True}
