"""Inception-ResNet-v2 (Szegedy et al. 2016, arXiv 1602.07261) as a frozen feature extractor, NHWC.

Layers are named as in Keras and in the first TensorFlow code: conv2d_1a, conv2d_2a, conv2d_2b,
maxpool_3a, conv2d_3b, conv2d_4a, maxpool_5a, mixed_5b, block35_1 ... block35_10, mixed_6a,
block17_1 ... block17_20, mixed_7a, block8_1 ... block8_10, conv_7b, and then pooled (b, 1536) and
logits, if the weights have a classifier. The network sees [-1, 1]: `prepare` changes nothing.

Variables are {"params": {layer: ...}, "batch_stats": {layer: ...}} that may end at the deepest
layer needed; their shapes tell width and classes.

Paddings are the published ones: the stem pads nothing but in conv2d_2b, so that a layer needs a
least size of the image (`min_side`; 75 pixels from mixed_7a on).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxgen import weights as weights_lib
from jaxgen.encoders import files
from jaxgen.encoders.inception_resnet_v2_layout import (
    BLOCKS,
    CONV_7B,
    LAST_BLOCK,
    LAYER_NAMES,
    MIXED,
    STEM,
    is_keras,
    keras_tensors,
    kind_of,
    torch_rules,
)
from jaxgen.errors import UserError
from jaxgen.nn.inception import MAX_POOL, Branches, ConvNorm, ResidualBranches, Step, pool

Variables = Mapping[str, Any]

_WHERE = (
    "get the PyTorch port of its weights (timm's inception_resnet_v2 or inceptionresnetv2-*.pth of "
    "pretrained-models), or dump Keras' as encoders/README.md says, "
    'or choose "random" (needs no file) or "none" (no perceptual loss)'
)


class InceptionResNetV2(nn.Module):
    """The network in inference: BatchNorm uses its running statistics.

    Attributes:
      width: factor on the channels of every layer; a multiple of 1/32.
      classes: of the classifier; 0: none.
      dtype: of the computation; parameters are float32.
    """

    width: float = 1.0
    classes: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, layers: Sequence[str], before_activation: bool = True
    ) -> dict[str, jax.Array]:
        """Features of the named layers; see `features`. x (b, h, w, 3) in [-1, 1]."""
        _check_size(x, layers)
        wanted = set(layers)
        taken: dict[str, jax.Array] = {}
        for name in LAYER_NAMES:
            if wanted == set(taken):
                break
            before, x = self._layer(name, x)
            if name in wanted:
                taken[name] = before if before_activation else x
        if wanted & {"pooled", "logits"}:
            taken["pooled"] = x.astype(jnp.float32).mean(axis=(1, 2))  # (b, 1536 * width)
        if "logits" in wanted:
            taken["logits"] = nn.Dense(self.classes, name="classifier")(taken["pooled"])
        return {name: taken[name] for name in layers}

    def _layer(self, name: str, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One layer of `LAYER_NAMES`: its output before and after its activation."""
        conv = partial(ConvNorm, width=self.width, dtype=self.dtype)
        if name in MIXED:
            y = Branches(MIXED[name], conv, name=name)(x)
            return y, y
        if kind := kind_of(name):
            branches, scale, _ = BLOCKS[kind]
            last = name == LAST_BLOCK
            y = ResidualBranches(
                branches, 1.0 if last else scale, conv, dtype=self.dtype, name=name
            )(x)
            return y, y if last else nn.relu(y)
        step = CONV_7B if name == "conv_7b" else STEM[name]
        if not isinstance(step, Step):
            y = pool(x, step)
            return y, y
        y = conv(step, name=name)(x)
        return y, nn.relu(y)


def min_side(layer: str) -> int:
    """Pixels that both sides of an image need for a layer to have one pixel."""
    side = 1
    for name in reversed(_up_to([layer])):
        step = STEM.get(name)
        if name in ("mixed_6a", "mixed_7a") or step == MAX_POOL:
            side = 2 * (side - 1) + 3
        elif isinstance(step, Step) and step.padding == "VALID":
            side = step.stride * (side - 1) + 3
    return side


def features(
    variables: Variables,
    x: jax.Array,
    layers: Sequence[str],
    before_activation: bool = True,
    dtype: Any = jnp.float32,
) -> dict[str, jax.Array]:
    """Named features of images; any width and depth that `variables` have.

    Args:
      variables: from `load_perceptual`, `from_torch`, `from_keras` or `init_variables`.
      x: (b, h, w, 3) in [-1, 1].
      layers: e.g. ("mixed_5b", "block35_5"); also "pooled" and "logits".
      before_activation: True takes a convolution's or a block's output, False that of the ReLU
        after it (Keras: "block35_5" and "block35_5_ac"). The mixed_* layers concatenate branches
        that end in ReLUs and have none of their own: no difference, nor for pools and block8_10.
      dtype: of the computation and of the result; pooled and logits are float32.

    Returns: {layer: (b, h', w', channels)}, in the order of `layers`; for an image of 299x299
      mixed_5b and block35 have 35x35x320, mixed_6a and block17 17x17x1088, mixed_7a and block8
      8x8x2080, conv_7b 8x8x1536.

    Raises:
      UserError: a layer that `variables` have not; an image too small for a layer.
    """
    params = variables["params"]
    for name in layers:
        # What the layer needs last; a pool has no parameters, and neither has pooling.
        last = {"logits": "classifier", "pooled": "conv_7b"}.get(name, name)
        if last not in params and STEM.get(name) != MAX_POOL:
            raise UserError(f"no Inception-ResNet-v2 layer {name}; there are {_listed(params)}")
    width, classes = _sizes(params)
    taken: Any = InceptionResNetV2(width, classes, dtype).apply(
        dict(variables), x, tuple(layers), before_activation
    )
    return taken


def prepare(x: jax.Array, convention: str = "raw") -> jax.Array:
    """Images in [-1, 1] -> float32 input: "raw", [-1, 1] as it is, which the weights expect.

    Raises:
      UserError: another convention.
    """
    if convention != "raw":
        raise UserError(
            f"Inception-ResNet-v2's weights expect images in [-1, 1]: use the perceptual input "
            f"raw, not {convention!r}"
        )
    return x.astype(jnp.float32)


def expected_params(width: float = 1.0, classes: int = 0) -> dict[str, Any]:
    """All variables as shapes and dtypes, {"params", "batch_stats"}; computes nothing."""
    # A copy: the cache's own tree is not for changing.
    return jax.tree.map(lambda leaf: leaf, _traced(width, classes))


@functools.cache
def _traced(width: float, classes: int) -> Any:
    net = InceptionResNetV2(width, classes)
    x = jax.ShapeDtypeStruct((1, 75, 75, 3), jnp.float32)
    last = ("logits",) if classes else ("conv_7b",)
    return jax.eval_shape(lambda x: net.init(jax.random.key(0), x, last), x)


def init_variables(
    seed: int = 0, width: float = 1.0, deepest: str | None = None, classes: int = 0
) -> dict[str, Any]:
    """Random weights: He-normal kernels (variance 2 / fan-in), BatchNorm that does nothing.

    NumPy draws them, layer by layer, so that the same seed gives the same network on every
    device, and cutting it after `deepest` changes no weight that is left. The width is rounded to
    a multiple of 1/32.
    """
    rng = np.random.default_rng(seed)
    expected = expected_params(max(1, round(32 * width)) / 32, classes)
    if deepest is not None:
        expected = cut(expected, [deepest])
    flat = weights_lib.flatten(expected)
    order = {name: i for i, name in enumerate((*LAYER_NAMES, "classifier"))}
    drawn = {
        path: _draw(rng, path, flat[path].shape)
        for path in sorted(flat, key=lambda path: (order[path.split("/")[1]], path))
    }
    return traverse_util.unflatten_dict(drawn, sep="/")


def _draw(rng: np.random.Generator, path: str, shape: tuple[int, ...]) -> np.ndarray:
    if not path.endswith("kernel"):
        return np.full(shape, path.endswith(("scale", "var")), np.float32)
    std = np.float32(np.sqrt(2.0 / np.prod(shape[:-1])))
    return std * rng.standard_normal(shape, dtype=np.float32)


def cut(variables: Variables, layers: Sequence[str]) -> dict[str, Any]:
    """The variables that the named layers need: those up to the deepest one."""
    kept = {*_up_to(layers), *(["classifier"] if "logits" in layers else [])}
    return {
        collection: {name: tree for name, tree in variables[collection].items() if name in kept}
        for collection in ("params", "batch_stats")
    }


# ------------------------------------------------------------------------------------ weight files


def from_torch(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """State dict of the PyTorch port -> variables; the classifier may be absent.

    Raises:
      UserError: names every missing, extra or misshapen key.
    """
    first, heads = tensors.get("conv2d_1a.conv.weight"), ("classif.weight", "last_linear.weight")
    width = first.shape[0] / 32 if first is not None and first.ndim == 4 else 1.0
    classes = next((tensors[key].shape[0] for key in heads if key in tensors), 0)
    return weights_lib.convert(tensors, torch_rules(), expected_params(width, classes))


def from_keras(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Keras' weights under their own names -> variables; with or without the top.

    Raises:
      UserError: names every missing, extra or misshapen weight.
    """
    tensors, rules = keras_tensors(tensors)
    first = {rule.target: rule.source for rule in rules}["params/conv2d_1a/kernel"]
    width = tensors[first].shape[-1] / 32 if first in tensors else 1.0
    classes = tensors["predictions/bias"].size if "predictions/bias" in tensors else 0
    return weights_lib.convert(tensors, rules, expected_params(width, classes))


def load_perceptual(
    weights: str, layers: Sequence[str], width: float = 1.0, seed: int = 0
) -> dict[str, Any]:
    """The network of a perceptual loss, cut after the deepest of `layers`; NumPy arrays.

    Args:
      weights: "file:PATH": the PyTorch port as .safetensors or .pth, Keras' weights as .npz, or a
        file of ours with names "inception_resnet_v2/params/..."; "random": `init_variables`;
        "none": no network, {}.
      layers: the layers that the loss compares, e.g. ("mixed_5b",).
      width: factor on the channels of the random network; a file brings its own width.
      seed: of the random network.

    Raises:
      UserError: unknown choice or layer, missing or unfit file; says where to get one.
    """
    if weights == "none":
        return {}
    if not layers:
        raise UserError('a perceptual loss needs a layer, e.g. mixed_5b (or choose weights "none")')
    unknown = [name for name in layers if name not in (*LAYER_NAMES, "pooled")]
    if unknown:
        raise UserError(
            f"no Inception-ResNet-v2 layer {', '.join(unknown)}; "
            f"choose from {_listed(LAYER_NAMES)}, pooled"
        )
    if weights == "random":
        deepest = _up_to(layers)[-1]
        return init_variables(seed, width, deepest)
    tensors = files.read_choice(weights, _WHERE)
    own = files.own_tensors(tensors, "inception_resnet_v2")
    if own is not None:
        width, classes = _sizes(traverse_util.unflatten_dict(own, sep="/").get("params", {}))
        variables = files.checked_tree(own, expected_params(width, classes))
    else:
        variables = from_keras(tensors) if is_keras(tensors) else from_torch(tensors)
    return cut(variables, layers)


# ------------------------------------------------------------------------------------------ small


def _check_size(x: jax.Array, layers: Sequence[str]) -> None:
    for name in layers:
        if min(x.shape[1:3]) < min_side(name):
            raise UserError(
                f"images are too small for {name} of Inception-ResNet-v2: both sides must be at "
                f"least {min_side(name)} pixels; use larger crops or shallower layers"
            )


def _sizes(params: Mapping[str, Any]) -> tuple[float, int]:
    """Width and classes."""
    first, head = params.get("conv2d_1a", {}).get("kernel"), params.get("classifier")
    width = first.shape[-1] / 32 if first is not None else 1.0
    return width, head["bias"].shape[0] if head else 0


def _up_to(layers: Sequence[str]) -> tuple[str, ...]:
    """`LAYER_NAMES` up to the deepest of `layers`."""
    if set(layers) & {"pooled", "logits"}:
        return LAYER_NAMES
    return LAYER_NAMES[: 1 + max(LAYER_NAMES.index(name) for name in layers)]


def _listed(names: Iterable[str]) -> str:
    """Names with rows of blocks shortened: "mixed_5b, block35_1 ... block35_10, mixed_6a"."""
    known = set(names)
    present = [name for name in LAYER_NAMES if name in known]
    rows = [list(row) for _, row in itertools.groupby(present, lambda n: kind_of(n) or n)]
    return ", ".join(row[0] if len(row) == 1 else f"{row[0]} ... {row[-1]}" for row in rows)
