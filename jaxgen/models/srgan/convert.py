"""Published weights of SRGAN's generators: the key layouts of their PyTorch projects.

The projects differ in names (`_Names`), in what follows the trunk's last convolution, in biases
and PReLU slopes (seen from the keys and shapes), and in the output's range (known by project).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable

from ml_collections import ConfigDict

from jaxgen.models.srgan.generator import SRResNet
from jaxgen.models.srgan.msrresnet import MSRResNet
from jaxgen.models.srgan.published import PublishedSRResNet
from jaxgen.models.srgan.task import make_generator
from jaxgen.weights import Rule, Tree, module_rules
from jaxgen.weights.layout import (
    NORM_COUNTS,
    Layout,
    Sizes,
    Tensors,
    config_of,
    count,
    norm_rules,
    shapes_of,
)


@dataclasses.dataclass(frozen=True)
class _Names:
    """Key templates of a generator of the paper's kind, and what its output is.

    Fields: {i}, {i1}, {i2} are a residual block's number from 0, from 1, from 2; {u} an up-stage's
    from 0; {b2}, {b3} the number of blocks plus 2, plus 3; {ups} the number of up-stages.
    """

    first: str  # convolution and PReLU, at .0 and .1
    block: str
    layers: tuple[str, str, str, str, str]  # of a block: conv, norm, prelu, conv, norm
    trunk: str  # convolution and what follows it, at .0 and .1
    up: str
    up_layers: tuple[str, str]  # convolution, PReLU
    last: str
    output: str  # as of PublishedSRResNet

    def block_layers(self, i: int) -> list[str]:
        block = self.block.format(i=i, i1=i + 1, i2=i + 2)
        return [f"{block}.{layer}" for layer in self.layers]

    def up_stage(self, u: int, blocks: int) -> list[str]:
        return [f"{self.up.format(u=u, b3=blocks + 3)}.{layer}" for layer in self.up_layers]


_COUNTED = ("0", "1", "2", "3", "4")
_LEFTTHOMAS = _Names(
    first="block1",
    block="block{i2}",
    layers=("conv1", "bn1", "prelu", "conv2", "bn2"),
    trunk="block{b2}",
    up="block{b3}.{u}",
    up_layers=("conv", "prelu"),
    last="block{b3}.{ups}",
    output="tanh",
)
_GOLDHUANG = _Names(
    first="conv1",
    block="residual{i1}.net",
    layers=_COUNTED,
    trunk="conv2",
    up="upsample.{u}.net",
    up_layers=("0", "2"),
    last="upsample.{ups}",
    output="tanh",
)
_LORNATANG = _Names(
    first="conv1",
    block="trunk.{i}.rcb",
    layers=_COUNTED,
    trunk="conv2",
    up="upsampling.{u}.upsample_block",
    up_layers=("0", "2"),
    last="conv3",
    output="linear",
)
_LORNATANG_2022 = dataclasses.replace(
    _LORNATANG, first="conv_block1", trunk="conv_block2", last="conv_block3"
)


# ------------------------------------------------------------------------------- the paper's kind


def _sizes(names: _Names, shared: bool, tensors: Tensors) -> Sizes | None:
    """shared: the layout has one PReLU slope per layer, else one per channel."""
    kernel, slope = (tensors.get(f"{names.first}.{i}.weight") for i in (0, 1))
    if kernel is None or kernel.ndim != 4 or slope is None or (slope.size == 1) != shared:
        return None
    blocks = _layers(tensors, lambda i: names.block_layers(i)[0])
    ups = _layers(tensors, lambda u: names.up_stage(u, blocks)[0])
    if not blocks or not ups:
        return None
    features, _, edge_kernel, _ = kernel.shape
    sizes = {"features": features, "blocks": blocks, "edge_kernel": edge_kernel, "scale": 2**ups}
    if shared:
        after = names.trunk.format(b2=blocks + 2) + ".1"
        norm = f"{after}.running_mean" in tensors or f"{after}.bias" in tensors
        sizes["trunk"] = "norm" if norm else "prelu"
        convs = [names.block_layers(i)[n] for i in range(blocks) for n in (0, 3)]
        sizes["bias"] = any(f"{conv}.bias" in tensors for conv in convs)
    return sizes


def _layers(tensors: Tensors, start: Callable[[int], str]) -> int:
    """How many layers start(0), start(1), ... the keys have."""
    return next(
        n for n in itertools.count() if not any(key.startswith(f"{start(n)}.") for key in tensors)
    )


def _rules(names: _Names, sizes: Sizes) -> list[Rule]:
    blocks, ups = sizes["blocks"], int(math.log2(sizes["scale"]))
    trunk = names.trunk.format(b2=blocks + 2)
    rules = [
        *module_rules(f"{names.first}.0", "params/conv_in"),
        Rule(f"{names.first}.1.weight", "params/prelu_in/alpha"),
        *module_rules(f"{trunk}.0", "params/conv_trunk"),
    ]
    if sizes.get("trunk") == "prelu":
        rules.append(Rule(f"{trunk}.1.weight", "params/prelu_trunk/alpha"))
    else:
        rules += norm_rules(f"{trunk}.1", "norm_trunk")
    for i in range(blocks):
        conv_0, norm_0, prelu, conv_1, norm_1 = names.block_layers(i)
        rules += [
            *module_rules(conv_0, f"params/block_{i}_conv_0"),
            *norm_rules(norm_0, f"block_{i}_norm_0"),
            Rule(f"{prelu}.weight", f"params/block_{i}_prelu/alpha"),
            *module_rules(conv_1, f"params/block_{i}_conv_1"),
            *norm_rules(norm_1, f"block_{i}_norm_1"),
        ]
    for u in range(ups):
        conv, prelu = names.up_stage(u, blocks)
        rules += module_rules(conv, f"params/up_{u}_conv")
        rules.append(Rule(f"{prelu}.weight", f"params/up_{u}_prelu/alpha"))
    last = names.last.format(b3=blocks + 3, ups=ups)
    rules += module_rules(last, "params/conv_out")
    return [*rules, NORM_COUNTS]


def _config(generator: dict, sizes: Sizes) -> ConfigDict:
    """A config with these settings of the generator, and the sizes."""
    sizes = dict(sizes)
    scale = sizes.pop("scale")
    return config_of("srgan", "generator", {**generator, **sizes}, scale=scale)


def _expected(config: ConfigDict) -> Tree:
    # No parameter depends on the picture's size.
    return shapes_of(make_generator(config))


def _read_published(output: str, config: ConfigDict) -> Sizes | None:
    generator = make_generator(config)
    if not isinstance(generator, PublishedSRResNet) or generator.output != output:
        return None
    fields = ("features", "blocks", "edge_kernel", "scale", "trunk", "bias")
    return {name: getattr(generator, name) for name in fields}


def _read_paper(config: ConfigDict) -> Sizes | None:
    generator = make_generator(config)
    if not isinstance(generator, SRResNet) or not generator.norm or generator.skip:
        return None
    if generator.tail != "stages" or generator.output != "linear":
        return None
    fields = ("features", "blocks", "edge_kernel", "scale")
    return {name: getattr(generator, name) for name in fields}


def _published(name: str, names: _Names) -> Layout:
    settings = {"form": "published", "output": names.output}
    return Layout(
        name=name,
        net="g",
        sizes=functools.partial(_sizes, names, True),
        config=functools.partial(_config, settings),
        read=functools.partial(_read_published, names.output),
        rules=functools.partial(_rules, names),
        expected=_expected,
    )


_PAPER = {"form": "srresnet", "norm": True, "skip": False, "tail": "stages", "output": "linear"}


# -------------------------------------------------------------------------------------- MSRResNet


def _msr_sizes(tensors: Tensors) -> Sizes | None:
    first, up = tensors.get("conv_first.weight"), tensors.get("upconv1.weight")
    blocks = count(tensors, "body.{i}.conv1.")
    if first is None or up is None or first.ndim != 4 or up.ndim != 4 or not blocks:
        return None
    features = first.shape[0]
    stages = count(tensors, "upconv{i}.") - 1  # they are numbered from 1
    scale = 2**stages if stages > 1 else math.isqrt(up.shape[0] // features)
    return {"features": features, "blocks": blocks, "scale": scale}


def _msr_rules(sizes: Sizes) -> list[Rule]:
    rules = module_rules("conv_first", "params/conv_in")
    for n in (0, 1):
        rules += module_rules(f"body.{{i}}.conv{n + 1}", f"params/block_{{i}}_conv_{n}")
        rules += module_rules(f"upconv{n + 1}", f"params/up_{n}_conv")
    rules += module_rules("conv_hr", "params/conv_hr")
    return rules + module_rules("conv_last", "params/conv_out")


def _read_msr(config: ConfigDict) -> Sizes | None:
    generator = make_generator(config)
    if not isinstance(generator, MSRResNet):
        return None
    return {name: getattr(generator, name) for name in ("features", "blocks", "scale")}


LAYOUTS = (
    _published("leftthomas SRGAN", _LEFTTHOMAS),
    _published("goldhuang SRGAN-PyTorch", _GOLDHUANG),
    _published("Lornatang SRGAN-PyTorch", _LORNATANG),
    _published("Lornatang SRGAN-PyTorch 2022", _LORNATANG_2022),
    # What jaxgen itself trains as configs/srgan.py:paper, in the most used names. One slope per
    # channel, which no project above has, tells it: PyTorch's PReLU has one.
    Layout(
        name="SRResNet",
        net="g",
        sizes=functools.partial(_sizes, _LORNATANG, False),
        config=functools.partial(_config, _PAPER),
        read=_read_paper,
        rules=functools.partial(_rules, _LORNATANG),
        expected=_expected,
    ),
    Layout(
        name="BasicSR MSRResNet",
        net="g",
        sizes=_msr_sizes,
        config=functools.partial(_config, {"form": "msrresnet"}),
        read=_read_msr,
        rules=_msr_rules,
        expected=_expected,
    ),
)
