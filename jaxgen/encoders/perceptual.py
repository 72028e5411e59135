"""The frozen network of a perceptual loss, by name: one interface to several networks.

`model.loss.perceptual_net` names it. Seed experiments of SRGAN compared VGG19's conv5_4 with
layers of Inception-ResNet-v2 (mixed_5b, a block35 in the middle).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.encoders import inception_resnet_v2, vgg
from jaxgen.errors import UserError

# Each has `load_perceptual`, `prepare` and `features` of the same form.
NETS: dict[str, Any] = {"vgg19": vgg, "inception_resnet_v2": inception_resnet_v2}


def load(
    net: str, weights: str, layers: Sequence[str], width: float = 1.0, seed: int = 0
) -> dict[str, Any]:
    """Parameters of a perceptual network, cut after the deepest of `layers`; NumPy arrays.

    Args:
      net: of `NETS`. A VGG16's file is taken for vgg19 too.
      weights: "file:PATH", "random" (from `seed`, at any `width`) or "none" ({}: no network).
      layers: names of the net's layers.

    Raises:
      UserError: unknown net, choice or layer, missing or unfit file; says where to get one.
    """
    params: dict[str, Any] = _module(net).load_perceptual(weights, layers, width, seed)
    return params


def features(
    net: str,
    params: Mapping[str, Any],
    images: jax.Array,
    layers: Sequence[str],
    before_activation: bool = True,
    input_convention: str = "imagenet",
    dtype: Any = jnp.float32,
) -> dict[str, jax.Array]:
    """Named features of images.

    Args:
      net: of `NETS`.
      params: from `load` with the same net.
      images: (b, h, w, 3) in [-1, 1].
      layers: those given to `load`.
      before_activation: takes a layer's output before its ReLU.
      input_convention: what the net sees, see its `prepare`: imagenet, caffe or raw for vgg19,
        raw for inception_resnet_v2.
      dtype: of the computation and the result.

    Returns: {layer: (b, h', w', channels)}, in the order of `layers`.

    Raises:
      UserError: unknown net or convention, absent layer, image too small for a layer.
    """
    module = _module(net)
    prepared = module.prepare(images, input_convention)
    taken: dict[str, jax.Array] = module.features(
        params, prepared, tuple(layers), before_activation, dtype=dtype
    )
    return taken


def _module(net: str) -> Any:
    if net not in NETS:
        raise UserError(f"unknown perceptual net {net!r}; there are {', '.join(NETS)}")
    return NETS[net]
