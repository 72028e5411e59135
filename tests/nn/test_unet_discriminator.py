"""The U-Net discriminator: published counts, shapes, spectral norms, sentences, dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.nn.spectral_norm import normalize
from jaxgen.nn.unet_discriminator import WIDTHS, UNetDiscriminator

E = 6


def shapes_of(module, size):
    picture = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    sentence = jax.ShapeDtypeStruct((2, E), jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), picture, (sentence,))


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("size", "published"), [(128, 31_481_667), (256, 44_067_651)])
def test_parameters_as_published(size, published):
    params = shapes_of(UNetDiscriminator(size, 64), size)["params"]
    projections = {key: params.pop(key) for key in ("by_picture", "by_pixel")}
    # The published code makes a dense layer of 64 + 1 parameters that nothing uses.
    assert count(params) == published - 65
    assert count(projections) == E * (16 * 64 + 64)


@pytest.mark.parametrize("size", sorted(WIDTHS))
def test_every_layer_but_the_last_is_normalised(size):
    variables = shapes_of(UNetDiscriminator(size, 4), size)
    kernels = {
        jax.tree_util.keystr(path[:-1], simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(variables["params"])
        if path[-1].key == "kernel"
    }
    normal = {
        jax.tree_util.keystr(path[:-2], simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(variables["spectral"])
    }
    assert kernels - normal == {"pixel"}
    assert len([k for k in kernels if k.startswith("down_")]) == 3 * len(WIDTHS[size])
    assert len([k for k in kernels if k.startswith("up_")]) == 3 * len(WIDTHS[size])


@pytest.fixture(scope="module")
def small():
    """(module, variables, apply, pictures, two kinds of sentences)."""
    module = UNetDiscriminator(16, 4)
    x = jax.random.uniform(jax.random.key(0), (3, 16, 16, 3), minval=-1)
    right, wrong = jax.random.normal(jax.random.key(1), (2, 3, E))
    rng = np.random.default_rng(2)
    variables = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes_of(module, 16)
    )

    @jax.jit
    def compiled(variables, x, right, wrong):
        return module.apply(variables, x, (right, wrong), train=True, mutable=["spectral"])

    def apply(variables, right, wrong, pictures=x):
        return compiled(variables, pictures, right, wrong)

    for _ in range(20):
        variables = {**variables, **apply(variables, right, wrong)[1]}
    return module, variables, apply, x, right, wrong


def test_shapes_and_dtypes(small):
    module, variables, _, x, right, wrong = small
    for dtype in (jnp.float32, jnp.bfloat16):
        judged = jax.eval_shape(module.clone(dtype=dtype).apply, variables, x, (right, wrong))
        assert len(judged) == 2
        for one in judged:
            assert one.image is None
            assert (one.pair.shape, one.pair.dtype) == ((3,), jnp.float32)
            assert (one.pixels.shape, one.pixels.dtype) == ((3, 16, 16), jnp.float32)


def test_several_sentences_are_judged_as_each_alone(small):
    _, variables, apply, _, right, wrong = small
    both, _ = apply(variables, right, wrong)
    for sentence, judged in zip((right, wrong), both, strict=True):
        (alone, _), _ = apply(variables, sentence, sentence)
        np.testing.assert_allclose(judged.pair, alone.pair, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(judged.pixels, alone.pixels, rtol=1e-5, atol=1e-5)


def test_power_iteration_steps_once_with_two_sentences(small):
    _, variables, apply, _, right, wrong = small
    rough = jax.tree.map(lambda v: v + 0.1, variables["spectral"])
    _, state = apply({**variables, "spectral": rough}, right, wrong)
    for layer in ("by_picture", "by_pixel", "pair"):
        before, after = rough[layer]["norm"], state["spectral"][layer]["norm"]
        _, u, v = normalize(variables["params"][layer]["kernel"], before["u"], before["v"], 1)
        np.testing.assert_allclose(after["u"], u, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(after["v"], v, rtol=1e-5, atol=1e-6)


def test_the_sentence_moves_both_logits_and_only_its_own(small):
    """Projections are linear: the logits are affine in the sentence."""
    _, variables, apply, _, right, _ = small
    (before, after), _ = apply(variables, right, right.at[1].add(1.0))
    moved = np.abs(after.pair - before.pair) > 1e-6
    assert moved.tolist() == [False, True, False]
    moved = np.abs(after.pixels - before.pixels).max(axis=(1, 2)) > 1e-6
    assert moved.tolist() == [False, True, False]
    (zero, half), _ = apply(variables, jnp.zeros_like(right), 0.5 * right)
    np.testing.assert_allclose(half.pair, 0.5 * (zero.pair + before.pair), atol=1e-4)
    np.testing.assert_allclose(half.pixels, 0.5 * (zero.pixels + before.pixels), atol=1e-4)


def test_pixels_see_their_surroundings_first(small):
    """A change in a corner moves the logits there more than those of the far corner."""
    _, variables, apply, x, right, wrong = small
    other = x.at[:, :2, :2].multiply(-1.0)
    (a, _), (b, _) = (apply(variables, right, wrong, y)[0] for y in (x, other))
    moved = np.abs(a.pixels - b.pixels).mean(axis=0)
    assert moved[:2, :2].mean() > 3 * moved[-2:, -2:].mean()


def test_sizes_without_widths_are_refused():
    with pytest.raises(UserError, match=r"takes data\.size 16, 32, 64, 128, 256, not 48"):
        shapes_of(UNetDiscriminator(48, 4), 48)
