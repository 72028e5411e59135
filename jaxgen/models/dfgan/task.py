"""DF-GAN's networks and verb from a config; losses and phases are `jaxgen.tasks.t2i`'s."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from jaxgen.errors import UserError
from jaxgen.keys import Key, Table
from jaxgen.models.dfgan.discriminator import MOST, Discriminator
from jaxgen.models.dfgan.generator import BLOCKS, Generator
from jaxgen.task import Task
from jaxgen.tasks.common import choose, make_module, module_keys, with_own
from jaxgen.tasks.t2i import config as defaults
from jaxgen.tasks.t2i import task as t2i

__all__ = ["keys", "make_discriminator", "make_generator", "make_task", "resolve", "verbs"]

resolve = t2i.resolve


def keys(config: ConfigDict) -> Table:
    """What the config's own sections hold; see `jaxgen.train.family.check`."""
    generator = module_keys(Generator, given=("size", "version"), block={"choices": BLOCKS})
    return with_own(
        defaults.KEYS,
        version=Key("2022", "2020: the first one, with other affine maps", choices=tuple(MOST)),
        generator=generator,
        discriminator=t2i.discriminator_keys(config, Discriminator, given=("version",)),
    )


def make_generator(config: ConfigDict) -> Generator:
    """The generator module of `config.model.generator`, for pictures of `data.size`.

    Raises:
      UserError: unknown version, block or setting, or a size that it can't draw.
    """
    settings = config.model.generator.to_dict()
    version = check_version(config)
    choose(dict.fromkeys(BLOCKS), settings["block"], "model.generator.block")
    size = check_size(config)
    return make_module(Generator, "generator", config, size=size, version=version, **settings)


def make_discriminator(config: ConfigDict) -> Any:
    """The discriminator of `config.model.discriminator`, for pictures of `data.size`."""
    check_size(config)
    return t2i.make_discriminator(config, Discriminator, version=check_version(config))


def check_version(config: ConfigDict) -> str:
    """`model.version`; a UserError if there is no such."""
    choose(MOST, config.model.version, "model.version")
    return config.model.version


def check_size(config: ConfigDict) -> int:
    """`data.size`; a UserError if it is not a power of two from 8 on."""
    size = config.data.size
    if size < 8 or size & (size - 1):
        raise UserError(f"data.size={size}: DF-GAN draws 8, 16, 32, 64, 128 or 256 pixels")
    return size


def verbs(config: ConfigDict) -> dict[str, Any]:
    """What a trained DF-GAN can do: {"generate": ...}."""
    return t2i.one_stage_verbs(config, make_generator(config))


def make_task(config: ConfigDict) -> Task:
    """The Task of this config; see `jaxgen.task`."""
    return t2i.one_stage_task(config, make_generator(config), make_discriminator(config))
