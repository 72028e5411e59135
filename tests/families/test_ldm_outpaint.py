"""A picture drawn on beyond its edges."""

import numpy as np
from support.tiny_ldm import tiny_drawer, tiny_ldm_config

from jaxgen.diffusion.masks import canvas


def test_the_photo_stays_to_the_last_bit():
    drawer = tiny_drawer(tiny_ldm_config())
    photo = np.random.default_rng(1).integers(0, 256, (8, 16, 3), np.uint8)
    wide, mask = canvas(photo, left=8, top=4, right=8, bottom=4)
    (drawn,) = drawer(
        "a red circle", init=wide, mask=mask, size=wide.shape[:2], steps=2, guidance=1.0
    )
    assert drawn.shape == (16, 32, 3)
    np.testing.assert_array_equal(drawn[4:12, 8:24], photo)
    assert (drawn != wide).any(axis=-1)[mask].mean() > 0.5
