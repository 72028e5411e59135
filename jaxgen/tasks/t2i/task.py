"""Text-to-image GANs: networks of a config, phases and the verb, whatever the family.

Nets: "text" (the encoder), "g", "d", and "match", the pictures' side of the matching loss, where
one is used. Phases: `damsm` trains text and match first, if asked for; then `d` and `g` in turns.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.data.captioned import examples, section, tokenizers
from jaxgen.data.captioned.records import count_validation
from jaxgen.errors import UserError
from jaxgen.evaluation import captions
from jaxgen.keys import Key, Table
from jaxgen.nn.text import BagOfWords, LSTMEncoder, TransformerEncoder
from jaxgen.nn.unet_discriminator import UNetDiscriminator
from jaxgen.task import Lazy, Phase, Task
from jaxgen.tasks.common import choose, make_module, module_keys, module_of
from jaxgen.tasks.t2i import features
from jaxgen.tasks.t2i.losses import T2ILosses
from jaxgen.verbs.generate.contract import TRUNCATION, Generate

ENCODERS = {"lstm": LSTMEncoder, "transformer": TransformerEncoder, "bow": BagOfWords}
# Whose loss trains the text encoder: the nets' phases, the matching loss before them, or nothing.
TRAINED_BY = ("g", "d", "both", "damsm", "none")


def resolve(config: ConfigDict) -> ConfigDict:
    """The config with what the captions decide filled in: the tokenizer. See `jaxgen.config`."""
    return tokenizers.resolve(config)


def make_text_encoder(config: ConfigDict) -> Any:
    """The text encoder of `config.model.text`, for the tokenizer of the config."""
    settings = config.model.text.to_dict()
    module = choose(ENCODERS, settings.pop("kind"), "model.text.kind")
    settings.pop("trained_by", None)  # of GANs
    width, heads = settings["width"], settings["heads"]
    if module is LSTMEncoder and settings["bidirectional"] and width % 2:
        raise UserError(f"model.text.width={width} must be even for an lstm of two directions")
    if module is TransformerEncoder and width % heads:
        raise UserError(f"model.text.width={width} must be a multiple of model.text.heads={heads}")
    tokenizer = tokenizers.make_tokenizer(config.data)
    if module is TransformerEncoder:
        settings["length"] = tokenizer.length
    known = {field.name for field in dataclasses.fields(module)}
    settings = {key: value for key, value in settings.items() if key in known}
    return make_module(module, "text", config, size=tokenizer.size, **settings)


def make_discriminator(config: ConfigDict, own: Any, **settings: Any) -> Any:
    """The discriminator of `config.model.discriminator`: the family's own, or with
    `form="unet"` the U-Net, which fits under every family.

    Args:
      own: the family's module. settings: for it, in addition to the section's.
    """
    section = config.model.discriminator.to_dict()
    form = section.pop("form", "own")
    choose(dict.fromkeys(("own", "unet")), form, "model.discriminator.form")
    if form == "own":
        return make_module(own, "discriminator", config, **section, **settings)
    return make_module(UNetDiscriminator, "discriminator", config, size=config.data.size, **section)


def discriminator_keys(
    config: ConfigDict, own: Any, given: tuple[str, ...] = (), section: str = "discriminator"
) -> Table:
    """The keys of `config.model.discriminator`, by its form; see `make_discriminator`."""
    module = module_of(config, section, {"own": own, "unet": UNetDiscriminator})
    return {
        "form": Key("own", "the family's own, or the U-Net", choices=("own", "unet")),
        **module_keys(module, given=("size", *given)),
    }


def generate_verb(config: ConfigDict, encoder: Any, generator: Any) -> Generate:
    """The verb of a generator that has `noise` and takes (z, text, train)."""

    def embed(nets, tokens, mask):
        return encoder.apply(nets["text"], tokens, mask)

    def draw(nets, text, z, given):
        del given
        drawn = generator.apply(nets["g"], z, text, train=False)
        return drawn.image.astype(jnp.float32), drawn.masks

    return Generate(
        nets=("text", "g"),
        size=config.data.size,
        noise=tuple(generator.noise),
        read=tokenizers.make_tokenizer(config.data).encode,
        embed=embed,
        draw=draw,
        options={"truncation": TRUNCATION},
    )


def one_stage_verbs(config: ConfigDict, generator: Any) -> dict[str, Any]:
    """What a GAN of one generator can do: {"generate": ...}."""
    return {"generate": generate_verb(config, make_text_encoder(config), generator)}


def one_stage_task(config: ConfigDict, generator: Any, discriminator: Any) -> Task:
    """The Task of a GAN of one generator and one discriminator, with the losses of `T2ILosses`."""
    check_stop(config)
    losses = T2ILosses(make_text_encoder(config), generator, discriminator, config)
    return make_task(config, losses, one_stage_verbs(config, generator)["generate"])


def check_stop(config: ConfigDict) -> None:
    """Refuses steps in which nothing would be trained, of a GAN that nothing follows.

    Raises:
      UserError: what to set.
    """
    stop, steps = config.model.gan_stop, config.train.steps
    if stop and stop < steps:
        raise UserError(
            f"model.gan_stop={stop} leaves nothing to train until train.steps={steps}: set it to 0"
        )


def make_task(config: ConfigDict, losses: T2ILosses, verb: Generate) -> Task:
    """The Task of a text-to-image GAN.

    Args:
      config: with the sections of `jaxgen.tasks.t2i.config.t2i_config`.
      losses: of the family's networks.
      verb: its `generate`, by which it is evaluated.
    """
    section.check(config.data)
    loss, trained_by = config.model.loss, config.model.text.trained_by
    choose(dict.fromkeys(TRAINED_BY), trained_by, "model.text.trained_by")
    features.check(config)
    begin, stop = config.model.damsm_steps, config.model.gan_stop or None
    phases = []
    if begin:
        phases.append(Phase("damsm", ("text", "match"), losses.match, stop=begin))
    elif trained_by == "damsm":
        raise UserError("model.text.trained_by=damsm needs model.damsm_steps, or use none")
    d = ("d", "text") if trained_by in ("d", "both") else ("d",)
    g = ("g", "text") if trained_by in ("g", "both") else ("g",)
    phases.append(d_phase("d", d, losses, begin, stop))
    if loss.penalty_apart:
        phases.append(Phase("penalty", ("d",), losses.penalize, loss.penalty_every, begin, stop))
    phases.append(Phase("g", g, losses.generate, loss.d_steps_per_g_step, begin, stop))
    ema = config.model.ema
    averaged = ("g", "text") if trained_by in ("g", "d", "both") else ("g",)
    return Task(
        init=losses.init,
        phases=tuple(phases),
        train_data=lambda: examples.train_data(config.data),
        ema=dict.fromkeys(averaged, ema) if ema else {},
        evaluate=partial(captions.evaluate, config, verb),
        eval_nets=verb.nets,
        validates=partial(count_validation, config.data, config.eval.captions),
    )


def d_phase(
    name: str, nets: tuple[str, ...], losses: T2ILosses, start: int, stop: int | None = None
) -> Phase:
    """The discriminator's phase, with penalties at every `model.loss.penalty_every`-th step."""
    loss = losses.loss
    lazily = (loss.magp or loss.r1) and not loss.penalty_apart and loss.penalty_every > 1
    if not lazily:
        return Phase(name, nets, losses.discriminate, start=start, stop=stop)
    plain = partial(losses.discriminate, penalized=False)
    lazy = Lazy(loss.penalty_every, losses.discriminate)
    return Phase(name, nets, plain, start=start, stop=stop, lazy=lazy)
