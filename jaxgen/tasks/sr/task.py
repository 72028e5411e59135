"""Super-resolution GANs: losses, phases and evaluation, whatever the networks.

Both stages are phases of one run: `pretrain` stops where `d` and `g` start. One command, one
resume, one set of curves; and since the trainer compiles a step per stage, the first stage pays
nothing for the second. `model.pretrain_steps = 0` leaves the first stage out, to start from
another run's generator (`train.init_from.g`); -1 leaves the second out: pixel loss alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.data.sr import examples as sr
from jaxgen.data.sr import sources
from jaxgen.encoders import perceptual, vgg
from jaxgen.errors import UserError
from jaxgen.evaluation.sr import evaluate_sr
from jaxgen.losses import adversarial, pixel
from jaxgen.losses.perceptual import perceptual_loss
from jaxgen.task import Evaluation, Phase, Task, Upscale
from jaxgen.verbs.upscale.tiling import upscale_image

PIXEL = {"mse": pixel.mse, "l1": pixel.l1, "charbonnier": pixel.charbonnier}
# The random network that evaluation measures with: not the one that training sees.
EVALUATION_SEED = 1234
EVALUATION_LAYERS = ("conv2_2", "conv3_2", "conv4_2")


def make_module(module: Callable[..., nn.Module], name: str, config: ConfigDict, **settings: Any):
    """`module(**settings)` in the config's dtype; an unknown setting is a UserError.

    name: of the section below `config.model`, for the message.
    """
    try:
        return module(dtype=jnp.dtype(config.train.dtype), **settings)
    except TypeError as error:
        raise UserError(f"config.model.{name}: {str(error).split('__init__() ')[-1]}") from None


def choose(kinds: Mapping[str, Any], kind: str, what: str) -> Any:
    """kinds[kind], or a UserError that lists them."""
    if kind not in kinds:
        raise UserError(f"unknown {what} {kind!r}; there are {', '.join(kinds)}")
    return kinds[kind]


def upscale_verb(generator: Any, scale: int, multiple: int = 1) -> Upscale:
    """The verb of a generator that has `radius()` and takes `train`."""
    return Upscale(
        net="g",
        apply=lambda variables, x: generator.apply(variables, x, train=False),
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
            sr.train_transform(config.data),
        ),
        frozen={"perceptual": seen, "measure": measure},
        ema={"g": config.model.ema} if config.model.ema else {},
        evaluate=partial(_evaluate, config, upscale),
        eval_nets=("g",),
    )


class SRLosses:
    """The phases' loss functions, and the nets' initial variables.

    Pictures come as uint8 and are normalised to [-1, 1] on the device. A family whose networks see
    more than pictures overrides `init`, `_upscale` and `_judge`.

    Args:
      generator: module with (x (b, h, w, 3), train=...) -> (b, s*h, s*w, 3), both in [-1, 1].
      discriminator: module with (y, train=...) -> logits, (b,) or a map (b, h, w); may have state
        (BatchNorm's statistics, spectral norm's vectors) and use rng "dropout".
      config: the run's.
    """

    def __init__(self, generator: Any, discriminator: Any, config: ConfigDict):
        self.generator, self.discriminator = generator, discriminator
        self.loss = config.model.loss
        choose(PIXEL, self.loss.pixel_kind, "model.loss.pixel_kind")
        self.layers = dict(self.loss.perceptual_layers)
        self.adversarial = config.model.pretrain_steps >= 0

    def init(self, rng, batch):
        """(params, mutable) of net g and, if the run has a GAN stage, d.

        batch: lr (b, h, w, 3), hr (b, s*h, s*w, 3), uint8; "hr_usm", where the data has it, is
          what the pixel and perceptual losses take for the original (Real-ESRGAN).
        """
        g_rng, d_rng = jax.random.split(rng)
        nets = {"g": self.generator.init(g_rng, to_float(batch["lr"][:1]))}
        if self.adversarial:
            nets["d"] = self.discriminator.init(d_rng, to_float(batch["hr"][:1]))
        params = {n: v["params"] for n, v in nets.items()}
        rest = {n: {k: v[k] for k in v if k != "params"} for n, v in nets.items()}
        return params, {n: r for n, r in rest.items() if r}

    def pretrain(self, params, mutable, frozen, batch, rng, step):
        """Pixel loss alone (SRGAN's SRResNet, ESRGAN's PSNR model)."""
        del frozen, rng, step
        fake, mutable = self._upscale(params, mutable, batch)
        value = PIXEL[self.loss.pixel_kind](fake, to_float(_target(batch)))
        return value, (mutable, {})

    def discriminate(self, params, mutable, frozen, batch, rng, step):
        """D on real and on generated pictures, one batch each; label smoothing, instance noise."""
        del frozen
        fake, _ = self._upscale(params, mutable, batch)
        real, fake = to_float(batch["hr"]), jax.lax.stop_gradient(fake)
        label_rng, rng = jax.random.split(rng)
        real_logits, mutable = self._judge(params, mutable, real, batch, rng, 0, step)
        fake_logits, mutable = self._judge(params, mutable, fake, batch, rng, 1, step)
        smoothing, kind = self.loss.label_smoothing, self.loss.label_smoothing_kind
        if kind == "uniform":
            targets = adversarial.noisy_targets(label_rng, real_logits.shape, smoothing)
        else:
            targets = jnp.asarray(1.0 - smoothing), jnp.asarray(0.0)
        value = adversarial.discriminator_loss(
            real_logits, fake_logits, self.loss.adversarial_kind, *targets
        )
        return value, (mutable, {"accuracy": adversarial.accuracy(real_logits, fake_logits)})

    def generate(self, params, mutable, frozen, batch, rng, step):
        """G: any weighted sum of pixel, perceptual and adversarial losses."""
        fake, changed = self._upscale(params, mutable, batch)
        target = to_float(_target(batch))
        loss, parts = self.loss, {}
        if loss.pixel:
            parts["pixel"] = loss.pixel * PIXEL[loss.pixel_kind](fake, target)
        if loss.perceptual and frozen["perceptual"]:
            parts["perceptual"] = loss.perceptual * perceptual_loss(
                partial(self.features, frozen["perceptual"]),
                fake,
                target,
                self.layers,
                loss.perceptual_kind,
                loss.perceptual_scale,
            )
        if loss.total_variation:
            parts["total_variation"] = loss.total_variation * pixel.total_variation(fake)
        if loss.adversarial:
            # D's statistics move in its own phase only.
            logits, _ = self._judge(params, mutable, fake, batch, rng, 1, step)
            reference = None
            if loss.adversarial_kind == "relativistic":
                real = to_float(batch["hr"])
                reference, _ = self._judge(params, mutable, real, batch, rng, 0, step)
            parts["adversarial"] = loss.adversarial * adversarial.generator_loss(
                logits, loss.adversarial_kind, reference
            )
        if not parts:
            raise UserError("model.loss: all weights of the GAN stage are zero")
        return sum(parts.values()), (changed, parts)

    def _upscale(self, params, mutable, batch):
        state = mutable.get("g", {})
        fake, changed = self.generator.apply(
            {"params": params["g"], **state}, to_float(batch["lr"]), train=True, mutable=list(state)
        )
        return fake, {**mutable, "g": changed} if changed else mutable

    def _judge(self, params, mutable, images, batch, rng, stream, step):
        """Logits and D's new state; `stream` gives each batch its own noise and dropout."""
        del batch
        noise_rng, drop_rng = jax.random.split(jax.random.fold_in(rng, stream))
        if self.loss.instance_noise:
            left = jnp.clip(1.0 - step / max(self.loss.instance_noise_steps, 1), 0.0, 1.0)
            noise = jax.random.normal(noise_rng, images.shape, images.dtype)
            images = images + self.loss.instance_noise * left * noise
        state = mutable.get("d", {})
        logits, changed = self.discriminator.apply(
            {"params": params["d"], **state},
            images,
            train=True,
            mutable=list(state),
            rngs={"dropout": drop_rng},
        )
        return logits, {**mutable, "d": changed} if changed else mutable

    def features(self, weights, images):
        """The perceptual network's features of images in [-1, 1]: {layer: array}."""
        return perceptual.features(
            self.loss.perceptual_net,
            weights,
            images,
            tuple(self.layers),
            self.loss.perceptual_before_activation,
            self.loss.perceptual_input,
            self.generator.dtype,
        )


def _target(batch):
    return batch.get("hr_usm", batch["hr"])


def to_float(images: jax.Array) -> jax.Array:
    """uint8 [0, 255] -> float32 [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def feature_distances(weights, x: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
    """Two distances in the features of a frozen random VGG, relative to y's features.

    distance: mean absolute difference, averaged over `EVALUATION_LAYERS`; what the perceptual
      loss measures, in another network than the one trained with.
    texture: the same of the features' standard deviations in 8x8 windows: whether there is as
      much structure in a place, wherever exactly it lies (a blurred picture has too little).

    Args:
      weights: of `vgg.load_perceptual`.
      x, y: (1, h, w, 3) float32 in [-1, 1], y the reference, sides of 64 pixels or more.

    Returns: {"distance", "texture"}, float32 scalars; 0 for equal pictures.
    """
    totals = {"distance": jnp.zeros(()), "texture": jnp.zeros(())}
    ours, theirs = (vgg.features(weights, vgg.prepare(z), EVALUATION_LAYERS) for z in (x, y))
    for name in EVALUATION_LAYERS:
        a, b = ours[name], theirs[name]
        spread_a, spread_b = _local_spread(a), _local_spread(b)
        totals["distance"] += jnp.abs(a - b).mean() / jnp.abs(b).mean()
        totals["texture"] += jnp.abs(spread_a - spread_b).mean() / spread_b.mean()
    return {key: total / len(EVALUATION_LAYERS) for key, total in totals.items()}


def _local_spread(features: jax.Array, window: int = 8) -> jax.Array:
    """Standard deviation in windows: (b, h, w, c) -> (b, h // 8, w // 8, c)."""
    b, h, w, c = features.shape
    rows, columns = h // window, w // window
    cut = features[:, : rows * window, : columns * window]
    return cut.reshape(b, rows, window, columns, window, c).std((2, 4))


def _evaluate(config: ConfigDict, upscale: Upscale, nets, frozen, step) -> Evaluation:
    """PSNR and SSIM by the field's protocol and feature distances, on whole pictures."""
    del step
    return evaluate_sr(
        partial(upscale_image, upscale, nets[upscale.net]),
        sr.validation_pairs(config.data),
        distances=jax.jit(partial(feature_distances, frozen["measure"])),
        limit=config.eval.images,
        crop=config.eval.crop,
    )
