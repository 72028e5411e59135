"""CLIP's loss against float64 by hand, and over eight devices."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgen.losses.contrastive import MOST_SCALE, contrastive_loss


def arrays(rows=16, width=12, seed=0):
    rng = np.random.default_rng(seed)
    pictures, texts = rng.normal(size=(2, rows, width)).astype(np.float32)
    return pictures, texts, np.float32(math.log(1 / 0.07))


def by_hand(pictures, texts, log_scale, meaning=None):
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in np.float64([pictures, texts])]
    logits = np.exp(min(log_scale, math.log(100))) * unit[0] @ unit[1].T
    total = 0.0
    for i in range(len(logits)):
        others = [
            j for j in range(len(logits)) if j == i or meaning is None or meaning[i] != meaning[j]
        ]
        for row in (logits[i, others], logits[others, i]):
            total += np.log(np.exp(row - row.max()).sum()) + row.max() - logits[i, i]
    return total / (2 * len(logits))


@pytest.mark.parametrize("log_scale", [0.0, math.log(1 / 0.07), 6.0])
def test_value(log_scale):
    pictures, texts, _ = arrays()
    loss, metrics = contrastive_loss(pictures, texts, jnp.float32(log_scale))
    np.testing.assert_allclose(loss, by_hand(pictures, texts, log_scale), rtol=1e-5)
    np.testing.assert_allclose(metrics["scale"], min(math.exp(log_scale), 100), rtol=1e-5)


def test_pairs_of_equal_meaning_are_left_out():
    pictures, texts, scale = arrays(8)
    meaning = np.int32([0, 1, 2, 0, 3, 3, 4, 5])
    loss, _ = contrastive_loss(pictures, texts, jnp.float32(scale), jnp.asarray(meaning))
    np.testing.assert_allclose(loss, by_hand(pictures, texts, scale, meaning), rtol=1e-5)


def test_decoys_stand_among_the_pictures_that_a_text_is_told_from():
    pictures, texts, scale = arrays(8)
    decoys = np.random.default_rng(1).normal(size=(5, 12)).astype(np.float32)
    loss, metrics = contrastive_loss(pictures, texts, jnp.float32(scale), decoys=decoys)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (pictures, texts, decoys)]
    logits = np.float64(np.exp(scale)) * unit[0] @ unit[1].T
    wrong = np.float64(np.exp(scale)) * unit[2] @ unit[1].T
    own = np.diagonal(logits)
    by_picture = np.log(np.exp(logits).sum(axis=0) + np.exp(wrong).sum(axis=0)) - own
    by_text = np.log(np.exp(logits).sum(axis=1)) - own
    np.testing.assert_allclose(loss, (by_picture.mean() + by_text.mean()) / 2, rtol=1e-5)
    np.testing.assert_allclose(metrics["told_apart"], (own > wrong.max(axis=0)).mean())


def test_beyond_its_bound_the_scale_can_only_come_back():
    pictures, texts, scale = arrays()

    def slope(texts, log_scale):
        return jax.grad(lambda s: contrastive_loss(pictures, texts, s)[0])(jnp.float32(log_scale))

    near = pictures + 0.3 * texts  # told apart but not perfectly certain: larger is better
    assert slope(near, scale) < 0
    assert slope(near, MOST_SCALE + 0.1) == 0
    assert slope(texts, MOST_SCALE + 0.1) > 0


def test_no_feature_gives_no_nan():
    pictures, texts, scale = arrays()
    pictures[3] = 0
    grads = jax.grad(lambda *x: contrastive_loss(*x)[0], argnums=(0, 1, 2))
    for grad in grads(jnp.asarray(pictures), jnp.asarray(texts), jnp.float32(scale)):
        assert np.isfinite(grad).all()


def test_sharded_equals_single_and_logits_are_row_sharded():
    pictures, texts, scale = arrays(64)
    meaning = np.arange(64, dtype=np.int32) // 2
    step = jax.value_and_grad(lambda *x: contrastive_loss(*x)[0], argnums=(0, 1, 2))
    inputs = (pictures, texts, jnp.float32(scale), meaning)
    one = jax.jit(step)(*inputs)
    mesh = Mesh(np.array(jax.devices()[:8]), ("data",))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    places = (rows, rows, whole, rows)
    many_inputs = [jax.device_put(x, place) for x, place in zip(inputs, places, strict=True)]
    program = jax.jit(step).lower(*many_inputs).compile()
    many = program(*many_inputs)
    for ours, theirs in zip(jax.tree.leaves(many), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    text = program.as_text()
    assert "f32[8,64]" in text
    assert "f32[64,64]" not in text, "a device holds all logits"
