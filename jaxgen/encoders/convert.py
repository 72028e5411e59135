"""Published weights of frozen networks, and LPIPS's heads, to files of ours and back.

Such a file of ours has one network: its tensors are named "<arch>/<path>" ("vgg19/conv1_1/kernel",
"resnet50/params/conv1/kernel").
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from flax import traverse_util

from jaxgen.encoders import (
    alexnet,
    damsm,
    dino,
    files,
    inception,
    inception_layout,
    inception_resnet_v2,
    inception_resnet_v2_layout,
    lpips,
    resnet,
    squeezenet,
    vgg,
)
from jaxgen.nn.text_keys import stack_gates
from jaxgen.weights import Rule, Tensors, Tree, convert, to_torch

State = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A kind of network with published weights.

    name: as its users know it.
    fits: state dict -> whether it is of this kind.
    read: state dict -> our tree; raises UserError as `jaxgen.weights.convert`.
    arch: our tree -> the network's name in a file of ours.
    archs: regular expression of these names.
    rules: arch -> key map, for the way back.
    finish: what these rules give -> PyTorch's state dict, where that holds several of our arrays
      in one.
    """

    name: str
    fits: Callable[[State], bool]
    read: Callable[[State], Tree]
    arch: Callable[[Tree], str]
    archs: str
    rules: Callable[[str], Sequence[Rule]]
    finish: Callable[[Tensors], Tensors] = lambda tensors: tensors


def kind_of(tensors: State) -> Frozen | None:
    """The kind of a published state dict, from keys and shapes; None: no such network."""
    return next((kind for kind in KINDS if kind.fits(tensors)), None)


def to_own(tensors: State) -> tuple[Frozen, dict[str, Any]] | None:
    """A published state dict -> (kind, {arch: tree}) for `write_safetensors`; None: another file.

    Raises:
      UserError: names every missing, extra or misshapen key.
    """
    kind = kind_of(tensors)
    if kind is None:
        return None
    tree = kind.read(tensors)
    return kind, {kind.arch(tree): tree}


def to_published(tensors: State) -> tuple[Frozen, Tensors] | None:
    """What a file of ours holds -> (kind, PyTorch's state dict); None: another file.

    Raises:
      UserError: names every tensor that the network has not.
    """
    archs = {key.partition("/")[0] for key in tensors}
    arch = archs.pop() if len(archs) == 1 else ""
    for kind in KINDS:
        if re.fullmatch(kind.archs, arch):
            own = files.own_tensors(tensors, arch) or {}
            tree = traverse_util.unflatten_dict(own, sep="/")
            return kind, kind.finish(to_torch(tree, kind.rules(arch)))
    return None


def _kernel(tensors: State, key: str) -> tuple[int, ...]:
    """(height, width) of a convolution's kernel, () if there is none."""
    return tuple(tensors[key].shape[2:]) if key in tensors else ()


def _is_vgg(tensors: State) -> bool:
    # features.3 is a ReLU; with BatchNorm it would have weights.
    second = _kernel(tensors, "features.2.weight")
    return second == (3, 3) and "features.3.weight" not in tensors


def _is_resnet(tensors: State) -> bool:
    return _kernel(tensors, "conv1.weight") == (7, 7) and "layer1.0.conv1.weight" in tensors


def _is_inception(tensors: State) -> bool:
    return "conv2d_1a.conv.weight" in tensors or inception_resnet_v2_layout.is_keras(tensors)


def _inception_tree(tensors: State) -> Tree:
    if inception_resnet_v2_layout.is_keras(tensors):
        return inception_resnet_v2.from_keras(tensors)
    return inception_resnet_v2.from_torch(tensors)


def _is_heads(tensors: State) -> bool:
    return "lin0.model.1.weight" in tensors and "features.0.weight" not in tensors


def _heads_tree(tensors: State) -> Tree:
    sizes = [tensors[key].size for key in sorted(tensors) if key.startswith("lin")]
    nets = [net for net, taps in lpips.TAPS.items() if list(taps.values()) == sizes]
    return convert(tensors, lpips.head_rules(), lpips.expected_heads(nets[0] if nets else "alex"))


def _heads_arch(tree: Tree) -> str:
    sizes = [tree[name].size for name in sorted(tree)]
    return next(f"lpips_{n}" for n, taps in lpips.TAPS.items() if list(taps.values()) == sizes)


KINDS: tuple[Frozen, ...] = (
    Frozen(
        name="torchvision VGG16 or VGG19",
        fits=_is_vgg,
        read=vgg.from_torch,
        arch=lambda tree: "vgg19" if "conv3_4" in tree else "vgg16",
        archs="vgg(16|19)",
        rules=vgg.torch_rules,
    ),
    Frozen(
        name="torchvision AlexNet",
        fits=lambda tensors: _kernel(tensors, "features.0.weight") == (11, 11),
        read=alexnet.from_torch,
        arch=lambda tree: "alexnet",
        archs="alexnet",
        rules=lambda arch: alexnet.torch_rules(),
    ),
    Frozen(
        name="torchvision SqueezeNet 1.1",
        fits=lambda tensors: "features.3.squeeze.weight" in tensors,
        read=squeezenet.from_torch,
        arch=lambda tree: "squeezenet1_1",
        archs="squeezenet1_1",
        rules=lambda arch: squeezenet.torch_rules(),
    ),
    Frozen(
        name="torchvision ResNet",
        fits=_is_resnet,
        read=resnet.from_torch,
        arch=lambda tree: resnet.module_of(tree["params"]).arch,
        archs="|".join(resnet.ARCHS),
        rules=lambda arch: resnet.torch_rules(),
    ),
    Frozen(
        name="Inception-ResNet-v2 (timm, Keras)",
        fits=_is_inception,
        read=_inception_tree,
        arch=lambda tree: "inception_resnet_v2",
        archs="inception_resnet_v2",
        rules=lambda arch: inception_resnet_v2_layout.torch_rules(),
    ),
    Frozen(
        name="the FID's Inception-v3",
        fits=lambda tensors: "Mixed_7c.branch_pool.conv.weight" in tensors,
        read=inception.from_torch,
        arch=lambda tree: inception.ARCH,
        archs=inception.ARCH,
        rules=lambda arch: inception_layout.torch_rules(),
    ),
    Frozen(
        name="LPIPS v0.1 heads",
        fits=_is_heads,
        read=_heads_tree,
        arch=_heads_arch,
        archs="lpips_(alex|vgg|squeeze)",
        rules=lambda arch: lpips.head_rules(),
    ),
    Frozen(
        name="AttnGAN text encoder",
        fits=damsm.fits,
        read=damsm.from_torch,
        arch=lambda tree: damsm.ARCH,
        archs=damsm.ARCH,
        rules=lambda arch: damsm.torch_rules(),
        finish=stack_gates,
    ),
    Frozen(
        name="DINO ViT-S or ViT-B",
        fits=dino.fits,
        read=dino.from_torch,
        arch=lambda tree: dino.ARCH,
        archs=dino.ARCH,
        rules=lambda arch: dino.torch_rules(),
    ),
)
