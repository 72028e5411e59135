"""Distance between two images in the features of a frozen network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxgen.errors import UserError
from jaxgen.losses import pixel

DISTANCES = {"l1": pixel.l1, "l2": pixel.mse}


def perceptual_loss(
    feature_fn: Callable[[jax.Array], Mapping[str, jax.Array]],
    x: jax.Array,
    y: jax.Array,
    layers: Mapping[str, float],
    kind: str = "l2",
    feature_scale: float = 1.0,
) -> jax.Array:
    """Weighted sum over layers of the features' mean distance (SRGAN, Ledig et al. 2017, eq. 5).

    Args:
      feature_fn: images -> {layer: features}, e.g. `vgg.features` after `vgg.prepare`.
      x: generated images; gradients flow to these only.
      y: reference images, the same shape; their features count as constants.
      layers: weight by layer name, e.g. {"conv5_4": 1.0}.
      kind: "l2" mean squares (SRGAN), "l1" mean absolute values (ESRGAN).
      feature_scale: factor on the features before the distance. SRGAN's 1/12.75 with
        caffe-style input amounts to 0.006 times the l2 distance.

    Returns: float32 scalar.

    Raises:
      UserError: unknown `kind`, or no layers.
    """
    if kind not in DISTANCES:
        raise UserError(f"unknown perceptual distance {kind!r}; use l1 or l2")
    if not layers:
        raise UserError("a perceptual loss needs at least one layer with its weight")
    ours = feature_fn(x)
    reference = jax.lax.stop_gradient(feature_fn(y))
    total = jnp.zeros((), jnp.float32)
    for name, weight in layers.items():
        a = ours[name].astype(jnp.float32) * feature_scale
        b = reference[name].astype(jnp.float32) * feature_scale
        total += weight * DISTANCES[kind](a, b)
    return total
