"""Inception-ResNet-v2 as tables, and the names of its weights in PyTorch and in Keras."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from jaxgen.nn.inception import (
    AVG_POOL,
    BLOCK35,
    BLOCK35_SCALE,
    MAX_POOL,
    Branch,
    Step,
    step_names,
)
from jaxgen.weights import CONV, DENSE, Rule, Tensors, module_rules
from jaxgen.weights.layout import NORM_COUNTS, norm_rules

STEM: dict[str, Step | str] = {
    "conv2d_1a": Step(32, 3, 2, "VALID"),
    "conv2d_2a": Step(32, 3, 1, "VALID"),
    "conv2d_2b": Step(64, 3),
    "maxpool_3a": MAX_POOL,
    "conv2d_3b": Step(80, 1),
    "conv2d_4a": Step(192, 3, 1, "VALID"),
    "maxpool_5a": MAX_POOL,
}
MIXED: dict[str, tuple[Branch, ...]] = {
    "mixed_5b": (
        (Step(96, 1),),
        (Step(48, 1), Step(64, 5)),
        (Step(64, 1), Step(96, 3), Step(96, 3)),
        (AVG_POOL, Step(64, 1)),
    ),
    "mixed_6a": (
        (Step(384, 3, 2, "VALID"),),
        (Step(256, 1), Step(256, 3), Step(384, 3, 2, "VALID")),
        (MAX_POOL,),
    ),
    "mixed_7a": (
        (Step(256, 1), Step(384, 3, 2, "VALID")),
        (Step(256, 1), Step(288, 3, 2, "VALID")),
        (Step(256, 1), Step(288, 3), Step(320, 3, 2, "VALID")),
        (MAX_POOL,),
    ),
}
# Branches, scale of the residual, and how many in a row.
BLOCKS: dict[str, tuple[tuple[Branch, ...], float, int]] = {
    "block35": (BLOCK35, BLOCK35_SCALE, 10),
    "block17": (
        ((Step(192, 1),), (Step(128, 1), Step(160, (1, 7)), Step(192, (7, 1)))),
        0.1,
        20,
    ),
    "block8": (
        ((Step(192, 1),), (Step(192, 1), Step(224, (1, 3)), Step(256, (3, 1)))),
        0.2,
        10,
    ),
}
CONV_7B = Step(1536, 1)
# The last block has no ReLU, and scale 1.
LAST_BLOCK = "block8_10"
_WHOLE = (*STEM, "mixed_5b", "block35", "mixed_6a", "block17", "mixed_7a", "block8", "conv_7b")
LAYER_NAMES: tuple[str, ...] = tuple(
    name
    for part in _WHOLE
    for name in ([f"{part}_{i + 1}" for i in range(BLOCKS[part][2])] if part in BLOCKS else [part])
)
# What the PyTorch port calls the rows of blocks; its tenth block8 is apart from the other nine.
_TORCH_ROWS = {"block35": "repeat", "block17": "repeat_1", "block8": "repeat_2"}


def kind_of(name: str) -> str:
    """ "block35" of "block35_5"; "" of what is no block."""
    kind = name.rpartition("_")[0]
    return kind if kind in BLOCKS else ""


def torch_rules() -> list[Rule]:
    """Keys of the PyTorch port by R. Cadene, which timm's `inception_resnet_v2` has too.

    The classifier is `classif` in timm and `last_linear` in pretrained-models.
    """
    rules: list[Rule] = []
    for name in LAYER_NAMES:
        if kind := kind_of(name):
            theirs = f"{_TORCH_ROWS[kind]}.{int(name.rpartition('_')[2]) - 1}"
            theirs = "block8" if name == LAST_BLOCK else theirs
            rules += module_rules(f"{theirs}.conv2d", f"params/{name}")
        else:
            theirs = name.replace("conv_7b", "conv2d_7b")
        if kind or name in MIXED:
            rules += _torch_conv(f"{theirs}.branch{{b}}", f"{name}/branch{{b}}")
            rules += _torch_conv(f"{theirs}.branch{{b}}.{{i}}", f"{name}/branch{{b}}_{{i}}")
        elif STEM.get(name) != MAX_POOL:
            rules += _torch_conv(theirs, name)
    for head in ("classif", "last_linear"):
        rules += module_rules(head, "params/classifier", DENSE)
    return [*rules, NORM_COUNTS]


def _torch_conv(source: str, target: str) -> list[Rule]:
    return [
        Rule(f"{source}.conv.weight", f"params/{target}/kernel", CONV),
        *norm_rules(f"{source}.bn", f"{target}/norm"),
    ]


def keras_rules(first_conv: int = 0, first_norm: int = 0) -> list[Rule]:
    """Keras' weight names, "conv2d_7/kernel": layers without a name are numbered as created.

    Args:
      first_conv, first_norm: number of the network's first convolution and BatchNorm. 0 is a
        fresh Keras ("conv2d"); older ones count from 1, and a second network goes on counting.
    """
    rules: list[Rule] = []
    for i, path in enumerate(conv_paths()):
        named = path == "conv_7b"
        conv = "conv_7b" if named else _numbered("conv2d", first_conv + i)
        norm = "conv_7b_bn" if named else _numbered("batch_normalization", first_norm + i)
        rules += [
            Rule(f"{conv}/kernel", f"params/{path}/kernel"),
            Rule(f"{norm}/gamma", f"params/{path}/norm/scale"),
            Rule(f"{norm}/beta", f"params/{path}/norm/bias"),
            Rule(f"{norm}/moving_mean", f"batch_stats/{path}/norm/mean"),
            Rule(f"{norm}/moving_variance", f"batch_stats/{path}/norm/var"),
        ]
    for kind in BLOCKS:
        ours, theirs = f"params/{kind}_{{i}}", f"{kind}_{{i}}_conv"
        rules += [Rule(f"{theirs}/{k}", f"{ours}/{k}") for k in ("kernel", "bias")]
    ours, theirs = "params/classifier", "predictions"
    return rules + [Rule(f"{theirs}/{k}", f"{ours}/{k}") for k in ("kernel", "bias")]


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


def conv_paths() -> list[str]:
    """Paths of all convolutions with BatchNorm, in the order of computation."""
    paths = []
    for name in LAYER_NAMES:
        kind = kind_of(name)
        branches = BLOCKS[kind][0] if kind else MIXED.get(name)
        if branches is not None:
            paths += [f"{name}/{inner}" for inner, _ in step_names(branches)]
        elif STEM.get(name) != MAX_POOL:
            paths.append(name)
    return paths


def is_keras(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether the names are Keras'."""
    return any("block35_1_conv/" in key for key in tensors)


def keras_tensors(tensors: Mapping[str, np.ndarray]) -> tuple[Tensors, list[Rule]]:
    """Tensors of a Keras dump under plain names, gains added, and the rules that fit them.

    Names such as "conv2d_7/kernel:0", or with folders before them, become "conv2d_7/kernel".
    Keras' BatchNorms have no gain: 1 here.
    """
    short = {"/".join(k.split(":")[0].split("/")[-2:]): v for k, v in tensors.items()}
    first = {}
    for kind in ("conv2d", "batch_normalization"):
        found = (re.fullmatch(rf"{kind}(?:_(\d+))?/\w+", key) for key in short)
        first[kind] = min((int(match[1] or 0) for match in found if match), default=0)
    gains = {
        key.replace("/beta", "/gamma"): np.ones_like(value)
        for key, value in short.items()
        if key.endswith("/beta")
    }
    return gains | short, keras_rules(first["conv2d"], first["batch_normalization"])
