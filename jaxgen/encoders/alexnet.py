"""AlexNet (Krizhevsky 2014, "One weird trick", arXiv 1404.5997) as a frozen feature extractor.

The single-tower network that torchvision has as `alexnet`, convolutional part, NHWC. Layers are
named conv1 ... conv5; features are taken after the ReLU and before the pooling. Parameters are a
plain dict {"conv1": {"kernel", "bias"}, ...}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import weights as weights_lib
from jaxgen.errors import UserError
from jaxgen.nn.pool import max_pool

# Of each layer: channels, kernel, stride, padding, and torchvision's `features.{i}`.
LAYERS = {
    "conv1": (64, 11, 4, 2, 0),
    "conv2": (192, 5, 1, 2, 3),
    "conv3": (384, 3, 1, 1, 6),
    "conv4": (256, 3, 1, 1, 8),
    "conv5": (256, 3, 1, 1, 10),
}
# A 3x3 max-pool of stride 2 lies before these.
_POOLED = ("conv2", "conv3")
# Below, the second pooling has nothing left to pool.
MIN_SIDE = 31


class AlexNet(nn.Module):
    """The convolutional part; `dtype` is that of the computation, parameters are float32."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        """(b, h, w, 3), as torchvision normalises -> {layer: (b, h', w', c)}, after the ReLU."""
        taken = {}
        for name, (channels, kernel, stride, padding, _) in LAYERS.items():
            if name in _POOLED:
                x = max_pool(x, 3, 2)
            # Not jaxgen.nn.conv: these maps are small, its faster ways would only compile longer.
            conv = nn.Conv(channels, (kernel, kernel), stride, padding, dtype=self.dtype, name=name)
            x = taken[name] = nn.relu(conv(x))
        return taken


def features(
    params: Mapping[str, Any],
    x: jax.Array,
    layers: Sequence[str] = tuple(LAYERS),
    dtype: Any = jnp.float32,
) -> dict[str, jax.Array]:
    """Features after the ReLU, in the order of `layers`.

    Args:
      params: from `from_torch`.
      x: (b, h, w, 3), normalised as the weights want it (torchvision: `vgg.prepare`'s "imagenet").
      layers: of conv1 ... conv5.
      dtype: of the computation and the result.

    Returns: {layer: (b, h', w', c)}; conv1 has a fourth of the side, conv2 an eighth, the others a
      sixteenth, less what the borders take.

    Raises:
      UserError: a side below 31 pixels.
    """
    if min(x.shape[1:3]) < MIN_SIDE:
        raise UserError(
            f"AlexNet needs pictures of at least {MIN_SIDE}x{MIN_SIDE} pixels; this one is "
            f"{x.shape[2]}x{x.shape[1]}: use a larger picture"
        )
    taken: Any = AlexNet(dtype).apply({"params": params}, x)
    return {name: taken[name] for name in layers}


def expected_params() -> dict[str, Any]:
    """The parameter tree as shapes and dtypes; computes nothing."""
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return jax.eval_shape(lambda x: AlexNet().init(jax.random.key(0), x), x)["params"]


def torch_rules() -> list[weights_lib.Rule]:
    """torchvision's keys; its three dense layers are not needed."""
    rules: list[weights_lib.Rule] = []
    for name, (*_, index) in LAYERS.items():
        rules += weights_lib.module_rules(f"features.{index}", name)
    return [*rules, weights_lib.Rule("classifier.*", None)]


def from_torch(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """torchvision's AlexNet state dict -> parameters.

    Raises:
      UserError: names every missing, extra or misshapen key.
    """
    return weights_lib.convert(tensors, torch_rules(), expected_params())
