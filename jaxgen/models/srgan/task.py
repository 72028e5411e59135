"""SRGAN's losses and phases: SRResNet by pixel loss, then the GAN from where that stands.

Both stages are phases of one run: `pretrain` stops where `d` and `g` start. One command, one
resume, one set of curves; and since the trainer compiles a step per stage, the first stage pays
nothing for the second. `model.pretrain_steps = 0` leaves the first stage out, to start from
another run's generator (`train.init_from.g`); -1 leaves the second out: SRResNet alone.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.data import sources, sr
from jaxgen.encoders import vgg
from jaxgen.errors import UserError
from jaxgen.losses import adversarial, pixel
from jaxgen.losses.perceptual import perceptual_loss
from jaxgen.metrics.sr_evaluation import evaluate_sr
from jaxgen.models.srgan.discriminator import Discriminator
from jaxgen.models.srgan.generator import FORMS
from jaxgen.task import Evaluation, Phase, Task, Upscale

PIXEL = {"mse": pixel.mse, "l1": pixel.l1, "charbonnier": pixel.charbonnier}
# The random network that evaluation measures with: not the one that training sees.
EVALUATION_SEED = 1234
EVALUATION_LAYERS = ("conv2_2", "conv3_2", "conv4_2")


def make_generator(config: ConfigDict):
    """The generator module of `config.model.generator`.

    Raises:
      UserError: unknown form, setting or scale.
    """
    settings = config.model.generator.to_dict()
    form = settings.pop("form")
    if form not in FORMS:
        raise UserError(f"unknown generator form {form!r}; there are {', '.join(FORMS)}")
    if config.data.scale not in (2, 4, 8):
        raise UserError(f"data.scale={config.data.scale}: SRGAN upscales by 2, 4 or 8")
    return _make(FORMS[form], "generator", config, scale=config.data.scale, **settings)


def make_discriminator(config: ConfigDict) -> Discriminator:
    """The discriminator module of `config.model.discriminator`."""
    settings = config.model.discriminator.to_dict()
    if settings.get("head", "dense") not in ("dense", "pool"):
        raise UserError(f"unknown discriminator head {settings['head']!r}; use dense or pool")
    return _make(Discriminator, "discriminator", config, **settings)


def _make(module, name: str, config: ConfigDict, **settings):
    try:
        return module(dtype=jnp.dtype(config.train.dtype), **settings)
    except TypeError as error:
        raise UserError(f"config.model.{name}: {str(error).split('__init__() ')[-1]}") from None


def verbs(config: ConfigDict) -> dict[str, Any]:
    """What a trained SRGAN can do: {"upscale": ...}."""
    generator = make_generator(config)
    return {
        "upscale": Upscale(
            net="g",
            apply=lambda variables, x: generator.apply(variables, x, train=False),
            scale=config.data.scale,
            radius=generator.radius(),
        )
    }


def make_task(config: ConfigDict) -> Task:
    """The Task of this config; see `jaxgen.task`."""
    loss = config.model.loss
    generator, discriminator = make_generator(config), make_discriminator(config)
    if loss.pixel_kind not in PIXEL:
        raise UserError(
            f"unknown model.loss.pixel_kind {loss.pixel_kind!r}; use {', '.join(PIXEL)}"
        )
    layers = dict(loss.perceptual_layers)
    perceptual = vgg.load_perceptual(
        loss.perceptual_weights if loss.perceptual else "none",
        tuple(layers),
        loss.perceptual_width,
        loss.perceptual_seed,
    )
    measure = vgg.load_perceptual("random", EVALUATION_LAYERS, 0.5, EVALUATION_SEED)
    nets = SRGANLosses(generator, discriminator, config)
    begin = config.model.pretrain_steps
    phases = []
    if begin:
        stop = begin if begin > 0 else None
        phases.append(Phase("pretrain", ("g",), nets.pretrain, stop=stop))
    if begin >= 0:
        phases.append(Phase("d", ("d",), nets.discriminate, start=begin))
        phases.append(Phase("g", ("g",), nets.generate, start=begin, every=loss.d_steps_per_g_step))
    return Task(
        init=nets.init,
        phases=tuple(phases),
        train_data=lambda: (
            sources.open_source(config.data, "train"),
            sr.train_transform(config.data),
        ),
        frozen={"perceptual": perceptual, "measure": measure},
        ema={"g": config.model.ema} if config.model.ema else {},
        evaluate=partial(_evaluate, config, verbs(config)["upscale"]),
        eval_nets=("g",),
    )


class SRGANLosses:
    """The phases' loss functions, and the nets' initial variables.

    Pictures come as uint8 and are normalised to [-1, 1] on the device.
    """

    def __init__(self, generator, discriminator, config: ConfigDict):
        self.generator, self.discriminator = generator, discriminator
        self.loss = config.model.loss
        self.layers = dict(self.loss.perceptual_layers)
        self.adversarial = config.model.pretrain_steps >= 0

    def init(self, rng, batch):
        """(params, mutable) of net g and, if the run has a GAN stage, d.

        batch: lr (b, h, w, 3), hr (b, s*h, s*w, 3), uint8.
        """
        g_rng, d_rng = jax.random.split(rng)
        nets = {"g": self.generator.init(g_rng, to_float(batch["lr"][:1]))}
        if self.adversarial:
            nets["d"] = self.discriminator.init(d_rng, to_float(batch["hr"][:1]))
        params = {n: v["params"] for n, v in nets.items()}
        rest = {n: {k: v[k] for k in v if k != "params"} for n, v in nets.items()}
        return params, {n: r for n, r in rest.items() if r}

    def pretrain(self, params, mutable, frozen, batch, rng, step):
        """SRResNet: pixel loss alone."""
        del frozen, rng, step
        fake, mutable = self._upscale(params, mutable, batch)
        value = PIXEL[self.loss.pixel_kind](fake, to_float(batch["hr"]))
        return value, (mutable, {})

    def discriminate(self, params, mutable, frozen, batch, rng, step):
        """D on real and on generated pictures, one batch each; label smoothing, instance noise."""
        del frozen
        fake, _ = self._upscale(params, mutable, batch)
        real, fake = to_float(batch["hr"]), jax.lax.stop_gradient(fake)
        label_rng, rng = jax.random.split(rng)
        real_logits, mutable = self._judge(params, mutable, real, rng, 0, step)
        fake_logits, mutable = self._judge(params, mutable, fake, rng, 1, step)
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
        real = to_float(batch["hr"])
        loss, parts = self.loss, {}
        if loss.pixel:
            parts["pixel"] = loss.pixel * PIXEL[loss.pixel_kind](fake, real)
        if loss.perceptual and frozen["perceptual"]:
            parts["perceptual"] = loss.perceptual * perceptual_loss(
                partial(self._features, frozen["perceptual"]),
                fake,
                real,
                self.layers,
                loss.perceptual_kind,
                loss.perceptual_scale,
            )
        if loss.adversarial:
            # D's statistics move in its own phase only.
            logits, _ = self._judge(params, mutable, fake, rng, 1, step)
            reference = None
            if loss.adversarial_kind == "relativistic":
                reference, _ = self._judge(params, mutable, real, rng, 0, step)
            parts["adversarial"] = loss.adversarial * adversarial.generator_loss(
                logits, loss.adversarial_kind, reference
            )
        if not parts:
            raise UserError("model.loss: all weights of the GAN stage are zero")
        return sum(parts.values()), (changed, parts)

    def _upscale(self, params, mutable, batch):
        variables = {"params": params["g"], **mutable.get("g", {})}
        low = to_float(batch["lr"])
        fake, changed = self.generator.apply(variables, low, train=True, mutable=["batch_stats"])
        return fake, {**mutable, "g": changed} if changed else mutable

    def _judge(self, params, mutable, images, rng, stream, step):
        """Logits and D's new statistics; `stream` gives each batch its own noise and dropout."""
        noise_rng, drop_rng = jax.random.split(jax.random.fold_in(rng, stream))
        if self.loss.instance_noise:
            left = jnp.clip(1.0 - step / max(self.loss.instance_noise_steps, 1), 0.0, 1.0)
            noise = jax.random.normal(noise_rng, images.shape, images.dtype)
            images = images + self.loss.instance_noise * left * noise
        logits, changed = self.discriminator.apply(
            {"params": params["d"], **mutable.get("d", {})},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": drop_rng},
        )
        return logits, {**mutable, "d": changed} if changed else mutable

    def _features(self, weights, images):
        prepared = vgg.prepare(images, self.loss.perceptual_input)
        before = self.loss.perceptual_before_activation
        return vgg.features(
            weights, prepared, tuple(self.layers), before, dtype=self.generator.dtype
        )


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
        upscale,
        nets[upscale.net],
        sr.validation_pairs(config.data),
        distances=jax.jit(partial(feature_distances, frozen["measure"])),
        limit=config.eval.images,
        crop=config.eval.crop,
    )
