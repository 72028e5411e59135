"""Super-resolution GANs: phases, data, evaluation and the verb, whatever the networks.

Both stages are phases of one run: `pretrain` stops where `d` and `g` start. One command, one
resume, one set of curves; and since the trainer compiles a step per stage, the first stage pays
nothing for the second. `model.pretrain_steps = 0` leaves the first stage out, to start from
another run's generator (`train.init_from.g`); -1 leaves the second out: pixel loss alone.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxgen.data.sr import examples, sources
from jaxgen.encoders import perceptual, vgg
from jaxgen.evaluation.sr import (
    EVALUATION_LAYERS,
    EVALUATION_SEED,
    evaluate_sr,
    feature_distances,
)
from jaxgen.task import Evaluation, Phase, Task
from jaxgen.tasks.sr.losses import SRLosses
from jaxgen.verbs.upscale.contract import Upscale
from jaxgen.verbs.upscale.tiling import upscale_image


def upscale_verb(generator: Any, scale: int, multiple: int = 1) -> Upscale:
    """The verb of a generator that has `radius()` and takes `train`."""
    return Upscale(
        nets=("g",),
        apply=lambda nets, x, given: generator.apply(nets["g"], x, train=False),
        scale=scale,
        radius=generator.radius(),
        multiple=multiple,
    )


def make_task(config: ConfigDict, losses: SRLosses, upscale: Upscale) -> Task:
    """The Task of a super-resolution family: pre-training, then the GAN.

    Args:
      config: with `model.loss` as of `jaxgen.tasks.sr.config.sr_loss`, `model.pretrain_steps`,
        `model.ema`, `eval.images`, `eval.crop`, and optimizers `pretrain`, `d` and `g` as far as
        they run.
      losses: of the family's networks.
      upscale: its verb, by which it is evaluated.
    """
    loss = config.model.loss
    seen = perceptual.load(
        loss.perceptual_net,
        loss.perceptual_weights if loss.perceptual else "none",
        tuple(losses.layers),
        loss.perceptual_width,
        loss.perceptual_seed,
    )
    if seen:
        # Mistakes show now, not when the GAN stage begins.
        picture = jax.ShapeDtypeStruct((1, config.data.hr_size, config.data.hr_size, 3), "float32")
        jax.eval_shape(losses.features, seen, picture)
    measure = vgg.load_perceptual("random", EVALUATION_LAYERS, 0.5, EVALUATION_SEED)
    begin = config.model.pretrain_steps
    phases = []
    if begin:
        stop = begin if begin > 0 else None
        phases.append(Phase("pretrain", ("g",), losses.pretrain, stop=stop))
    if begin >= 0:
        phases.append(Phase("d", ("d",), losses.discriminate, start=begin))
        phases.append(
            Phase("g", ("g",), losses.generate, start=begin, every=loss.d_steps_per_g_step)
        )
    return Task(
        init=losses.init,
        phases=tuple(phases),
        train_data=lambda: (
            sources.open_source(config.data, "train"),
            examples.train_transform(config.data),
        ),
        frozen={"perceptual": seen, "measure": measure},
        ema={"g": config.model.ema} if config.model.ema else {},
        evaluate=partial(_evaluate, config, upscale),
        eval_nets=("g",),
        validates=partial(_count_validation, config),
    )


def _count_validation(config: ConfigDict) -> int:
    there = len(sources.open_source(config.data, "validation"))
    return min(config.eval.images or there, there)


def _evaluate(config: ConfigDict, upscale: Upscale, nets, frozen, step) -> Evaluation:
    """PSNR and SSIM by the field's protocol and feature distances, on whole pictures."""
    del step
    return evaluate_sr(
        partial(upscale_image, upscale, nets),
        examples.validation_pairs(config.data),
        distances=jax.jit(partial(feature_distances, frozen["measure"])),
        limit=config.eval.images,
        crop=config.eval.crop,
    )
