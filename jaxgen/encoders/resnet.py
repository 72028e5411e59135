"""ResNet-18 to ResNet-152 (He et al. 2016) in torchvision's form, NHWC.

Bottlenecks have their stride in the 3x3 convolution ("v1.5"). Variables are {"params",
"batch_stats"}: the network can be trained on, or serve as a frozen encoder. Layers: stem (after
the max-pool), layer1 ... layer4, pooled (mean over the picture), logits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import weights as weights_lib
from jaxgen.encoders import vgg
from jaxgen.errors import UserError
from jaxgen.nn.conv import Conv
from jaxgen.nn.pool import max_pool
from jaxgen.weights.layout import NORM_COUNTS, norm_rules

# Kind of block and blocks per stage.
ARCHS: dict[str, tuple[str, tuple[int, ...]]] = {
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
    "resnet101": ("bottleneck", (3, 4, 23, 3)),
    "resnet152": ("bottleneck", (3, 8, 36, 3)),
}
# Channels of a stage's inner convolutions; a bottleneck's output has four times as many.
CHANNELS = (64, 128, 256, 512)
EXPANSION = {"basic": 1, "bottleneck": 4}
MAPS = ("stem", "layer1", "layer2", "layer3", "layer4")
LAYER_NAMES = (*MAPS, "pooled", "logits")

# torchvision's, for the ReLU after the convolution: variance 2 / fan-out.
_HE = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class ResNet(nn.Module):
    """A ResNet.

    Attributes:
      arch: of `ARCHS`.
      classes: of the classifier; 0: none, and no layer logits.
      width: factor on the channels of every layer.
      dtype: of the computation; parameters, pooled and logits are float32.
    """

    arch: str = "resnet18"
    classes: int = 0
    width: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, layers: Sequence[str] = ("pooled",), train: bool = False
    ) -> dict[str, jax.Array]:
        """The named layers; those behind the deepest one are not computed.

        Args:
          x: (b, h, w, 3), through `prepare`; any size (torchvision's weights: 224).
          layers: of `LAYER_NAMES`.
          train: BatchNorm uses the batch's statistics and moves its own (mutable "batch_stats").

        Returns: {layer: array}: stem and layer1 (b, h/4, w/4, c), layer2..4 half the size each,
          rounded up; pooled (b, channels of layer4), logits (b, classes).
        """
        conv = partial(Conv, use_bias=False, kernel_init=_HE, dtype=self.dtype)
        norm = partial(
            nn.BatchNorm,
            not train,
            momentum=0.9,
            epsilon=1e-5,
            use_fast_variance=False,  # trained on few pictures the fast form loses digits
            dtype=self.dtype,
        )
        deepest = max(LAYER_NAMES.index(name) for name in layers)
        taken: dict[str, jax.Array] = {}

        x = conv(_channels(0, self.width), 7, 2, name="conv1")(x.astype(self.dtype))
        x = nn.relu(norm(name="bn1")(x))
        # The border is -inf to the maximum, not 0.
        x = taken["stem"] = max_pool(x, 3, 2, ((1, 1), (1, 1)))
        kind, counts = ARCHS[self.arch]
        for stage, count in enumerate(counts):
            if deepest <= stage:
                break
            for i in range(count):
                x = Block(
                    kind,
                    _channels(stage, self.width),
                    2 if stage > 0 and i == 0 else 1,
                    conv,
                    norm,
                    name=f"layer{stage + 1}_{i}",
                )(x)
            taken[MAPS[stage + 1]] = x
        if deepest >= LAYER_NAMES.index("pooled"):
            taken["pooled"] = x.astype(jnp.float32).mean(axis=(1, 2))
        if "logits" in layers:
            taken["logits"] = nn.Dense(self.classes, name="fc")(taken["pooled"])
        return {name: taken[name] for name in layers}


class Block(nn.Module):
    """A residual block: 3x3 3x3 ("basic") or 1x1 3x3 1x1 ("bottleneck"), each with BatchNorm.

    The shortcut is a strided 1x1 convolution with BatchNorm where the shape changes.
    """

    kind: str
    channels: int
    stride: int
    conv: Any
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(b, h, w, c) -> (b, h / stride, w / stride, channels * expansion), rounded up."""
        out = self.channels * EXPANSION[self.kind]
        if self.kind == "basic":
            table = [(self.channels, 3, self.stride), (out, 3, 1)]
        else:
            table = [(self.channels, 1, 1), (self.channels, 3, self.stride), (out, 1, 1)]
        y = x
        for i, (channels, kernel, stride) in enumerate(table, start=1):
            y = self.conv(channels, kernel, stride, name=f"conv{i}")(y)
            y = self.norm(name=f"bn{i}")(y)
            if i < len(table):
                y = nn.relu(y)
        if self.stride > 1 or x.shape[-1] != out:
            x = self.conv(out, 1, self.stride, name="downsample_conv")(x)
            x = self.norm(name="downsample_bn")(x)
        return nn.relu(y + x)


def features(
    variables: Mapping[str, Any],
    x: jax.Array,
    layers: Sequence[str] = ("pooled",),
    dtype: Any = jnp.float32,
) -> dict[str, jax.Array]:
    """Named layers in inference; depth, width and classes are those of `variables`.

    Args:
      variables: from `from_torch`, or `ResNet(...).init`.
      x: (b, h, w, 3), through `prepare`.
      layers: of `LAYER_NAMES`, see `ResNet`.
      dtype: of the computation.

    Raises:
      UserError: an unknown layer, or logits of weights without a classifier.
    """
    net = module_of(variables["params"], dtype)
    names = LAYER_NAMES if net.classes else LAYER_NAMES[:-1]
    unknown = [name for name in layers if name not in names]
    if unknown or not layers:
        raise UserError(f"no ResNet layer {', '.join(unknown)}; there are {', '.join(names)}")
    taken: Any = net.apply(dict(variables), x, tuple(layers))
    return taken


def prepare(x: jax.Array) -> jax.Array:
    """Images (b, h, w, 3) RGB in [-1, 1] -> float32 input as of torchvision's weights."""
    return vgg.prepare(x, "imagenet")


def expected_params(arch: str = "resnet18", classes: int = 0, width: float = 1.0) -> dict[str, Any]:
    """All variables as shapes and dtypes, {"params", "batch_stats"}; computes nothing."""
    net = ResNet(arch, classes, width)
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    last = ("logits",) if classes else ("pooled",)
    return jax.eval_shape(lambda x: net.init(jax.random.key(0), x, last), x)


def module_of(params: Mapping[str, Any], dtype: Any = jnp.float32) -> ResNet:
    """The module that whole parameters belong to."""
    counts = tuple(sum(name.startswith(f"layer{s}_") for name in params) for s in range(1, 5))
    arch = _arch(counts, "conv3" in params["layer1_0"])
    width = params["conv1"]["kernel"].shape[-1] / CHANNELS[0]
    classes = params["fc"]["bias"].shape[0] if "fc" in params else 0
    return ResNet(arch, classes, width, dtype)


def torch_rules() -> list[weights_lib.Rule]:
    """torchvision's keys, for every depth."""
    layer, ours = "layer{s}.{b}", "layer{s}_{b}"
    return [
        weights_lib.Rule("conv1.weight", "params/conv1/kernel", weights_lib.CONV),
        *norm_rules("bn1", "bn1"),
        weights_lib.Rule(
            f"{layer}.conv{{c}}.weight", f"params/{ours}/conv{{c}}/kernel", weights_lib.CONV
        ),
        *norm_rules(f"{layer}.bn{{c}}", f"{ours}/bn{{c}}"),
        weights_lib.Rule(
            f"{layer}.downsample.0.weight",
            f"params/{ours}/downsample_conv/kernel",
            weights_lib.CONV,
        ),
        *norm_rules(f"{layer}.downsample.1", f"{ours}/downsample_bn"),
        *weights_lib.module_rules("fc", "params/fc", weights_lib.DENSE),
        NORM_COUNTS,
    ]


def from_torch(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """torchvision's ResNet state dict -> variables. Depth, width and classes are seen from it.

    The classifier `fc` may be absent.

    Raises:
      UserError: no ResNet of `ARCHS`; or names every missing, extra or misshapen key.
    """
    found = [re.match(r"layer(\d)\.(\d+)\.", key) for key in tensors]
    blocks = {(int(m[1]), int(m[2])) for m in found if m}
    counts = tuple(sum(stage == s for stage, _ in blocks) for s in range(1, 5))
    arch = _arch(counts, "layer1.0.conv3.weight" in tensors)
    first = tensors.get("conv1.weight")
    width = first.shape[0] / CHANNELS[0] if first is not None and first.ndim == 4 else 1.0
    classes = tensors["fc.weight"].shape[0] if "fc.weight" in tensors else 0
    return weights_lib.convert(tensors, torch_rules(), expected_params(arch, classes, width))


def _arch(counts: tuple[int, ...], bottleneck: bool) -> str:
    wanted = ("bottleneck" if bottleneck else "basic", counts)
    for arch, table in ARCHS.items():
        if table == wanted:
            return arch
    raise UserError(
        f"not a ResNet that jaxgen has: {wanted[0]} blocks {counts}; "
        f"there are {', '.join(ARCHS)} with torchvision's keys"
    )


def _channels(stage: int, width: float) -> int:
    return max(1, round(CHANNELS[stage] * width))
