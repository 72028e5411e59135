"""Super-resolution GANs' losses, whatever the networks.

One function of `SRLosses` for each phase: `pretrain` for pixels alone, then `discriminate` and
`generate` in turns. The weights are those of the config section `model.loss`; see
`jaxgen.tasks.sr.config.sr_loss`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.encoders import perceptual
from jaxgen.errors import UserError
from jaxgen.losses import adversarial, pixel
from jaxgen.losses.perceptual import DISTANCES, perceptual_loss
from jaxgen.tasks.common import choose, to_float

PIXEL = {"mse": pixel.mse, "l1": pixel.l1, "charbonnier": pixel.charbonnier}
KINDS = {
    "pixel_kind": tuple(PIXEL),
    "perceptual_kind": DISTANCES,
    "adversarial_kind": adversarial.KINDS,
    "label_smoothing_kind": ("one-sided", "uniform"),
}


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
        # Mistakes show now, not when the GAN stage begins.
        for key, kinds in KINDS.items():
            choose(dict.fromkeys(kinds), self.loss[key], f"model.loss.{key}")
        self.layers = dict(self.loss.perceptual_layers)
        if self.loss.perceptual and self.loss.perceptual_weights != "none" and not self.layers:
            raise UserError("model.loss.perceptual_layers=(): name a layer, or set perceptual=0")
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

    def _upscale(self, params, mutable, batch, *given):
        """(picture, mutable after it); `given`: what the generator takes beside the picture."""
        state = mutable.get("g", {})
        fake, changed = self.generator.apply(
            {"params": params["g"], **state},
            to_float(batch["lr"]),
            *given,
            train=True,
            mutable=list(state),
        )
        return fake, {**mutable, "g": changed} if changed else mutable

    def _judge(self, params, mutable, images, batch, rng, stream, step):
        """Logits and D's new state; `stream` gives each batch its own noise and dropout."""
        del batch
        noise_rng, drop_rng = jax.random.split(jax.random.fold_in(rng, stream))
        state = mutable.get("d", {})
        logits, changed = self.discriminator.apply(
            {"params": params["d"], **state},
            self.noisy(noise_rng, images, step),
            train=True,
            mutable=list(state),
            rngs={"dropout": drop_rng},
        )
        return logits, {**mutable, "d": changed} if changed else mutable

    def noisy(self, rng, images, step):
        """Images with the instance noise of `step`, which fades to none."""
        if not self.loss.instance_noise:
            return images
        left = jnp.clip(1.0 - step / max(self.loss.instance_noise_steps, 1), 0.0, 1.0)
        noise = jax.random.normal(rng, images.shape, images.dtype)
        return images + self.loss.instance_noise * left * noise

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
