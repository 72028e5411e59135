"""Editing with the golden arrays' tiny Stable Diffusion."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import numpy as np
from support.diffusion import golden, nhwc, state_dict

from jaxgen import weights
from jaxgen.diffusion.plans import make_plan
from jaxgen.diffusion.schedules import Schedule
from jaxgen.edit.words import spell
from jaxgen.models.ldm.edit.editing import Editing
from jaxgen.models.ldm.keymap import unet_rules
from jaxgen.models.ldm.unet import UNet

GUIDANCE = 7.5


class GoldenEditing(Editing):
    """The methods' view of a lone UNet whose texts are given as features."""

    def __init__(self, side):
        self.config = SimpleNamespace(model=SimpleNamespace(target="eps"))
        self.schedule, self.net = Schedule(), UNet(channels=(32, 64, 64, 64), context=32)
        self.shape, self.condition = (side, side, 4), SimpleNamespace(kind="text")

    def blank(self, count):
        return {"context": np.zeros((count, 77, 32), np.float32)}

    def unasked(self, nets, shared, count):
        return {"context": np.broadcast_to(shared["negative"], (count, 77, 32))}


def golden_editing(fixtures_dir, side, unasked, steps=10):
    """(editing, nets, shared) as the methods' `edit` take them."""
    editing = GoldenEditing(side)
    x, t = np.zeros((1, side, side, 4)), np.zeros(1)
    shapes = jax.eval_shape(
        lambda: editing.net.init(jax.random.key(0), x, t, editing.blank(1)["context"])
    )
    file = golden(fixtures_dir, "sd1_unet_tiny")
    nets = {"g": weights.convert(state_dict(file), unet_rules(False), shapes)}
    plan = make_plan(editing.schedule, "eps", "ddim", steps)
    return editing, nets, {"plan": plan, "guidance": np.float32(GUIDANCE), "negative": unasked}


def latents(x):
    """Golden latents (..., c, h, w) -> (..., h, w, c)."""
    return nhwc(x.reshape(-1, *x.shape[-3:])).reshape(*x.shape[:-3], *x.shape[-2:], x.shape[-3])


def golden_spelled(text, tokenizer, ids=()):
    """A text as the original's code parts it, at each single space."""
    parts = text.split(" ") if text else []
    return spell(parts, [len(tokenizer.ids(word)) for word in parts], ids)
