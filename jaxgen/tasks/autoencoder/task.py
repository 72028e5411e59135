"""Autoencoders with a GAN: phases, data and evaluation, whatever the bottleneck.

`pretrain` learns to reconstruct without a discriminator, until `model.gan_start`; from there on `d`
and `g` take turns. D is trained for `model.d_warmup` steps before it counts: an untrained one would
spoil what was learned. With `gan_start=-1` there is `pretrain` alone.

D goes first in a step, as in the other families here, so that both phases share one reconstruction;
taming-transformers trains it after the generator, on a second reconstruction of the same batch.
"""

from __future__ import annotations

from functools import partial

from ml_collections import ConfigDict

from jaxgen.data.captioned import examples, section
from jaxgen.data.captioned.records import count_validation
from jaxgen.evaluation import reconstruction
from jaxgen.task import Phase, Task
from jaxgen.tasks.autoencoder.losses import AutoencoderLosses, load_perceptual
from jaxgen.verbs.encode.contract import Encode


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
