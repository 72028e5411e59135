"""SRGAN's networks and verb from a config; losses and phases are `jaxgen.tasks.sr`'s."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from jaxgen.errors import UserError
from jaxgen.keys import Key, Table
from jaxgen.models.srgan.discriminator import Discriminator
from jaxgen.models.srgan.generator import FORMS as OWN_FORMS
from jaxgen.models.srgan.msrresnet import MSRResNet
from jaxgen.models.srgan.published import PublishedSRResNet
from jaxgen.nn.sr_resnet import SRResNet
from jaxgen.task import Task
from jaxgen.tasks.common import choose, make_module, module_keys, module_of, with_own
from jaxgen.tasks.sr import config as defaults
from jaxgen.tasks.sr import task as sr
from jaxgen.tasks.sr.losses import SRLosses

FORMS = {**OWN_FORMS, "published": PublishedSRResNet, "msrresnet": MSRResNet}


HEADS = ("dense", "pool")
TRUNK: Any = {
    "output": {"choices": ("linear", "tanh")},
    "edge_kernel": {"odd": True},
    "tail": {"choices": ("stages", "direct")},
    "trunk": {"choices": ("norm", "prelu")},
}


def keys(config: ConfigDict) -> Table:
    """What the config's own sections hold; see `jaxgen.train.family.check`."""
    form = module_of(config, "generator", FORMS)
    return with_own(
        defaults.KEYS,
        generator={
            "form": Key("srresnet", "of the network", choices=tuple(FORMS)),
            **module_keys(form, given=("scale",), like=(SRResNet,), **TRUNK),
        },
        discriminator=module_keys(
            Discriminator,
            head={"choices": HEADS},
            dropout={"most": None, "below": 1},
            momentum={"most": None, "below": 1},
            epsilon={"least": None, "above": 0, "most": 1},
        ),
    )


def make_generator(config: ConfigDict):
    """The generator module of `config.model.generator`.

    Raises:
      UserError: unknown form, setting or scale.
    """
    settings = config.model.generator.to_dict()
    form = choose(FORMS, settings.pop("form"), "generator form")
    who, scales = ("MSRResNet", (2, 3, 4)) if form is MSRResNet else ("SRGAN", (2, 4, 8))
    if config.data.scale not in scales:
        known = "{}, {} or {}".format(*scales)
        raise UserError(f"data.scale={config.data.scale}: {who} upscales by {known}")
    return make_module(form, "generator", config, scale=config.data.scale, **settings)


def make_discriminator(config: ConfigDict) -> Discriminator:
    """The discriminator module of `config.model.discriminator`."""
    settings = config.model.discriminator.to_dict()
    choose(dict.fromkeys(HEADS), settings.get("head", "dense"), "model.discriminator.head")
    return make_module(Discriminator, "discriminator", config, **settings)


def verbs(config: ConfigDict) -> dict[str, Any]:
    """What a trained SRGAN can do: {"upscale": ...}."""
    return {"upscale": sr.upscale_verb(make_generator(config), config.data.scale)}


def make_task(config: ConfigDict) -> Task:
    """The Task of this config; see `jaxgen.task`."""
    losses = SRLosses(make_generator(config), make_discriminator(config), config)
    return sr.make_task(config, losses, verbs(config)["upscale"])
