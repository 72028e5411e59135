"""GAN-CLS's networks and verb from a config; losses and phases are `jaxgen.tasks.t2i`'s."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from jaxgen.errors import UserError
from jaxgen.keys import Table
from jaxgen.models.gan_cls.discriminator import Discriminator
from jaxgen.models.gan_cls.generator import Generator
from jaxgen.task import Task
from jaxgen.tasks.common import make_module, module_keys, with_own
from jaxgen.tasks.t2i import config as defaults
from jaxgen.tasks.t2i import task as t2i

resolve = t2i.resolve


def keys(config: ConfigDict) -> Table:
    """What the config's own sections hold; see `jaxgen.train.family.check`."""
    return with_own(
        defaults.KEYS,
        generator=module_keys(Generator, given=("size",)),
        discriminator=t2i.discriminator_keys(config, Discriminator),
    )


def make_generator(config: ConfigDict) -> Generator:
    """The generator module of `config.model.generator`.

    Raises:
      UserError: an unknown setting, or a size that is no power of two.
    """
    size = config.data.size
    if size < 8 or size & (size - 1):
        raise UserError(f"data.size={size}: gan_cls draws 8, 16, 32, 64, ... pixels")
    settings = config.model.generator.to_dict()
    return make_module(Generator, "generator", config, size=size, **settings)


def make_discriminator(config: ConfigDict) -> Any:
    """The discriminator module of `config.model.discriminator`."""
    return t2i.make_discriminator(config, Discriminator, size=config.data.size)


def verbs(config: ConfigDict) -> dict[str, Any]:
    """What a trained model can do: {"generate": ...}."""
    return t2i.one_stage_verbs(config, make_generator(config))


def make_task(config: ConfigDict) -> Task:
    """The Task of this config; see `jaxgen.task`."""
    return t2i.one_stage_task(config, make_generator(config), make_discriminator(config))
