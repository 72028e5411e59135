"""Resampling against the notebooks' own, and boxes against what is cut out first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.edit.resample import axis_matrix, resample, resample_boxes

RESAMPLE = jax.jit(resample, static_argnums=(1, 2))
ROWS = jax.jit(axis_matrix, static_argnums=(0, 1))


@pytest.fixture(scope="module")
def golden(fixtures_dir):
    return np.load(fixtures_dir / "vqgan_clip_ops.npz")


@pytest.mark.parametrize("side", [32, 80])
def test_whole_pictures(golden, side):
    x = jnp.asarray(golden["im"].transpose(0, 2, 3, 1))
    want = golden[f"resample{side}"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(RESAMPLE(x, side, side), want, atol=1e-5)


def test_a_box_is_what_was_cut_out():
    x = jax.random.uniform(jax.random.key(0), (30, 41, 3))
    boxes = np.array([[0, 0, 30], [3, 11, 12], [12, 23, 18], [5, 2, 13]], np.int32)
    got = jax.jit(resample_boxes, static_argnums=4)(x, *boxes.T, 13)
    for (top, left, side), one in zip(boxes, got, strict=True):
        cut = x[None, top : top + side, left : left + side]
        np.testing.assert_allclose(one, RESAMPLE(cut, 13, 13)[0], atol=2e-6)


@pytest.mark.parametrize("size", [2, 5, 16, 37, 64])
def test_constants_stay(size):
    rows = ROWS(64, 16, 0, size).sum(1)
    np.testing.assert_allclose(rows, np.ones(16), atol=1e-5)
