"""SSA-GAN's networks and verb from a config; losses and phases are `jaxgen.tasks.t2i`'s."""

from __future__ import annotations

from functools import partial
from typing import Any

from ml_collections import ConfigDict

from jaxgen.errors import UserError
from jaxgen.keys import Table
from jaxgen.models.dfgan.discriminator import Discriminator
from jaxgen.models.ssagan.generator import Generator
from jaxgen.task import Task
from jaxgen.tasks.common import make_module, module_keys, with_own
from jaxgen.tasks.t2i import config as defaults
from jaxgen.tasks.t2i import task as t2i

__all__ = ["keys", "make_discriminator", "make_generator", "make_task", "resolve", "verbs"]

resolve = t2i.resolve


def keys(config: ConfigDict) -> Table:
    """What the config's own sections hold; see `jaxgen.train.family.check`."""
    return with_own(
        defaults.KEYS,
        generator=module_keys(Generator, given=("size",)),
        discriminator=t2i.discriminator_keys(config, Discriminator, given=("version",)),
    )


def make_generator(config: ConfigDict) -> Generator:
    """The generator module of `config.model.generator`, for pictures of `data.size`.

    Raises:
      UserError: unknown setting, or a size that it can't draw.
    """
    settings = config.model.generator.to_dict()
    return make_module(Generator, "generator", config, size=_check_size(config), **settings)


def make_discriminator(config: ConfigDict) -> Any:
    """The discriminator of `config.model.discriminator`; its own is DF-GAN's, of 2020."""
    _check_size(config)
    return t2i.make_discriminator(config, partial(Discriminator, version="2020"))


def verbs(config: ConfigDict) -> dict[str, Any]:
    """What a trained SSA-GAN can do: {"generate": ...}, with its masks beside the pictures."""
    return t2i.one_stage_verbs(config, make_generator(config))


def make_task(config: ConfigDict) -> Task:
    """The Task of this config; see `jaxgen.task`."""
    return t2i.one_stage_task(config, make_generator(config), make_discriminator(config))


def _check_size(config: ConfigDict) -> int:
    size = config.data.size
    if size < 8 or size & (size - 1):
        raise UserError(f"data.size={size}: SSA-GAN draws 8, 16, 32, 64, 128 or 256 pixels")
    return size
