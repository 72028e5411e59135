"""CutMix for a discriminator with per-pixel logits: it must see the seam, and only there.

Schonfeld, Schiele and Khoreva, "A U-Net Based Discriminator for Generative Adversarial Networks",
CVPR 2020, section 3.2 (equations 4 to 7), on top of CutMix (Yun et al. 2019).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgen.errors import UserError
from jaxgen.losses.adversarial import bce_with_logits
from jaxgen.nn.text import Judgement


def masks(rng: jax.Array, count: int, size: int) -> jax.Array:
    """(count, size, size) float32: 1 where a mixed picture is real, 0 where it is generated.

    One box each, of 1 - lam of the area with lam ~ U(0, 1) (Beta(1, 1)) before it is cut off at
    the borders, its centre anywhere; inside 0 and outside 1, or with probability 1/2 the reverse.
    """
    area_rng, place_rng, turn_rng = jax.random.split(rng, 3)
    side = size * jnp.sqrt(jax.random.uniform(area_rng, (count, 1)))
    centre = jax.random.uniform(place_rng, (2, count, 1), maxval=size)
    # A pixel is inside if its middle is.
    middles = jnp.arange(size)[None, None, :] + 0.5
    near = jnp.abs(middles - centre) < 0.5 * side[None]  # (2, count, size)
    inside = near[0][:, :, None] & near[1][:, None, :]
    turned = jax.random.bernoulli(turn_rng, 0.5, (count, 1, 1))
    return (inside == turned).astype(jnp.float32)


def losses(
    rng: jax.Array,
    judge: Callable[[jax.Array], Judgement],
    real: jax.Array,
    fake: jax.Array,
    right: Judgement,
    made: Judgement,
    probability: float,
    warmup: int,
    step: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """CutMix augmentation and consistency, of the whole batch or, at other steps, zero.

    With M of `masks` and mixed = M * real + (1 - M) * fake, a picture and one generated for the
    same caption: augmentation is the cross-entropy of mixed's pixel logits with M and of its
    global logit with "fake"; consistency is the mean square of its pixel logits minus
    M * (real's) + (1 - M) * (fake's). Gradients flow to all of these logits.

    Args:
      rng: key. judge: pictures (b, n, n, 3) -> their Judgement with the captions of `real`.
      real, fake: (b, n, n, 3), as the discriminator saw them for `right` and `made`.
      right, made: its judgements of them.
      probability: that a step has these losses, reached linearly over `warmup` steps.
      warmup: at least 1. step: () int32, from 0.

    Returns: (the sum, {"cutmix_augmentation", "cutmix_consistency"}), float32 scalars.

    Raises:
      UserError: judgements without pixels.
    """
    real_pixels, fake_pixels = _pixels(right), _pixels(made)
    mask_rng, rng = jax.random.split(rng)

    def compute() -> tuple[jax.Array, jax.Array]:
        mask = masks(mask_rng, real.shape[0], real.shape[1])  # (b, n, n)
        inside = mask[..., None].astype(real.dtype)
        found = judge(inside * real + (1 - inside) * fake.astype(real.dtype))
        pixels = _pixels(found)
        augmentation = bce_with_logits(pixels, mask) + bce_with_logits(found.pair, 0.0)
        expected = mask * real_pixels + (1 - mask) * fake_pixels
        return augmentation, jnp.mean(jnp.square(pixels - expected))

    rate = probability * jnp.minimum(1.0, step / max(warmup, 1))
    augmentation, consistency = jax.lax.cond(
        jax.random.uniform(rng) < rate, compute, lambda: (jnp.zeros(()), jnp.zeros(()))
    )
    metrics = {"cutmix_augmentation": augmentation, "cutmix_consistency": consistency}
    return augmentation + consistency, metrics


def _pixels(judgement: Judgement) -> jax.Array:
    if judgement.pixels is None:
        raise UserError(
            "CutMix needs the U-Net discriminator's logits of pixels: set "
            "model.discriminator.form=unet, or model.loss.cutmix=0"
        )
    return judgement.pixels.astype(jnp.float32)
