"""What text-to-image GANs have in common: mismatched pairs, and the losses over D's heads.

The weights are those of the config section `model.loss`; see `jaxgen.tasks.t2i.config.t2i_loss`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.losses import adversarial
from jaxgen.nn.text import Judgement


def mismatched(
    meaning: jax.Array, likeness: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """For each example another one whose caption is false of its picture.

    Args:
      meaning: (b,) int32, equal where a caption may be true of the other's picture.
      likeness: (b, b), of the captions; the most alike of another meaning is then taken (hard
        negatives, as in VSE++, Faghri et al. 2018). None: the nearest following.

    Returns: (index (b,), weight (b,) float32: 0 where the whole batch means the same).
    """
    count = meaning.shape[0]
    differs = meaning[:, None] != meaning[None, :]
    if likeness is None:
        places = jnp.arange(count)
        likeness = -((places[None, :] - places[:, None]) % count).astype(jnp.float32)
    index = jnp.argmax(jnp.where(differs, likeness, -jnp.inf), axis=1)
    return index, differs.any(axis=1).astype(jnp.float32)


def weighted_mean(values: jax.Array, weight: jax.Array) -> jax.Array:
    """Mean of values (b,) by weights (b,); 0 where all weights are."""
    return jnp.sum(values * weight) / jnp.maximum(weight.sum(), 1.0)


def judge_loss(
    loss: ConfigDict, right: Judgement, mis: Judgement, weight, made: Judgement
) -> jax.Array:
    """D's loss: weighted sums over the heads, those of pixels and of whole pictures apart."""
    as_real, as_fake = adversarial.as_real(loss.kind), adversarial.as_fake(loss.kind)
    real_target = 1.0 - loss.label_smoothing
    value = loss.real * jnp.mean(as_real(right.pair, real_target))
    value += loss.fake * jnp.mean(as_fake(made.pair))
    value += loss.mismatch * weighted_mean(as_fake(mis.pair), weight)
    if right.image is not None and made.image is not None:
        value += loss.image_real * jnp.mean(as_real(right.image, real_target))
        value += loss.image_fake * jnp.mean(as_fake(made.image))
    if right.pixels is None or made.pixels is None or mis.pixels is None:
        return value
    pixels = loss.real * jnp.mean(as_real(right.pixels, real_target))
    pixels += loss.fake * jnp.mean(as_fake(made.pixels))
    pixels += loss.mismatch * weighted_mean(as_fake(mis.pixels).mean(axis=(1, 2)), weight)
    return (1.0 - loss.pixels) * value + loss.pixels * pixels


def fool_loss(loss: ConfigDict, made: Judgement) -> jax.Array:
    """G's adversarial loss, over the same heads."""
    value = adversarial.generator_loss(made.pair, loss.kind)
    if made.image is not None and loss.image_real:
        value += adversarial.generator_loss(made.image, loss.kind)
    if made.pixels is None:
        return value
    pixels = adversarial.generator_loss(made.pixels, loss.kind)
    return (1.0 - loss.pixels) * value + loss.pixels * pixels
