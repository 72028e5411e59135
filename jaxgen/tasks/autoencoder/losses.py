"""Autoencoders' losses, whatever the bottleneck: VQGAN's codebook, a VAE's latents.

One function of `AutoencoderLosses` for each phase: `pretrain` without the discriminator, then
`discriminate` and `generate` in turns (Esser et al., "Taming Transformers for High-Resolution Image
Synthesis", CVPR 2021, section 3.1, and its code). The weights are those of the config section
`model.loss`; see `jaxgen.tasks.autoencoder.config`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.encoders import perceptual
from jaxgen.encoders.lpips import lpips
from jaxgen.errors import UserError
from jaxgen.losses import adversarial, pixel
from jaxgen.losses.perceptual import perceptual_loss
from jaxgen.nn.conv import conv2d
from jaxgen.nn.resample import pixel_unshuffle
from jaxgen.tasks.common import choose, to_float

PIXEL = {"l1": pixel.l1, "mse": pixel.mse, "bce": adversarial.bce_with_logits}
_NET = "vgg19"  # of random features


class Autoencoded(NamedTuple):
    """What an autoencoder makes of pictures in training.

    picture: (b, h, w, c) float32; logits of segmentations. hidden: (b, h, w, k), the input of the
    last convolution, whose kernel is `decoder/conv_out/kernel`. loss: the bottleneck's, a float32
    scalar. parts: scalars to log. codes: (b, h', w') int32, or None.
    """

    picture: jax.Array
    hidden: jax.Array
    loss: jax.Array
    parts: dict[str, jax.Array]
    codes: jax.Array | None


class AutoencoderLosses:
    """The phases' loss functions, and the nets' initial variables.

    A batch holds "image": pictures as `jaxgen.data.captioned.source.Source.KIND` says.

    Args:
      autoencoder: module with (x (b, h, w, c), train) -> `Autoencoded`; may have state, and use the
        rngs "quantize" and "dropout".
      discriminator: module with (y, train=...) -> logits; None: there is no GAN.
      config: the run's.
      kind: of the pictures, see above.
    """

    def __init__(self, autoencoder: Any, discriminator: Any, config: ConfigDict, kind: str):
        self.autoencoder, self.discriminator = autoencoder, discriminator
        self.config, self.loss, self.kind = config, config.model.loss, kind
        choose(PIXEL, self.loss.pixel_kind, "model.loss.pixel_kind")
        self.layers = dict(self.loss.random_layers)
        classes = kind == "segmentation"
        if classes != (self.loss.pixel_kind == "bce"):
            raise UserError(
                f"model.loss.pixel_kind={self.loss.pixel_kind}: segmentations take bce, and "
                "nothing else does"
            )
        if classes and self.loss.perceptual:
            raise UserError("model.loss.perceptual must be 0 for segmentations")
        if self.loss.perceptual and not self.loss.lpips and not self.layers:
            raise UserError("model.loss.random_layers=(): name a layer, or set perceptual=0")

    def init(self, rng, batch):
        """(params, mutable) of net g and, if there is a GAN, d."""
        g_rng, d_rng, q_rng = jax.random.split(rng, 3)
        x = self.pictures(batch)[:1]
        nets = {"g": self.autoencoder.init({"params": g_rng, "quantize": q_rng}, x)}
        if self.discriminator is not None:
            nets["d"] = self.discriminator.init(d_rng, x)
        params = {n: v["params"] for n, v in nets.items()}
        rest = {n: {k: v[k] for k in v if k != "params"} for n, v in nets.items()}
        return params, {n: r for n, r in rest.items() if r}

    # ---- the phases' losses ----------------------------------------------------------------------

    def pretrain(self, params, mutable, frozen, batch, rng, step):
        """Reconstruction and the bottleneck's loss alone."""
        x = self.pictures(batch)
        made, mutable = self.reconstruct(params, mutable, batch, rng, step)
        value, parts = self.distance(frozen, made.picture, x)
        return value + self.loss.bottleneck * made.loss, (mutable, self._logged(made, parts))

    def discriminate(self, params, mutable, frozen, batch, rng, step):
        """D on real and on reconstructed pictures, one batch each, with the weight 1/2."""
        del frozen
        made, _ = self.reconstruct(params, mutable, batch, rng, step)
        real, fake = self.pictures(batch), jax.lax.stop_gradient(made.picture)
        real_logits, mutable = self.judge(params, mutable, real)
        fake_logits, mutable = self.judge(params, mutable, fake)
        kind = "hinge" if self.loss.adversarial_kind == "hinge" else "nonsaturating"
        value = 0.5 * adversarial.discriminator_loss(real_logits, fake_logits, kind)
        metrics = {
            "real": real_logits.mean(),
            "fake": fake_logits.mean(),
            "accuracy": adversarial.accuracy(real_logits, fake_logits),
        }
        return value, (mutable, metrics)

    def generate(self, params, mutable, frozen, batch, rng, step):
        """G: reconstruction, the bottleneck's loss, and D's judgement with its weight."""
        loss, x = self.loss, self.pictures(batch)
        made, changed = self.reconstruct(params, mutable, batch, rng, step)
        picture = jax.lax.stop_gradient(made.picture)
        # The gradients at the picture are needed for the adaptive weight. With them the whole
        # gradient follows from one pass back through the decoder, and D is gone through once.
        distance = partial(self.distance, frozen, x=x)
        (near, parts), to_near = jax.value_and_grad(distance, has_aux=True)(picture)

        def fooled(y):  # D's statistics move in its own phase only
            return -jnp.mean(self.judge(params, mutable, y)[0])

        fool, to_fool = jax.value_and_grad(fooled)(picture)
        factor: Any = 1.0
        if loss.adaptive:
            kernel = params["g"]["decoder"]["conv_out"]["kernel"]
            factor = adaptive_weight(made.hidden, kernel, to_near, to_fool, loss.adaptive_most)
        weight = loss.adversarial * factor
        value = _with_gradient(near + weight * fool, made.picture, to_near + weight * to_fool)
        value += loss.bottleneck * made.loss
        parts = {**parts, "adversarial": fool, "adaptive": jnp.asarray(factor, jnp.float32)}
        return value, (changed, self._logged(made, parts))

    # ---- parts -----------------------------------------------------------------------------------

    def pictures(self, batch) -> jax.Array:
        """What the nets see: photos and depths in [-1, 1], one-hot classes, float32."""
        image = batch["image"]
        if self.kind == "photo":
            return to_float(image)
        if self.kind == "depth":
            return image.astype(jnp.float32)
        return jax.nn.one_hot(image[..., 0], self.config.model.channels, dtype=jnp.float32)

    def reconstruct(self, params, mutable, batch, rng, step) -> tuple[Autoencoded, Any]:
        """(what the autoencoder makes of the batch, mutable after it).

        The phases of one step draw the same numbers, so that they share one forward pass; with
        micro-batches each draws its own.
        """
        train = self.config.train
        if train.accumulate == 1:
            rng = jax.random.fold_in(jax.random.fold_in(jax.random.key(train.seed), step), 0xAE)
        state = mutable.get("g", {})
        made, changed = self.autoencoder.apply(
            {"params": params["g"], **state},
            self.pictures(batch),
            train=True,
            **self.schedules(step),
            mutable=list(state),
            rngs=dict(zip(("quantize", "dropout"), jax.random.split(rng), strict=True)),
        )
        return made, {**mutable, "g": changed} if changed else mutable

    def schedules(self, step) -> dict[str, Any]:
        """What the autoencoder takes besides that changes with the step: a family's own."""
        del step
        return {}

    def distance(self, frozen, picture, x) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(weighted distance of a reconstruction to its original, its parts)."""
        loss = self.loss
        parts = {"pixel": PIXEL[loss.pixel_kind](picture, x)}
        value = loss.pixel * parts["pixel"]
        if loss.perceptual:
            name = "lpips" if loss.lpips else "random_features"
            parts[name] = self._perceptual(frozen["perceptual"], picture, x)
            value += loss.perceptual * parts[name]
        return value, parts

    def judge(self, params, mutable, images):
        """(D's logits, mutable after it)."""
        state = mutable.get("d", {})
        logits, changed = self.discriminator.apply(
            {"params": params["d"], **state}, images, train=True, mutable=list(state)
        )
        return logits, {**mutable, "d": changed} if changed else mutable

    def _perceptual(self, weights: Mapping[str, Any], picture, x) -> jax.Array:
        if picture.shape[-1] == 1:
            picture, x = (jnp.repeat(one, 3, axis=-1) for one in (picture, x))
        if self.loss.lpips:
            return jnp.mean(lpips(weights, picture, x))

        def features(images):
            return perceptual.features(_NET, weights, images, tuple(self.layers))

        return perceptual_loss(features, picture, x, self.layers, "l1")

    def _logged(self, made: Autoencoded, parts: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        return {**parts, "bottleneck": made.loss, **made.parts}


def load_perceptual(config: ConfigDict) -> dict[str, Any]:
    """Weights of LPIPS, or of the random network that stands for it; {}: neither is used.

    Raises:
      UserError: missing or unfit files; says where to get them.
    """
    loss = config.model.loss
    if not loss.perceptual:
        return {}
    if loss.lpips:
        from jaxgen.encoders import lpips as lpips_lib

        return lpips_lib.load(*loss.lpips)
    layers = tuple(name for name, _ in loss.random_layers)
    return perceptual.load(_NET, "random", layers, loss.random_width, loss.random_seed)


def adaptive_weight(
    hidden: jax.Array, kernel: jax.Array, to_near: jax.Array, to_fool: jax.Array, most: float
) -> jax.Array:
    """How much stronger the reconstruction's gradient is than the GAN's, at the last layer.

    The ratio of both gradients' norms at the last kernel (the paper's eq. 7), from 0 to `most`; a
    float32 scalar without a gradient.

    Args:
      hidden: (b, h / p, w / p, k), what the last convolution takes. kernel: its own,
        (3, 3, k, c * p * p); p is the side of the pixels that it has as one place.
      to_near, to_fool: gradients of both losses at the pictures (b, h, w, c).
    """
    hidden = jax.lax.stop_gradient(hidden).astype(jnp.float32)
    patch = to_near.shape[1] // hidden.shape[1]
    to_near, to_fool = (pixel_unshuffle(gradient, patch) for gradient in (to_near, to_fool))
    _, back = jax.vjp(lambda w: conv2d(hidden, w), jax.lax.stop_gradient(kernel))
    near, fool = (jnp.linalg.norm(back(gradient)[0].ravel()) for gradient in (to_near, to_fool))
    return jax.lax.stop_gradient(jnp.clip(near / (fool + 1e-4), 0.0, most))


def _with_gradient(value: jax.Array, x: jax.Array, gradient: jax.Array) -> jax.Array:
    """`value`, a number, with this gradient at x."""
    along = jnp.sum(x * jax.lax.stop_gradient(gradient))
    return jax.lax.stop_gradient(value) + (along - jax.lax.stop_gradient(along))
