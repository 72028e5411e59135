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


class Net:
    """A tiny UNet; its variables are an argument of what is compiled, not constants in it."""

    def __init__(self, fixtures: Path, name: str = "sd1_unet_tiny"):
        self.module, self.variables = unet(fixtures, name)

    def program(self, work):
        """*arrays -> work(net, *arrays), jitted; net: (x, t, context) -> what it says."""

        @jax.jit
        def program(variables, *arrays):
            return work(lambda x, t, context: self.module.apply(variables, x, t, context), *arrays)

        return lambda *arrays: program(self.variables, *arrays)

    def run(self, work, *arrays):
        """work(net, *arrays) in one program."""
        return self.program(work)(*arrays)


def images(x):
    """(..., c, h, w) -> (..., h, w, c)."""
    return nhwc(x.reshape(-1, *x.shape[-3:])).reshape(
        *x.shape[:-3], *(x.shape[-2], x.shape[-1], x.shape[-3])
    )
