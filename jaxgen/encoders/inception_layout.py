"""The FID's Inception-v3 as tables, and the names of its weights in the PyTorch port."""

from __future__ import annotations

from typing import NamedTuple

from jaxgen.nn.inception import MAX_POOL, Step
from jaxgen.weights import CONV, DENSE, Rule, module_rules
from jaxgen.weights.layout import NORM_COUNTS, norm_rules

INPUT = "input"
# 3x3 with stride 1 and the size kept: the average over the pixels that exist, or the maximum.
AVERAGE, MAXIMUM = "average", "maximum"


class Mixed(NamedTuple):
    """Parallel branches: convolutions by name, each with what it reads, and what is concatenated.

    convs: name -> (source, step); a source is `INPUT`, the name of an earlier convolution, or the
      kind of pool of the input: `AVERAGE`, `MAXIMUM`.
    joined: names of convolutions, or `MAX_POOL` (stride 2, no padding), in the order of channels.
    """

    convs: dict[str, tuple[str, Step]]
    joined: tuple[str, ...]


def _mixed_5(pooled: int) -> Mixed:
    return Mixed(
        {
            "branch1x1": (INPUT, Step(64, 1)),
            "branch5x5_1": (INPUT, Step(48, 1)),
            "branch5x5_2": ("branch5x5_1", Step(64, 5)),
            "branch3x3dbl_1": (INPUT, Step(64, 1)),
            "branch3x3dbl_2": ("branch3x3dbl_1", Step(96, 3)),
            "branch3x3dbl_3": ("branch3x3dbl_2", Step(96, 3)),
            "branch_pool": (AVERAGE, Step(pooled, 1)),
        },
        ("branch1x1", "branch5x5_2", "branch3x3dbl_3", "branch_pool"),
    )


def _mixed_6(inner: int) -> Mixed:
    return Mixed(
        {
            "branch1x1": (INPUT, Step(192, 1)),
            "branch7x7_1": (INPUT, Step(inner, 1)),
            "branch7x7_2": ("branch7x7_1", Step(inner, (1, 7))),
            "branch7x7_3": ("branch7x7_2", Step(192, (7, 1))),
            "branch7x7dbl_1": (INPUT, Step(inner, 1)),
            "branch7x7dbl_2": ("branch7x7dbl_1", Step(inner, (7, 1))),
            "branch7x7dbl_3": ("branch7x7dbl_2", Step(inner, (1, 7))),
            "branch7x7dbl_4": ("branch7x7dbl_3", Step(inner, (7, 1))),
            "branch7x7dbl_5": ("branch7x7dbl_4", Step(192, (1, 7))),
            "branch_pool": (AVERAGE, Step(192, 1)),
        },
        ("branch1x1", "branch7x7_3", "branch7x7dbl_5", "branch_pool"),
    )


def _mixed_7(pool: str) -> Mixed:
    return Mixed(
        {
            "branch1x1": (INPUT, Step(320, 1)),
            "branch3x3_1": (INPUT, Step(384, 1)),
            "branch3x3_2a": ("branch3x3_1", Step(384, (1, 3))),
            "branch3x3_2b": ("branch3x3_1", Step(384, (3, 1))),
            "branch3x3dbl_1": (INPUT, Step(448, 1)),
            "branch3x3dbl_2": ("branch3x3dbl_1", Step(384, 3)),
            "branch3x3dbl_3a": ("branch3x3dbl_2", Step(384, (1, 3))),
            "branch3x3dbl_3b": ("branch3x3dbl_2", Step(384, (3, 1))),
            "branch_pool": (pool, Step(192, 1)),
        },
        (
            *("branch1x1", "branch3x3_2a", "branch3x3_2b"),
            *("branch3x3dbl_3a", "branch3x3dbl_3b", "branch_pool"),
        ),
    )


# Every layer in the order of computation. Two departures from the published Inception-v3 are the
# FID network's own: averages count only pixels that exist, and mixed_7c pools by the maximum.
LAYERS: dict[str, Step | str | Mixed] = {
    "conv2d_1a": Step(32, 3, 2, "VALID"),
    "conv2d_2a": Step(32, 3, 1, "VALID"),
    "conv2d_2b": Step(64, 3),
    "maxpool_3a": MAX_POOL,
    "conv2d_3b": Step(80, 1),
    "conv2d_4a": Step(192, 3, 1, "VALID"),
    "maxpool_5a": MAX_POOL,
    "mixed_5b": _mixed_5(32),
    "mixed_5c": _mixed_5(64),
    "mixed_5d": _mixed_5(64),
    "mixed_6a": Mixed(
        {
            "branch3x3": (INPUT, Step(384, 3, 2, "VALID")),
            "branch3x3dbl_1": (INPUT, Step(64, 1)),
            "branch3x3dbl_2": ("branch3x3dbl_1", Step(96, 3)),
            "branch3x3dbl_3": ("branch3x3dbl_2", Step(96, 3, 2, "VALID")),
        },
        ("branch3x3", "branch3x3dbl_3", MAX_POOL),
    ),
    "mixed_6b": _mixed_6(128),
    "mixed_6c": _mixed_6(160),
    "mixed_6d": _mixed_6(160),
    "mixed_6e": _mixed_6(192),
    "mixed_7a": Mixed(
        {
            "branch3x3_1": (INPUT, Step(192, 1)),
            "branch3x3_2": ("branch3x3_1", Step(320, 3, 2, "VALID")),
            "branch7x7x3_1": (INPUT, Step(192, 1)),
            "branch7x7x3_2": ("branch7x7x3_1", Step(192, (1, 7))),
            "branch7x7x3_3": ("branch7x7x3_2", Step(192, (7, 1))),
            "branch7x7x3_4": ("branch7x7x3_3", Step(192, 3, 2, "VALID")),
        },
        ("branch3x3_2", "branch7x7x3_4", MAX_POOL),
    ),
    "mixed_7b": _mixed_7(AVERAGE),
    "mixed_7c": _mixed_7(MAXIMUM),
}
# What the FID's tools call features of a picture: mean over the pixels after this layer.
TAPS = {"64": "maxpool_3a", "192": "maxpool_5a", "768": "mixed_6e", "2048": "mixed_7c"}
CLASSES = 1008

# The port's names of the stem's convolutions; the mixed layers differ in a capital letter alone.
_TORCH_STEM = {
    "conv2d_1a": "Conv2d_1a_3x3",
    "conv2d_2a": "Conv2d_2a_3x3",
    "conv2d_2b": "Conv2d_2b_3x3",
    "conv2d_3b": "Conv2d_3b_1x1",
    "conv2d_4a": "Conv2d_4a_3x3",
}


def conv_names() -> dict[str, str]:
    """All 94 convolutions in the order of computation: our path -> the port's module."""
    names: dict[str, str] = {}
    for layer, kind in LAYERS.items():
        if isinstance(kind, Mixed):
            names |= {f"{layer}/{c}": f"{layer.capitalize()}.{c}" for c in kind.convs}
        elif isinstance(kind, Step):
            names[layer] = _TORCH_STEM[layer]
    return names


def torch_rules() -> list[Rule]:
    """Keys of pt_inception-2015-12-05, the file that pytorch-fid and torch-fidelity read."""
    rules: list[Rule] = []
    for ours, theirs in conv_names().items():
        rules += [
            Rule(f"{theirs}.conv.weight", f"params/{ours}/kernel", CONV),
            *norm_rules(f"{theirs}.bn", f"{ours}/norm"),
        ]
    rules += module_rules("fc", "params/classifier", DENSE)
    return [*rules, NORM_COUNTS]
