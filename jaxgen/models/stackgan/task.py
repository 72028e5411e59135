"""StackGAN's networks, stages and verb from a config."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.errors import UserError
from jaxgen.evaluation import captions
from jaxgen.keys import Key, Table, whole
from jaxgen.models.stackgan.discriminator import Discriminator
from jaxgen.models.stackgan.generator import FORMS, StageOne, StageTwo
from jaxgen.models.stackgan.losses import StageOneLosses, StageTwoLosses, draw_low
from jaxgen.task import Phase, Task
from jaxgen.tasks.common import choose, make_module, module_keys, with_own
from jaxgen.tasks.t2i import config as defaults
from jaxgen.tasks.t2i import task as t2i
from jaxgen.tasks.t2i import text_part
from jaxgen.verbs.generate.contract import Generate

resolve = t2i.resolve
STAGES = ((1,), (2,), (1, 2))


def keys(config: ConfigDict) -> Table:
    """What the config's own sections hold; see `jaxgen.train.family.check`."""
    given = ("condition", "bottleneck", "image_head")
    weights = ("real", "fake", "mismatch", "image_real", "image_fake")
    return with_own(
        defaults.KEYS,
        stages=Key((1, 2), "(2,) with train.init_from.g and .text", choices=STAGES),
        factor=whole(2, "of stage II's enlargement, a power of two", 2, most=64),
        form=Key("tf", "the paper's networks, or StackGAN-PyTorch's", choices=FORMS),
        generator=module_keys(StageOne, given=("size", "form")),
        discriminator=t2i.discriminator_keys(config, Discriminator, given),
        stage2={
            "generator": module_keys(StageTwo, given=("factor", "before", "condition", "form")),
            "discriminator": t2i.discriminator_keys(
                config, Discriminator, given, "stage2.discriminator"
            ),
            "loss": {key: defaults.LOSS[key] for key in weights},
        },
    )


def stages(config: ConfigDict) -> tuple[int, ...]:
    """The stages that the run trains: (1,), (2,) or (1, 2).

    Raises:
      UserError: another choice.
    """
    found = tuple(config.model.stages)
    if found not in STAGES:
        raise UserError(f"model.stages={found} must be (1,), (2,) or (1, 2)")
    return found


def stage_config(config: ConfigDict, stage: int) -> ConfigDict:
    """The config as one stage sees it: its picture size, networks and losses in the usual places.

    Stage II takes from `model.stage2` what is there, and the rest as it is; the matching loss is
    for stage I alone, and the text encoder is fixed from stage II's first step on.

    Raises:
      UserError: sizes that cannot be.
    """
    view = config.copy_and_resolve_references()
    size, factor = config.data.size, config.model.factor
    if factor < 2 or factor & (factor - 1):
        raise UserError(f"model.factor={factor} must be 2, 4 or another power of two")
    first = size // factor if 2 in stages(config) else size
    if size & (size - 1) or first < 8:
        raise UserError(
            f"data.size={size}: stackgan draws powers of two, and stage I's pictures, "
            f"{first} px here, have 8 or more"
        )
    # A weight may be written as 1 for 1.0.
    with view.unlocked(), view.ignore_type():
        if stage == 1:
            view.data.size = first
            return view
        own = config.model.stage2
        view.model.generator = {**own.generator, "condition": config.model.generator.condition}
        view.model.discriminator = own.discriminator.to_dict()
        view.model.loss.update(own.loss.to_dict())
        view.model.loss.damsm = 0.0
        view.model.damsm_steps = 0
        view.model.text.trained_by = "none"
    return view


def make_first(config: ConfigDict) -> StageOne:
    """Stage I's generator.

    Raises:
      UserError: an unknown form or setting.
    """
    view = stage_config(config, 1)
    return _make(StageOne, view, size=view.data.size)


def make_second(config: ConfigDict) -> StageTwo:
    """Stage II's generator.

    Raises:
      UserError: as `make_first`.
    """
    generator = config.model.generator
    before = generator.z + generator.condition
    return _make(StageTwo, stage_config(config, 2), factor=config.model.factor, before=before)


def _make(module: Any, view: ConfigDict, **settings: Any) -> Any:
    choose(dict.fromkeys(FORMS), view.model.form, "model.form")
    settings |= view.model.generator.to_dict()
    return make_module(module, "generator", view, form=view.model.form, **settings)


def make_discriminator(config: ConfigDict, stage: int) -> Any:
    """The discriminator of a stage: the published one, or the U-Net."""
    view = stage_config(config, stage)
    tf = view.model.form == "tf"
    return t2i.make_discriminator(
        view,
        Discriminator,
        size=view.data.size,
        condition=view.model.generator.condition if tf else 0,
        bottleneck=tf,
        image_head=stage == 2 and not tf,
    )


def verbs(config: ConfigDict) -> dict[str, Any]:
    """What a trained model can do: {"generate": ...}, by stage II where the run trains it."""
    encoder, first = t2i.make_text_encoder(config), make_first(config)
    verb = t2i.generate_verb(config, encoder, first)
    if 2 not in stages(config):
        return {"generate": verb}
    second: Any = make_second(config)

    def draw(nets, text, z, given):
        del given
        low = draw_low(first, nets["g"], z, text)
        drawn = second.apply(nets["g2"], z, low, text, train=False)
        return drawn.image.astype(jnp.float32), drawn.masks

    nets, noise = ("text", "g", "g2"), second.noise
    return {"generate": dataclasses.replace(verb, nets=nets, noise=noise, draw=draw)}


def make_task(config: ConfigDict) -> Task:
    """The Task of this config; see `jaxgen.task`.

    Raises:
      UserError: stages, sizes or steps that cannot be.
    """
    trained, verb = stages(config), verbs(config)["generate"]
    encoder, view = t2i.make_text_encoder(config), stage_config(config, 1)
    first = StageOneLosses(encoder, make_first(config), make_discriminator(config, 1), view)
    if trained == (1,):
        t2i.check_stop(config)
    task = t2i.make_task(config, first, verb)
    return task if trained == (1,) else _with_stage_two(config, task, first, verb)


def _with_stage_two(config: ConfigDict, task: Task, first: StageOneLosses, verb: Generate) -> Task:
    """Stage I's Task, with stage II after it or in its place."""
    view, both, start = stage_config(config, 2), 1 in stages(config), config.model.gan_stop
    if both and not config.model.damsm_steps < start < config.train.steps:
        raise UserError(
            f"model.gan_stop={start} is the step at which stage II begins: let it be below "
            f"train.steps={config.train.steps}, and above model.damsm_steps"
        )
    init_from = config.train.init_from
    if not both and not (init_from.g and (init_from.text or text_part.given(config))):
        raise UserError(
            "model.stages=(2,) needs a trained stage I: give its run to train.init_from.g and to "
            "parts.text or train.init_from.text"
        )
    if view.model.loss.penalty_apart:
        raise UserError("model.loss.penalty_apart is for stage I alone: train model.stages=(1,)")
    start = start if both else 0
    losses = StageTwoLosses(
        first.encoder, make_second(config), make_discriminator(config, 2), view, first, start
    )
    phases = (
        t2i.d_phase("d2", ("d2",), losses, start),
        Phase("g2", ("g2",), losses.generate, view.model.loss.d_steps_per_g_step, start),
    )
    ema = {"g2": config.model.ema} if config.model.ema else {}
    small = stage_config(config, 1)
    sketch = t2i.generate_verb(small, first.encoder, first.generator)

    def evaluate(nets, frozen, step):
        """Of the stage that was trained last: stage II's pictures say nothing before it began."""
        if step <= start:
            return captions.evaluate(small, sketch, nets, frozen, step)
        return captions.evaluate(config, verb, nets, frozen, step)

    return dataclasses.replace(
        task,
        init=losses.init if both else partial(_without_first_gan, losses),
        phases=(*task.phases, *phases) if both else phases,
        ema={**(task.ema if both else {}), **ema},
        evaluate=evaluate,
    )


def _without_first_gan(losses: StageTwoLosses, rng, batch):
    """The initial nets of a run that trains stage II alone: none that only stage I's phases use."""
    params, mutable = losses.init(rng, batch)
    used = ("text", "g", "g2", "d2")
    return {n: params[n] for n in used}, {n: mutable[n] for n in used if n in mutable}
