"""Autoencoders with a GAN: phases, data and evaluation, whatever the bottleneck.

`pretrain` learns to reconstruct without a discriminator, until `model.gan_start`; from there on `d`
and `g` take turns. D is trained for `model.d_warmup` steps before it counts: an untrained one would
spoil what was learned. With `gan_start=-1` there is `pretrain` alone.

D goes first in a step, as in the other families here, so that both phases share one reconstruction;
taming-transformers trains it after the generator, on a second reconstruction of the same batch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ml_collections import ConfigDict

from jaxgen.data.captioned import examples, section
from jaxgen.data.captioned.records import count_validation
from jaxgen.data.captioned.source import find_source
from jaxgen.errors import UserError
from jaxgen.evaluation import reconstruction
from jaxgen.nn.autoencoder import factor, radii
from jaxgen.nn.patchgan import NLayerDiscriminator
from jaxgen.task import Phase, Task
from jaxgen.tasks.autoencoder.losses import AutoencoderLosses, load_perceptual
from jaxgen.tasks.common import make_module
from jaxgen.verbs.encode.contract import Encode

# Channels of pictures of a kind.
_CHANNELS = {"photo": 3, "depth": 1}


def kind_of(config: ConfigDict) -> str:
    """Of the pictures: of the data, or by their number where the weights came without any."""
    if "source" in config.data:
        return find_source(config.data.source).KIND
    numbers = {channels: kind for kind, channels in _CHANNELS.items()}
    return numbers.get(config.model.channels, "segmentation")


def encode_verb(
    config: ConfigDict, net: Any, codes: int, width: int = 0, **methods: Callable[..., Any]
) -> Encode:
    """The verb of an autoencoder.

    Args:
      net: "g", with `encoder`, `decoder` and methods `encode` and `decode`.
      codes, width: as of `Encode`.
      methods: of `net`, for what else of `Encode` it has.
    """

    def bound(method: Callable[..., Any] | str) -> Callable[..., Any]:
        return lambda nets, *given: net.apply(nets["g"], *given, method=method)

    own: dict[str, Any] = {name: bound(method) for name, method in methods.items()}
    return Encode(
        nets=("g",),
        encode=bound("encode"),
        decode=bound("decode"),
        factor=factor(net.encoder),
        codes=codes,
        channels=config.model.channels,
        radius=radii(net.encoder, net.decoder),
        kind=kind_of(config),
        width=width,
        **own,
    )


def check_pictures(config: ConfigDict) -> str:
    """The pictures' kind, if the networks can take them.

    Raises:
      UserError: says what to change.
    """
    kind, channels = kind_of(config), config.model.channels
    if channels != _CHANNELS.get(kind, channels):
        raise UserError(
            f"model.channels={channels}: data.source={config.data.source} has pictures of "
            f"{_CHANNELS[kind]}"
        )
    if config.data.size % (pixels := factor(config.model.autoencoder)):
        raise UserError(
            f"data.size={config.data.size} must be a multiple of {pixels}, the pixels that "
            "model.autoencoder makes a code of"
        )
    section.check_step(config.data, pixels, "the pixels of a code")
    return kind


def check_groups(encoder: Any) -> None:
    """Raises UserError if a level's channels are no multiple of the normalisation's groups."""
    for level, width in enumerate(encoder.widths):
        if encoder.groups and encoder.features * width % encoder.groups:
            raise UserError(
                f"model.autoencoder: level {level} has {encoder.features * width} channels, no "
                f"multiple of groups={encoder.groups}"
            )


def make_discriminator(config: ConfigDict) -> NLayerDiscriminator | None:
    """Net "d" of `config.model.discriminator`; None for a run without a GAN."""
    if config.model.gan_start < 0:
        return None
    settings = config.model.discriminator.to_dict()
    return make_module(NLayerDiscriminator, "discriminator", config, **settings)


def make_task(config: ConfigDict, losses: AutoencoderLosses, verb: Encode) -> Task:
    """The Task of an autoencoder.

    Args:
      config: with the sections of `jaxgen.tasks.autoencoder.config.autoencoder_config`.
      losses: of the family's networks.
      verb: its `encode`, by which it is evaluated.
    """
    section.check(config.data, captioned=False)
    begin = config.model.gan_start
    phases = []
    if begin:
        stop = begin if begin > 0 else None
        phases.append(Phase("pretrain", ("g",), losses.pretrain, stop=stop))
    if begin >= 0:
        warm = max(0, begin - config.model.d_warmup)
        phases.append(Phase("d", ("d",), losses.discriminate, start=warm))
        phases.append(Phase("g", ("g",), losses.generate, start=begin))
    ema = config.model.ema
    return Task(
        init=losses.init,
        phases=tuple(phases),
        train_data=lambda: examples.train_pictures(config.data),
        frozen={"perceptual": load_perceptual(config)},
        ema={"g": ema} if ema else {},
        evaluate=partial(reconstruction.evaluate, config, verb),
        eval_nets=verb.nets,
        validates=partial(count_validation, config.data, config.eval.images, captioned=False),
    )
