"""jaxgen.nn.resample equals PyTorch's shuffle and bilinear, and MATLAB's (the host's) bicubic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.referees import pytorch

from jaxgen.data.resize import imresize
from jaxgen.nn.resample import (
    pixel_shuffle,
    pixel_unshuffle,
    upsample_bicubic,
    upsample_bilinear,
    upsample_nearest,
)


def numbers(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("r", [2, 3, 4])
def test_pixel_shuffle_has_pytorchs_channel_order(r):
    torch = pytorch()
    x = numbers(2, 3, 5, 4 * r * r)
    y = np.asarray(pixel_shuffle(jnp.asarray(x), r))
    wanted = torch.nn.functional.pixel_shuffle(torch.from_numpy(x).permute(0, 3, 1, 2), r)
    np.testing.assert_array_equal(y, wanted.permute(0, 2, 3, 1).numpy())
    np.testing.assert_array_equal(pixel_unshuffle(jnp.asarray(y), r), x)


def test_pixel_shuffle_of_one_pixel_by_hand():
    x = jnp.arange(8.0).reshape(1, 1, 1, 8)
    np.testing.assert_array_equal(pixel_shuffle(x, 2)[0, :, :, 0], [[0, 1], [2, 3]])
    np.testing.assert_array_equal(pixel_shuffle(x, 2)[0, :, :, 1], [[4, 5], [6, 7]])


def test_shuffles_refuse_sizes_that_do_not_divide():
    with pytest.raises(ValueError, match="multiple of 4 channels"):
        pixel_shuffle(jnp.zeros((1, 2, 2, 6)), 2)
    with pytest.raises(ValueError, match="multiples of 2"):
        pixel_unshuffle(jnp.zeros((1, 3, 2, 6)), 2)


def test_nearest_repeats():
    x = numbers(2, 3, 4, 5)
    wanted = x.repeat(3, axis=1).repeat(3, axis=2)
    np.testing.assert_array_equal(upsample_nearest(jnp.asarray(x), 3), wanted)


@pytest.mark.parametrize("r", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("size", [(9, 14), (3, 2)])
def test_bicubic_equals_the_hosts_resize(r, size):
    x = numbers(2, *size, 3)
    y = jax.jit(upsample_bicubic, static_argnums=1)(jnp.asarray(x), r)
    wanted = np.stack([imresize(image, scale=r, mode="float") for image in x])
    np.testing.assert_allclose(y, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("r", [1, 2, 3, 4])
def test_bilinear_equals_pytorch_s(r):
    torch = pytorch()
    x = numbers(2, 3, 5, 4)
    y = upsample_bilinear(jnp.asarray(x), r)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(x).permute(0, 3, 1, 2), scale_factor=r, mode="bilinear"
    )
    np.testing.assert_allclose(y, wanted.permute(0, 2, 3, 1).numpy(), atol=1e-6, rtol=0)


def test_bicubic_keeps_constants():
    y = upsample_bicubic(jnp.full((1, 5, 6, 1), 0.7), 4)
    np.testing.assert_allclose(y, np.full((1, 20, 24, 1), 0.7), atol=1e-6)
