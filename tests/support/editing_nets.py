"""The golden arrays' tiny UNets as nets for edits, with their weights."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
from support.diffusion import golden, nhwc, state_dict

from jaxgen import weights
from jaxgen.models.ldm.keymap import unet_rules
from jaxgen.models.ldm.unet import UNet

NETS = {
    "sd1_unet_tiny": UNet(channels=(32, 64, 64, 64), context=32),
    "sd2_unet_tiny": UNet(channels=(32, 64, 64, 64), context=48, head_width=16, linear=True),
}


@functools.cache
def unet(fixtures: Path, name: str = "sd1_unet_tiny") -> tuple[UNet, Any]:
    """(module, variables)."""
    net = NETS[name]
    arrays = [jax.ShapeDtypeStruct(s, "float32") for s in ((1, 8, 8, 4), (1,), (1, 7, net.context))]
    shapes = jax.eval_shape(net.init, jax.random.key(0), *arrays)
    tensors = state_dict(golden(fixtures, name))
    return net, weights.convert(tensors, unet_rules(net.linear), shapes)


def predict(fixtures: Path, name: str = "sd1_unet_tiny"):
    """(x (b, h, w, c), t, context) -> what the net says; the context is repeated for the batch."""
    net, variables = unet(fixtures, name)
    return lambda x, t, context: net.apply(variables, x, t, context)


def images(x):
    """(..., c, h, w) -> (..., h, w, c)."""
    return nhwc(x.reshape(-1, *x.shape[-3:])).reshape(
        *x.shape[:-3], *(x.shape[-2], x.shape[-1], x.shape[-3])
    )
