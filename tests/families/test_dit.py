"""DiT: published counts, the paper's form written out, the same calls as the UNet's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.diffusion import filled

from jaxgen.errors import UserError
from jaxgen.models.ldm.dit import DiT, check, positions
from jaxgen.nn.attention import mixed, probabilities
from jaxgen.nn.control import KEPT, kept

SMALL = DiT(out=3, width=16, layers=2, heads=2)


def shapes(net, channels=4):
    arrays = [jax.ShapeDtypeStruct((1, 8, 8, channels), "float32")]
    arrays.append(jax.ShapeDtypeStruct((1,), "float32"))
    return jax.eval_shape(net.init, jax.random.key(0), *arrays)


@pytest.mark.parametrize(
    ("width", "layers", "heads", "count"),
    [(384, 12, 6, 32_865_056), (768, 12, 12, 130_315_808), (1152, 28, 16, 674_834_720)],
    ids=["S/2", "B/2", "XL/2"],
)
def test_published_counts(width, layers, heads, count):
    net = DiT(out=8, width=width, layers=layers, heads=heads, classes=1000)
    found = sum(leaf.size for leaf in jax.tree.leaves(shapes(net)))
    # Of the paper's layers: a block has 18 w^2 + 15 w, and time, classes, patches and the end.
    block = 18 * width**2 + 15 * width
    time = 256 * width + width + width**2 + width
    end = 2 * width**2 + 2 * width + 32 * width + 32
    assert found == layers * block + time + 1001 * width + 17 * width + end
    assert found == count


def test_positions_are_the_paper_s():
    """2-D sines and cosines as `get_2d_sincos_pos_embed` has them: of the column first."""
    found = np.asarray(positions(2, 3, 8))
    rates = 1 / 10000 ** (np.arange(2) / 2)
    for row in range(2):
        for column in range(3):
            wanted = [f(n * rates) for n in (column, row) for f in (np.sin, np.cos)]
            np.testing.assert_allclose(
                found[3 * row + column], np.concatenate(wanted), rtol=1e-5, atol=1e-6
            )


@pytest.fixture(scope="module")
def small():
    """(net, variables all random, x, t, context)."""
    net = SMALL.clone(context=6)
    x = jax.random.normal(jax.random.key(1), (2, 8, 4, 3))
    t, context = jnp.array([3.0, 700.0]), jax.random.normal(jax.random.key(2), (2, 5, 6))
    return net, filled(jax.jit(net.init)(jax.random.key(0), x, t, context)), x, t, context


def test_a_new_net_gives_zeros(small):
    net, _, x, t, context = small
    y = jax.jit(net.init_with_output)(jax.random.key(0), x, t, context)[0]
    assert y.shape == x.shape
    assert not y.any()


def test_a_control_reads_every_layer(small):
    net, variables, *inputs = small

    def control(layer, q, k, v, mask):
        found = probabilities(q, k, mask)
        return mixed(found, v), found

    y, state = jax.jit(lambda: net.apply(variables, *inputs, control=control, mutable=[KEPT]))()
    np.testing.assert_allclose(y, jax.jit(net.apply)(variables, *inputs), atol=1e-5)
    assert {name: a.shape for name, a in kept(state).items()} == {
        f"block_{i}/attn{n}": (2, 2, 8, 8 if n == 1 else 5) for i in (0, 1) for n in (1, 2)
    }


def test_masks_and_remat(small):
    net, variables, x, t, context = small
    mask = jnp.array([[True] * 3 + [False] * 2] * 2)
    apply = jax.jit(net.apply)
    plain = apply(variables, x, t, context[:, :3])
    np.testing.assert_allclose(apply(variables, x, t, context, mask), plain, atol=1e-5)

    def loss(variables, net):
        return jnp.square(net.apply(variables, x, t, context)).mean()

    slope = jax.jit(jax.grad(loss), static_argnums=1)
    for a, b in zip(
        *(jax.tree.leaves(slope(variables, one)) for one in (net, net.clone(remat=True))),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_labels_and_bfloat16(small):
    _, _, x, t, _ = small
    net = SMALL.clone(classes=3)
    variables = filled(jax.jit(net.init)(jax.random.key(0), x, t))
    apply = jax.jit(net.apply)
    plain = apply(variables, x, t)
    none = apply(variables, x, t, label=jnp.full(2, 3))
    np.testing.assert_array_equal(plain, none)
    assert np.abs(apply(variables, x, t, label=jnp.array([0, 1])) - plain).max() > 1e-3
    short = jax.jit(net.clone(dtype=jnp.bfloat16).apply)(variables, x, t)
    assert short.dtype == jnp.float32
    assert np.abs(short - plain).max() < 0.05 * np.abs(plain).max()


@pytest.mark.parametrize("changed", [{"heads": 3}, {"width": 18}], ids=str)
def test_settings_that_do_not_go_together(changed):
    with pytest.raises(UserError, match="must be a multiple of"):
        check(SMALL.clone(**changed), "model.denoiser")
