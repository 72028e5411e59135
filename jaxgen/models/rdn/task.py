"""RDN's network and verb from a config; trained for pixels alone, by `jaxgen.tasks.sr`."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from jaxgen.errors import UserError
from jaxgen.keys import Table
from jaxgen.models.rdn.generator import RDN
from jaxgen.task import Task
from jaxgen.tasks.common import make_module, module_keys, with_own
from jaxgen.tasks.sr import config as defaults
from jaxgen.tasks.sr import task as sr
from jaxgen.tasks.sr.losses import SRLosses


def keys(config: ConfigDict) -> Table:
    """What the config's own sections hold; see `jaxgen.train.family.check`."""
    del config  # all alike
    positive = {"least": None, "above": 0}
    return with_own(
        defaults.KEYS, generator=module_keys(RDN, given=("scale",), value_range=positive)
    )


def make_generator(config: ConfigDict) -> RDN:
    """The network of `config.model.generator`.

    Raises:
      UserError: unknown setting or scale.
    """
    scale = config.data.scale
    if scale not in (2, 3, 4, 8):
        raise UserError(f"data.scale={scale}: RDN upscales by 2, 3, 4 or 8")
    return make_module(RDN, "generator", config, scale=scale, **config.model.generator.to_dict())


def verbs(config: ConfigDict) -> dict[str, Any]:
    """What a trained RDN can do: {"upscale": ...}."""
    return {"upscale": sr.upscale_verb(make_generator(config), config.data.scale)}


def make_task(config: ConfigDict) -> Task:
    """The Task of this config; see `jaxgen.task`.

    Raises:
      UserError: the config asks for a GAN stage.
    """
    steps = config.model.pretrain_steps
    if steps >= 0:
        raise UserError(f"model.pretrain_steps={steps}: RDN has no GAN stage; leave it at -1")
    losses = SRLosses(make_generator(config), None, config)
    return sr.make_task(config, losses, verbs(config)["upscale"])
