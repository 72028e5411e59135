"""ESRGAN's networks and verb from a config; losses and phases are `jaxgen.tasks.sr`'s."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from jaxgen.errors import UserError
from jaxgen.keys import Key, Table
from jaxgen.models.esrgan.discriminators import (
    UNetDiscriminatorSN,
    VGGStyleDiscriminator,
    vgg_stages,
)
from jaxgen.models.esrgan.rrdbnet import RRDBNet
from jaxgen.models.esrgan.srvgg import SRVGGNetCompact
from jaxgen.task import Task
from jaxgen.tasks.common import choose, make_module, module_keys, module_of, with_own
from jaxgen.tasks.sr import config as defaults
from jaxgen.tasks.sr import task as sr
from jaxgen.tasks.sr.losses import SRLosses

GENERATORS = {"rrdb": RRDBNet, "srvgg": SRVGGNetCompact}
DISCRIMINATORS = {"vgg": VGGStyleDiscriminator, "unet": UNetDiscriminatorSN}


def keys(config: ConfigDict) -> Table:
    """What the config's own sections hold; see `jaxgen.train.family.check`."""
    generator = module_of(config, "generator", GENERATORS)
    discriminator = module_of(config, "discriminator", DISCRIMINATORS)
    return with_own(
        defaults.KEYS,
        generator={
            "form": Key("rrdb", "of the network", choices=tuple(GENERATORS)),
            **module_keys(generator, given=("scale",)),
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
    if form is RRDBNet and scale not in (1, 2, 4):
        raise UserError(f"data.scale={scale}: RRDBNet upscales by 1, 2 or 4")
    return make_module(form, "generator", config, scale=scale, **settings)


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
    """What a trained ESRGAN can do: {"upscale": ...}."""
    generator = make_generator(config)
    upscale = sr.upscale_verb(generator, config.data.scale, generator.multiple())
    return {"upscale": upscale}


def make_task(config: ConfigDict) -> Task:
    """The Task of this config; see `jaxgen.task`.

    Raises:
      UserError: see `make_generator`, `make_discriminator`; or crops that the generator can't take.
    """
    upscale = verbs(config)["upscale"]
    if config.data.hr_size % (config.data.scale * upscale.multiple):
        raise UserError(
            f"data.hr_size={config.data.hr_size} must be a multiple of "
            f"{config.data.scale * upscale.multiple} for this generator at x{config.data.scale}"
        )
    losses = SRLosses(make_generator(config), make_discriminator(config), config)
    return sr.make_task(config, losses, upscale)
