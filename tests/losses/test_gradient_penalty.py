"""MA-GP: its value by hand, and how a mixed-precision run gets NaN from it and ours does not."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.losses.gradient_penalty import input_gradient_norms, matching_aware_penalty
from jaxgen.models.dfgan.discriminator import Discriminator

IMAGES = jax.random.uniform(jax.random.key(0), (4, 8, 8, 3), minval=-1)
SENTENCES = jax.random.normal(jax.random.key(1), (4, 5))


def linear(params, images, sentences):
    """One logit per pair: <w_x, x> + <w_s, s>."""
    return jnp.einsum("bhwc,hwc->b", images, params["x"]) + sentences @ params["s"]


def norms_of(params, images=IMAGES, sentences=SENTENCES):
    return input_gradient_norms(lambda x, s: linear(params, x, s), images, sentences)


def test_linear_discriminator_by_hand():
    """2 * (|w_x|^2 + |w_s|^2)^3, the same for every picture, and its gradient in w."""
    rng = np.random.default_rng(0)
    params = {"x": 0.1 * rng.normal(size=(8, 8, 3)), "s": 0.3 * rng.normal(size=5)}
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)
    square = sum(float(np.sum(np.square(p, dtype=np.float64))) for p in params.values())
    np.testing.assert_allclose(norms_of(params), np.full(4, square), rtol=1e-5)
    value, gradient = jax.value_and_grad(lambda p: 2 * matching_aware_penalty(norms_of(p)))(params)
    assert float(value) == pytest.approx(2 * square**3, rel=1e-5)
    for key, w in params.items():  # d 2 q^3 / dw = 12 q^2 w
        np.testing.assert_allclose(gradient[key], 12 * square**2 * w, rtol=1e-4)


def test_norms_are_of_each_pair_alone():
    """Of a D that is not linear: the sum's gradient equals the pairs' gradients, one by one."""

    def logits(x, s):
        return jnp.sum(jnp.square(x), axis=(1, 2, 3)) * jnp.sum(s, axis=1)

    together = input_gradient_norms(logits, IMAGES, SENTENCES)
    for i in range(4):
        alone = input_gradient_norms(logits, IMAGES[i : i + 1], SENTENCES[i : i + 1])
        np.testing.assert_allclose(together[i], alone[0], rtol=1e-5)


# ---- the mechanisms of NaN -----------------------------------------------------------------------


def test_root_gives_nan_where_the_discriminator_ignores_its_input_and_ours_zero():
    zero = {"x": jnp.zeros((8, 8, 3)), "s": jnp.zeros(5)}
    naive = jax.grad(lambda p: 2 * jnp.mean(jnp.sqrt(norms_of(p)) ** 6))(zero)
    assert all(np.isnan(g).all() for g in jax.tree.leaves(naive))
    value, ours = jax.value_and_grad(lambda p: 2 * matching_aware_penalty(norms_of(p)))(zero)
    assert float(value) == 0.0
    assert all(np.array_equal(g, np.zeros_like(g)) for g in jax.tree.leaves(ours))


def test_powers_whose_gradient_at_zero_is_infinite_are_refused():
    gradient = jax.grad(lambda s: matching_aware_penalty(s, 2.0))(jnp.zeros(3))
    np.testing.assert_allclose(gradient, np.full(3, 1 / 3), rtol=1e-6)
    with pytest.raises(UserError, match=r"magp_power=1\.5 must be 2 or more"):
        matching_aware_penalty(jnp.zeros(3), 1.5)


def test_sixth_power_leaves_float16_and_neither_bfloat16_nor_ours():
    """65504 ** (1 / 6) = 6.3496."""
    inside, outside = 6.33, 6.36
    assert np.isfinite(np.float16(inside) ** 6)
    with np.errstate(over="ignore"):
        assert np.isinf(np.float16(outside) ** 6)
    assert np.isfinite(jnp.bfloat16(outside) ** 6)
    squares = jnp.full(3, outside**2)
    assert float(matching_aware_penalty(squares)) == pytest.approx(outside**6, rel=1e-5)
    # Squares given in half precision are taken up before the power.
    half = matching_aware_penalty(squares.astype(jnp.float16))
    assert half.dtype == jnp.float32
    assert float(half) == pytest.approx(outside**6, rel=2e-3)


def test_squares_of_small_gradients_vanish_in_float16_and_not_in_bfloat16():
    assert jnp.float16(1e-4) ** 2 == 0
    assert float(jnp.bfloat16(1e-4) ** 2) == pytest.approx(1e-8, rel=1e-2)
    # A 256 px picture whose gradient is 1e-4 everywhere has a norm of 0.044.
    gradient = np.full(256 * 256 * 3, 1e-4)
    assert np.sum(np.square(gradient.astype(np.float16))) == 0
    assert np.sum(np.square(gradient)) ** 0.5 == pytest.approx(0.0443, abs=1e-4)


# ---- DF-GAN's discriminator ----------------------------------------------------------------------


def as_if_trained(shapes):
    """Parameters of their fan-in's scale; the blocks' gains, 0 at first, are 0.5."""
    rng = np.random.default_rng(4)

    def draw(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name.endswith("gain"):
            return jnp.full(leaf.shape, 0.5)
        scale = 1.5 / np.sqrt(max(1, np.prod(leaf.shape[:-1])))
        return jnp.asarray(scale * rng.normal(size=leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture(scope="module")
def dfgan():
    """(parameters, {dtype: parameters -> (loss, its gradient)}) of the penalty at 8 px."""
    x = jax.random.uniform(jax.random.key(2), (4, 8, 8, 3), minval=-1)
    s = jax.random.normal(jax.random.key(3), (4, 8))
    shapes = jax.eval_shape(Discriminator(8).init, jax.random.key(0), x, (s,))
    params = as_if_trained(shapes["params"])

    def penalty(module, params):
        def logits(x, s):
            (judged,) = module.apply({"params": params}, x, (s,))
            assert judged.pair.dtype == jnp.float32
            return judged.pair

        squares = input_gradient_norms(logits, x, s)
        assert squares.dtype == jnp.float32
        return 2 * matching_aware_penalty(squares)

    return params, {
        dtype: jax.jit(jax.value_and_grad(partial(penalty, Discriminator(8, dtype=dtype))))
        for dtype in (jnp.float32, jnp.bfloat16)
    }


def flat(tree):
    return np.concatenate([np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(tree)])


def test_bfloat16_penalty_has_the_float32_gradient(dfgan):
    params, penalty = dfgan
    whole, gradient = penalty[jnp.float32](params)
    half, rough = penalty[jnp.bfloat16](params)
    assert half.dtype == jnp.float32
    assert float(whole) > 1e-6
    assert float(half) == pytest.approx(float(whole), rel=0.1)
    a, b = flat(gradient), flat(rough)
    assert a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) > 0.99


def test_a_silent_discriminator_has_no_penalty_and_no_nan(dfgan):
    """All kernels zero: what a collapsed D is."""
    params, penalty = dfgan
    silent = jax.tree.map(jnp.zeros_like, params)
    for compute in penalty.values():
        value, gradient = compute(silent)
        assert float(value) == 0.0
        np.testing.assert_array_equal(flat(gradient), 0.0)


def test_second_order_gradient_has_the_right_scale(dfgan):
    """The logit is linear in the last layer and in the judge's first, up to LeakyReLU.

    So the penalty is a homogeneous function of degree 6 of either: <w, d penalty / dw> is six
    times the penalty (Euler).
    """
    params, penalty = dfgan
    value, gradient = penalty[jnp.float32](params)
    for pick in (lambda p: p["judge"]["last"], lambda p: p["judge"]["joined"]["kernel"]):
        inner = flat(pick(params)) @ flat(pick(gradient))
        assert inner == pytest.approx(6 * float(value), rel=1e-4)
