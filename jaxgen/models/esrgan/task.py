"""ESRGAN's networks and verb from a config; losses and phases are `jaxgen.tasks.sr`'s."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.errors import UserError
from jaxgen.keys import Key, Table
from jaxgen.models.esrgan.discriminators import (
    UNetDiscriminatorSN,
    VGGStyleDiscriminator,
    vgg_stages,
)
from jaxgen.models.esrgan.rrdbnet import RRDBNet
from jaxgen.models.esrgan.srvgg import ACTIVATIONS, SRVGGNetCompact
from jaxgen.task import Task
from jaxgen.tasks.common import choose, make_module, module_keys, module_of, with_own
from jaxgen.tasks.sr import config as defaults
from jaxgen.tasks.sr import task as sr
from jaxgen.tasks.sr.losses import SRLosses
from jaxgen.verbs.upscale.contract import LUMA

GENERATORS = {"rrdb": RRDBNet, "srvgg": SRVGGNetCompact}
LIMITS: dict[Any, dict[str, Any]] = {
    RRDBNet: {"unshuffle": {"least": 0, "most": 64}},
    SRVGGNetCompact: {"activation": {"choices": tuple(ACTIVATIONS)}},
}
DISCRIMINATORS = {"vgg": VGGStyleDiscriminator, "unet": UNetDiscriminatorSN}


def keys(config: ConfigDict) -> Table:
    """What the config's own sections hold; see `jaxgen.train.family.check`."""
    generator = module_of(config, "generator", GENERATORS)
    discriminator = module_of(config, "discriminator", DISCRIMINATORS)
    return with_own(
        defaults.KEYS,
        generator={
            "form": Key("rrdb", "of the network", choices=tuple(GENERATORS)),
            **module_keys(generator, given=("scale",), **LIMITS[generator]),
        },
        discriminator={
            "form": Key("vgg", "of the network", choices=tuple(DISCRIMINATORS)),
            **module_keys(discriminator, given=("size",)),
        },
    )


def make_generator(config: ConfigDict) -> RRDBNet | SRVGGNetCompact:
    """The generator module of `config.model.generator`.

    Raises:
      UserError: unknown form, setting or scale.
    """
    settings = config.model.generator.to_dict()
    form = choose(GENERATORS, settings.pop("form"), "generator form")
    scale = config.data.scale
    net = make_module(form, "generator", config, scale=scale, **settings)
    if isinstance(net, RRDBNet):
        try:
            net.factors()
        except ValueError:
            raise UserError(
                f"data.scale={scale}: RRDBNet upscales by 1, 2, 3, 4, 8 or 16"
                + (f", less by model.generator.unshuffle={net.unshuffle}" if net.unshuffle else "")
            ) from None
        added = "model.generator.skip" if net.skip else ""
    else:
        added = "form=srvgg"
    if added and net.channels not in (net.out_channels, 1):
        raise UserError(
            f"{added} adds the input to the output: model.generator.channels={net.channels} must "
            f"equal out_channels={net.out_channels}"
        )
    return net


def make_discriminator(config: ConfigDict) -> VGGStyleDiscriminator | UNetDiscriminatorSN:
    """The discriminator module of `config.model.discriminator`, for pictures of `data.hr_size`.

    Raises:
      UserError: unknown form or setting, or a size that it can't judge.
    """
    settings = config.model.discriminator.to_dict()
    form = choose(DISCRIMINATORS, settings.pop("form"), "discriminator form")
    size = config.data.hr_size
    if form is UNetDiscriminatorSN:
        if size % 8:
            raise UserError(f"data.hr_size={size}: the U-Net discriminator needs a multiple of 8")
        return make_module(form, "discriminator", config, **settings)
    try:
        vgg_stages(size)
    except ValueError:
        raise UserError(
            f"data.hr_size={size}: the VGG-style discriminator needs a power of two, 16 or more; "
            "model.discriminator.form=unet takes any multiple of 8"
        ) from None
    return make_module(form, "discriminator", config, size=size, **settings)


def verbs(config: ConfigDict) -> dict[str, Any]:
    """What a trained ESRGAN can do: {"upscale": ...}; {} with channels that no picture has."""
    generator = make_generator(config)
    channels = generator.channels, generator.out_channels
    if not set(channels).issubset((1, 3, 4)):
        return {}
    upscale = sr.upscale_verb(generator, config.data.scale, generator.multiple())
    if channels == (1, 1):
        upscale = dataclasses.replace(upscale, channels=1)
    elif channels != (3, 3):
        upscale = dataclasses.replace(upscale, apply=_of_colour(upscale.apply, *channels))
    return {"upscale": upscale}


def _of_colour(apply: Any, channels: int, out_channels: int) -> Any:
    """`Upscale.apply` of three channels by a network with others.

    One is the luma; the fourth is alpha, opaque, of which no use is made in the output.
    """

    def colour(nets, x, given):  # (b, h, w, 3) -> (b, s*h, s*w, 3)
        if channels == 1:
            x = (x * LUMA.reshape(1, 1, 1, 3)).sum(axis=-1, keepdims=True)
        elif channels == 4:
            x = jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)
        y = apply(nets, x, given)
        return jnp.repeat(y, 3, axis=-1) if out_channels == 1 else y[..., :3]

    return colour


def make_task(config: ConfigDict) -> Task:
    """The Task of this config; see `jaxgen.task`.

    Raises:
      UserError: see `make_generator`, `make_discriminator`; or crops that the generator can't take.
    """
    generator = make_generator(config)
    if (generator.channels, generator.out_channels) != (3, 3):
        raise UserError(
            f"model.generator.channels={generator.channels} and "
            f"out_channels={generator.out_channels}: it is trained on colour pictures, which have 3"
        )
    upscale = verbs(config)["upscale"]
    if config.data.hr_size % (config.data.scale * upscale.multiple):
        raise UserError(
            f"data.hr_size={config.data.hr_size} must be a multiple of "
            f"{config.data.scale * upscale.multiple} for this generator at x{config.data.scale}"
        )
    losses = SRLosses(generator, make_discriminator(config), config)
    return sr.make_task(config, losses, upscale)
