"""The denoiser and the noise schedule from a config's sections."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from jaxgen.diffusion.schedules import Schedule
from jaxgen.diffusion.targets import check_target
from jaxgen.keys import Key, Table
from jaxgen.models.ldm import dit, unet
from jaxgen.models.ldm.condition import Condition
from jaxgen.models.ldm.dit import DiT
from jaxgen.models.ldm.space import Space
from jaxgen.models.ldm.unet import UNet
from jaxgen.tasks.common import make_module, module_keys, module_of

FORMS: dict[str, Any] = {"unet": UNet, "dit": DiT}
_GIVEN = ("out", "context", "classes", "pooled")  # follow from the rest of the config


def denoiser_keys(config: ConfigDict) -> Table:
    """The keys of `config.model.denoiser`, by its form.

    Raises:
      UserError: there is no such form.
    """
    module = module_of(config, "denoiser", FORMS)
    limits: dict[str, Any] = {
        "attention": {"each": Key(0, least=0, most=30)},
        "head_width": {"least": 0},
        "dropout": {"most": None, "below": 1},
    }
    form = Key("unet", "of the net", choices=tuple(FORMS))
    return {"form": form, **module_keys(module, given=_GIVEN, **limits)}


def make_denoiser(config: ConfigDict, space: Space, condition: Condition) -> Any:
    """Net "g": (x (b, h, w, c), t (b,), context, mask, label, train=...) -> shaped as x, float32.

    Raises:
      UserError: settings that do not go together.
    """
    settings = config.model.denoiser.to_dict()
    settings.pop("form")
    net = make_module(
        module_of(config, "denoiser", FORMS),
        "denoiser",
        config,
        **settings,
        out=space.channels,
        context=condition.width,
        classes=config.model.classes if condition.kind == "class" else 0,
        pooled=condition.pooled,
    )
    form = dit if isinstance(net, DiT) else unet
    form.check(net, "model.denoiser")
    return net


def make_schedule(config: ConfigDict) -> Schedule:
    """The noise schedule of `config.model.schedule`.

    Raises:
      UserError: settings that do not go together, the target's too.
    """
    schedule = Schedule(**config.model.schedule.to_dict())
    check_target(config.model.target, schedule)
    return schedule
