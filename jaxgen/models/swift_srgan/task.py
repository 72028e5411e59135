"""Swift-SRGAN's networks and verb from a config; losses and phases are `jaxgen.tasks.sr`'s."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from jaxgen.errors import UserError
from jaxgen.keys import Table
from jaxgen.models.swift_srgan.discriminator import SwiftDiscriminator
from jaxgen.models.swift_srgan.generator import SwiftGenerator
from jaxgen.task import Task
from jaxgen.tasks.common import make_module, module_keys, with_own
from jaxgen.tasks.sr import config as defaults
from jaxgen.tasks.sr import task as sr
from jaxgen.tasks.sr.losses import SRLosses

# 16: what the original's code trains as x8 (it has scale // 2 up-stages).
SCALES = (2, 4, 8, 16)


def keys(config: ConfigDict) -> Table:
    """What the config's own sections hold; see `jaxgen.train.family.check`."""
    del config  # all alike
    return with_own(
        defaults.KEYS,
        generator=module_keys(SwiftGenerator, given=("scale",), edge_kernel={"odd": True}),
        discriminator=module_keys(SwiftDiscriminator),
    )


def make_generator(config: ConfigDict) -> SwiftGenerator:
    """The generator module of `config.model.generator`.

    Raises:
      UserError: unknown setting or scale.
    """
    scale = config.data.scale
    if scale not in SCALES:
        raise UserError(f"data.scale={scale}: Swift-SRGAN upscales by 2, 4, 8 or 16")
    settings = config.model.generator.to_dict()
    return make_module(SwiftGenerator, "generator", config, scale=scale, **settings)


def make_discriminator(config: ConfigDict) -> SwiftDiscriminator:
    """The discriminator module of `config.model.discriminator`."""
    settings = config.model.discriminator.to_dict()
    return make_module(SwiftDiscriminator, "discriminator", config, **settings)


def verbs(config: ConfigDict) -> dict[str, Any]:
    """What a trained Swift-SRGAN can do: {"upscale": ...}."""
    return {"upscale": sr.upscale_verb(make_generator(config), config.data.scale)}


def make_task(config: ConfigDict) -> Task:
    """The Task of this config; see `jaxgen.task`."""
    losses = SRLosses(make_generator(config), make_discriminator(config), config)
    return sr.make_task(config, losses, verbs(config)["upscale"])
