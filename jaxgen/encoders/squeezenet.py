"""SqueezeNet 1.1 (Iandola et al. 2016, arXiv 1602.07360) as a frozen feature extractor, NHWC.

Version 1.1 is the authors' later, 2.4 times cheaper layout; torchvision has it as
`squeezenet1_1`. Layers are named as in the paper: conv1, fire2 ... fire9; features are those of a
module's output, which is a ReLU's. The classifying convolution conv10 is left out. Parameters are
a plain dict {"conv1": {...}, "fire2": {"squeeze": {...}, "expand1x1": {...}, "expand3x3": {...}}}.
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

# Of each fire module: squeezed channels, channels of each of its two expansions, and
# torchvision's `features.{i}`.
FIRES = {
    "fire2": (16, 64, 3),
    "fire3": (16, 64, 4),
    "fire4": (32, 128, 6),
    "fire5": (32, 128, 7),
    "fire6": (48, 192, 9),
    "fire7": (48, 192, 10),
    "fire8": (64, 256, 11),
    "fire9": (64, 256, 12),
}
LAYERS = ("conv1", *FIRES)
# A 3x3 max-pool of stride 2 lies before these.
_POOLED = ("fire2", "fire4", "fire6")
# Below, the last pooling has a single pixel.
MIN_SIDE = 17


class Fire(nn.Module):
    """1x1 convolution to few channels, then a 1x1 and a 3x3 one side by side (paper, Fig. 1)."""

    squeezed: int
    expanded: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:  # (b, h, w, c) -> (b, h, w, 2 * expanded)
        x = nn.relu(nn.Conv(self.squeezed, (1, 1), dtype=self.dtype, name="squeeze")(x))
        small = nn.Conv(self.expanded, (1, 1), dtype=self.dtype, name="expand1x1")(x)
        large = nn.Conv(self.expanded, (3, 3), padding=1, dtype=self.dtype, name="expand3x3")(x)
        return nn.relu(jnp.concatenate([small, large], axis=-1))


class SqueezeNet(nn.Module):
    """conv1 to fire9; `dtype` is that of the computation, parameters are float32."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        """(b, h, w, 3), as torchvision normalises -> {layer: (b, h', w', c)}, after the ReLU."""
        # Not jaxgen.nn.conv: these maps are small, its faster ways would only compile longer.
        conv = nn.Conv(64, (3, 3), 2, "VALID", dtype=self.dtype, name="conv1")
        x = nn.relu(conv(x))
        taken = {"conv1": x}
        for name, (squeezed, expanded, _) in FIRES.items():
            if name in _POOLED:
                x = _pool(x)
            x = taken[name] = Fire(squeezed, expanded, self.dtype, name=name)(x)
        return taken


def _pool(x: jax.Array) -> jax.Array:
    """Max-pool 3x3, stride 2, whose last window may hang over the edge (torch's `ceil_mode`)."""
    below, beside = ((0, (n - 3) % 2) for n in x.shape[1:3])
    return max_pool(x, 3, 2, (below, beside))


def features(
    params: Mapping[str, Any],
    x: jax.Array,
    layers: Sequence[str] = LAYERS,
    dtype: Any = jnp.float32,
) -> dict[str, jax.Array]:
    """Features after the ReLU, in the order of `layers`.

    Args:
      params: from `from_torch`.
      x: (b, h, w, 3), normalised as the weights want it (torchvision: `vgg.prepare`'s "imagenet").
      layers: of conv1, fire2 ... fire9.
      dtype: of the computation and the result.

    Returns: {layer: (b, h', w', c)}; sides are about a half (conv1), a fourth (fire2, fire3), an
      eighth (fire4, fire5) and a sixteenth.

    Raises:
      UserError: a side below 17 pixels.
    """
    if min(x.shape[1:3]) < MIN_SIDE:
        raise UserError(
            f"SqueezeNet needs pictures of at least {MIN_SIDE}x{MIN_SIDE} pixels; this one is "
            f"{x.shape[2]}x{x.shape[1]}: use a larger picture"
        )
    taken: Any = SqueezeNet(dtype).apply({"params": params}, x)
    return {name: taken[name] for name in layers}


def expected_params() -> dict[str, Any]:
    """The parameter tree as shapes and dtypes; computes nothing."""
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return jax.eval_shape(lambda x: SqueezeNet().init(jax.random.key(0), x), x)["params"]


def torch_rules() -> list[weights_lib.Rule]:
    """torchvision's keys; its classifier is not needed."""
    rules = weights_lib.module_rules("features.0", "conv1")
    for name, (*_, index) in FIRES.items():
        for part in ("squeeze", "expand1x1", "expand3x3"):
            rules += weights_lib.module_rules(f"features.{index}.{part}", f"{name}/{part}")
    return [*rules, weights_lib.Rule("classifier.*", None)]


def from_torch(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """torchvision's SqueezeNet 1.1 state dict -> parameters.

    Raises:
      UserError: names every missing, extra or misshapen key.
    """
    return weights_lib.convert(tensors, torch_rules(), expected_params())
