"""VGG16 and VGG19 (Simonyan and Zisserman 2015) as frozen feature extractors, NHWC.

Layers are named as in the literature: conv1_1 ... conv5_4; torchvision's `features.{i}` holds the
same weights. Parameters are a plain dict {"conv1_1": {"kernel", "bias"}, ...} that may end at the
deepest layer needed: depth, width and which of the two networks it is follow from the dict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import weights as weights_lib
from jaxgen.encoders import files
from jaxgen.errors import UserError
from jaxgen.nn.pool import max_pool

Params = Mapping[str, Mapping[str, Any]]

# Convolutions per stage; a 2x2 max-pool lies between two stages.
STAGES = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
# Channels per stage at width 1.
CHANNELS = (64, 128, 256, 512, 512)

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB, of images in [0, 1]; torchvision
IMAGENET_STD = (0.229, 0.224, 0.225)
CAFFE_MEAN = (103.939, 116.779, 123.68)  # BGR, of images in [0, 255]; Keras, the first VGG release

_WHERE = (
    "get torchvision's VGG19 (the file vgg19-dcbb9e9d.pth, or on a machine with torchvision: "
    'torch.save(torchvision.models.vgg19(weights="IMAGENET1K_V1").state_dict(), "vgg19.pth")), '
    'or choose "random" (needs no file) or "none" (no perceptual loss)'
)


class VGG(nn.Module):
    """The convolutional part.

    Attributes:
      stages: convolutions per stage, as in `STAGES`; a shorter tuple is a shallower network.
      width: factor on the channels of every layer.
      dtype: of the computation; parameters are float32.
    """

    stages: tuple[int, ...] = STAGES["vgg19"]
    width: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, layers: Sequence[str], before_activation: bool = True
    ) -> dict[str, jax.Array]:
        """Features of the named layers; layers behind the deepest one are not computed.

        x (b, h, w, 3), already through `prepare`. Stage s gives (b, h // 2**(s-1), ..., c).
        """
        wanted = set(layers)
        taken: dict[str, jax.Array] = {}
        for stage, count in enumerate(self.stages):
            if wanted == set(taken):
                break
            if stage > 0:
                if min(x.shape[1:3]) < 2:
                    raise UserError(
                        f"images are too small for conv{stage + 1}_1 of VGG: both sides must be "
                        f"at least {2**stage} pixels; use larger crops or shallower layers"
                    )
                x = max_pool(x, 2, 2)
            for i in range(count):
                name = f"conv{stage + 1}_{i + 1}"
                # Not jaxgen.nn.conv: its gain is the kernel's gradient, which is never taken here.
                x = nn.Conv(
                    channels_at(stage, self.width),
                    (3, 3),
                    padding=((1, 1), (1, 1)),
                    dtype=self.dtype,
                    name=name,
                )(x)
                before, x = x, nn.relu(x)
                if name in wanted:
                    taken[name] = before if before_activation else x
                if wanted == set(taken):
                    break
        return {name: taken[name] for name in layers}


def channels_at(stage: int, width: float) -> int:
    """Channels of stage 0..4."""
    return max(1, round(CHANNELS[stage] * width))


def layer_names(arch: str = "vgg19") -> tuple[str, ...]:
    """("conv1_1", "conv1_2", "conv2_1", ...), in the order of computation."""
    return tuple(f"conv{s + 1}_{i + 1}" for s, n in enumerate(STAGES[arch]) for i in range(n))


def features(
    params: Params,
    x: jax.Array,
    layers: Sequence[str],
    before_activation: bool = True,
    dtype: Any = jnp.float32,
) -> dict[str, jax.Array]:
    """Named features of prepared images; any depth, width and kind of VGG that `params` has.

    Args:
      params: from `load_perceptual`, `from_torch` or `init_params`.
      x: (b, h, w, 3), through `prepare`.
      layers: e.g. ("conv2_2", "conv5_4").
      before_activation: True takes the convolution's output (ESRGAN), False that of its ReLU
        (SRGAN's paper).
      dtype: of the computation and the result.

    Returns: {layer: (b, h / 2**(stage-1), w / 2**(stage-1), channels)}, in the order of `layers`.

    Raises:
      UserError: a layer that `params` has not; an image too small for the layer.
    """
    absent = [name for name in layers if name not in params]
    if absent:
        raise UserError(f"no VGG layer {', '.join(absent)}; there are {', '.join(params)}")
    stages: list[int] = []
    while f"conv{len(stages) + 1}_1" in params:
        prefix = f"conv{len(stages) + 1}_"
        stages.append(sum(name.startswith(prefix) for name in params))
    width = params["conv1_1"]["kernel"].shape[-1] / CHANNELS[0]
    vgg = VGG(tuple(stages), width, dtype)
    taken: Any = vgg.apply({"params": params}, x, tuple(layers), before_activation)
    return taken


def prepare(x: jax.Array, convention: str = "imagenet") -> jax.Array:
    """Images (b, h, w, 3) RGB in [-1, 1] -> float32 input of a VGG, by the weights' convention.

    "imagenet": [0, 1], minus mean, by standard deviation (torchvision's weights).
    "caffe": [0, 255], BGR, minus mean (Keras' preprocess_input, the original weights). Features
      are about twelve times larger, whence SRGAN's scale 1/12.75.
    "raw": [-1, 1] as it is (what Keras-SRGAN fed its VGG19).
    """
    x = x.astype(jnp.float32)
    if convention == "raw":
        return x
    if convention == "imagenet":
        mean, std = (jnp.asarray(v, jnp.float32).reshape(1, 1, 1, 3) for v in _IMAGENET)
        return ((x + 1.0) / 2.0 - mean) / std
    if convention == "caffe":
        mean = jnp.asarray(CAFFE_MEAN, jnp.float32).reshape(1, 1, 1, 3)
        return (x[..., ::-1] + 1.0) * 127.5 - mean
    raise UserError(f"unknown VGG input {convention!r}; use imagenet, caffe or raw")


_IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)


def expected_params(arch: str = "vgg19", width: float = 1.0) -> dict[str, Any]:
    """The full parameter tree as shapes and dtypes; computes nothing."""
    vgg = VGG(STAGES[arch], width)
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    deepest = layer_names(arch)[-1:]
    return jax.eval_shape(lambda x: vgg.init(jax.random.key(0), x, deepest), x)["params"]


def init_params(
    seed: int = 0, arch: str = "vgg19", width: float = 1.0, deepest: str | None = None
) -> dict[str, Any]:
    """Random weights: He-normal kernels (variance 2 / fan-in), zero biases, cut after `deepest`.

    NumPy draws them, layer by layer, so that the same seed gives the same network on every
    device, and cutting it changes no weight that is left.
    """
    rng = np.random.default_rng(seed)
    params = {}
    expected = expected_params(arch, width)
    for name in layer_names(arch):
        shape = expected[name]["kernel"].shape
        std = np.sqrt(2.0 / np.prod(shape[:3]))
        kernel = std * rng.standard_normal(shape, dtype=np.float32)
        params[name] = {"kernel": kernel.astype(np.float32), "bias": np.zeros(shape[3], np.float32)}
        if name == deepest:
            break
    return params


def torch_rules(arch: str = "vgg19") -> list[weights_lib.Rule]:
    """torchvision's keys: convolution, ReLU and pool each count as one `features.{i}`."""
    rules: list[weights_lib.Rule] = []
    index = 0
    for stage, count in enumerate(STAGES[arch]):
        for i in range(count):
            rules += weights_lib.module_rules(f"features.{index}", f"conv{stage + 1}_{i + 1}")
            index += 2
        index += 1
    return [*rules, weights_lib.Rule("classifier.*", None)]


def from_torch(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """torchvision's VGG16 or VGG19 state dict -> parameters; which one is seen from its keys.

    Raises:
      UserError: names every missing, extra or misshapen key.
    """
    # features.17 is conv4_1 in VGG16 and a ReLU in VGG19.
    arch = "vgg16" if "features.17.weight" in tensors else "vgg19"
    return weights_lib.convert(tensors, torch_rules(arch), expected_params(arch))


def load_perceptual(
    weights: str, layers: Sequence[str], width: float = 1.0, seed: int = 0
) -> dict[str, Any]:
    """The VGG of a perceptual loss, cut after the deepest of `layers`; NumPy arrays.

    Args:
      weights: "file:PATH", torchvision's VGG19 or VGG16 as .safetensors or .pth, or a file of
        ours with names "vgg19/conv1_1/kernel";
        "random", He-normal weights from `seed`: the structure of the network, not what it has
        learned, carries most of a perceptual loss (Liu et al., "Generic Perceptual Loss for
        Modeling Structured Output Dependencies", CVPR 2021, arXiv 2103.10571: super-resolution
        with a random VGG on a par with the pretrained one);
        "none", no network: {}.
      layers: the layers that the loss compares, e.g. ("conv5_4",).
      width: factor on the channels of the random network; a file brings its own width.
      seed: of the random network.

    Raises:
      UserError: unknown choice or layer, missing or unfit file; says where to get one.
    """
    if weights == "none":
        return {}
    if not layers:
        raise UserError('a perceptual loss needs a layer, e.g. conv5_4 (or choose weights "none")')
    if weights == "random":
        names = layer_names()
        _check_layers(layers, names)
        return init_params(seed, width=width, deepest=max(layers, key=names.index))
    params = _from_tensors(files.read_choice(weights, _WHERE))
    names = tuple(sorted(params))
    _check_layers(layers, names)
    depth = names.index(max(layers, key=names.index)) + 1
    return {name: params[name] for name in names[:depth]}


def _from_tensors(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    for arch in STAGES:
        own = files.own_tensors(tensors, arch)
        if own is not None:
            first = own.get("conv1_1/kernel")
            width = 1.0 if first is None else first.shape[-1] / CHANNELS[0]
            return files.checked_tree(own, expected_params(arch, width))
    return from_torch(tensors)


def _check_layers(layers: Sequence[str], names: Sequence[str]) -> None:
    unknown = [name for name in layers if name not in names]
    if unknown:
        raise UserError(f"no VGG layer {', '.join(unknown)}; choose from {', '.join(names)}")
