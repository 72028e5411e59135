"""A VQGAN and a CLIP of random weights, small enough to be put together in a test."""

from __future__ import annotations

import jax
import numpy as np
from helpers import REPOSITORY

from jaxgen import config as configs
from jaxgen.models.clip import task as clip
from jaxgen.models.vqgan import task as vqgan
from jaxgen.runs.model import Model


def tiny_vqgan(**changes):
    """`configs/vqgan.py:tiny`: 8 x 8 codes of 16 for a picture of 16 pixels.

    Without normalisation and attention, which take long to compile.
    """
    plain = {"model.autoencoder.groups": 0, "model.autoencoder.middle_attention": False}
    config = configs.load(f"{REPOSITORY}/configs/vqgan.py:tiny", {**plain, **changes})
    net = vqgan.make_autoencoder(config)
    rngs = {"params": jax.random.key(0), "quantize": jax.random.key(0)}
    picture = jax.ShapeDtypeStruct((1, 16, 16, config.model.channels), "float32")
    return Model("vq", config, {"g": _drawn(jax.eval_shape(net.init, rngs, picture), 0.3)}, step=0)


def tiny_clip():
    """`configs/clip.py:tiny`, with the words of captioned shapes."""
    config = clip.resolve(configs.load(f"{REPOSITORY}/configs/clip.py:tiny"))
    net = clip.make_clip(config)
    picture = jax.ShapeDtypeStruct((1, 16, 16, 3), "float32")
    tokens = jax.ShapeDtypeStruct((1, net.text.context), "int32")
    shapes = jax.eval_shape(net.init, jax.random.key(0), picture, tokens)
    return Model("judge", config, {"g": _drawn(shapes, 0.5)}, step=0)


def _drawn(shapes, scale):
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: rng.normal(0, scale, s.shape).astype(np.float32), shapes)
