"""Published weights of ESRGAN and Real-ESRGAN: RRDBNet in three key layouts, SRVGGNetCompact, and
both discriminators.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

from ml_collections import ConfigDict

from jaxgen.models.esrgan.discriminators import (
    HEAD_SIDE,
    UNetDiscriminatorSN,
    VGGStyleDiscriminator,
    vgg_stages,
)
from jaxgen.models.esrgan.rrdbnet import RRDBNet
from jaxgen.models.esrgan.srvgg import SRVGGNetCompact
from jaxgen.models.esrgan.task import make_discriminator, make_generator
from jaxgen.nn import spectral_norm
from jaxgen.weights import CONV, DENSE, Rule, Tree, dense_after_flatten, module_rules
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


def _generator_shapes(config: ConfigDict) -> Tree:
    net = make_generator(config)
    return shapes_of(net, 8 * net.multiple(), net.channels)


def _discriminator_shapes(config: ConfigDict) -> Tree:
    return shapes_of(make_discriminator(config), config.data.hr_size)


# ---------------------------------------------------------------------------------------- RRDBNet


@dataclasses.dataclass(frozen=True)
class _Keys:
    """PyTorch's names of RRDBNet's convolutions.

    block: of a dense block's, with {i}, {j} and {k}; plus: of ESRGAN+'s in it. trunk: with
    {blocks}, filled in. up: with {n}, which counts from 1. hr, last: with {n}, two and four more
    than the last up-convolution's where all are counted together.
    """

    first: str
    block: str
    plus: str
    trunk: str
    up: str
    hr: str
    last: str


_BASICSR = _Keys(
    first="conv_first",
    block="body.{i}.rdb{j}.conv{k}",
    plus="body.{i}.rdb{j}.conv1x1",
    trunk="conv_body",
    up="conv_up{n}",
    hr="conv_hr",
    last="conv_last",
)
_NEW = _Keys(
    first="conv_first",
    block="RRDB_trunk.{i}.RDB{j}.conv{k}",
    plus="RRDB_trunk.{i}.RDB{j}.conv1x1",
    trunk="trunk_conv",
    up="upconv{n}",
    hr="HRconv",
    last="conv_last",
)
_OLD = _Keys(
    first="model.0",
    block="model.1.sub.{i}.RDB{j}.conv{k}.0",
    plus="model.1.sub.{i}.RDB{j}.conv1x1",
    trunk="model.1.sub.{blocks}",
    up="model.{n}",
    hr="model.{n}",
    last="model.{n}",
)
# Of the old keys, where nearest, convolution and activation count alike.
_UP = 3


def _rrdb_sizes(keys: _Keys, tensors: Tensors) -> Sizes | None:
    first = tensors.get(f"{keys.first}.weight")
    grow = tensors.get(f"{keys.block.format(i=0, j=1, k=1)}.weight")
    if first is None or grow is None or first.ndim != 4:
        return None
    # One more than the number of the last up-convolution; of the old keys, of the last layer.
    end = count(tensors, f"{keys.up}.", "n")
    ups, odd = divmod(end - 5, _UP) if keys is _OLD else (max(end - 1, 0), 0)
    if odd or ups < 0:
        return None
    last = tensors.get(f"{keys.last.format(n=end - 1)}.weight")
    outputs = 3 if last is None else last.shape[0]
    # What is folded by 2 x 2 or 4 x 4 has as many channels as the output before.
    unshuffle = {4 * outputs: 2, 16 * outputs: 4}.get(first.shape[1], 1)
    scale = 2**ups // unshuffle
    if not scale:
        return None
    sizes = {
        "scale": scale,
        "features": first.shape[0],
        "blocks": count(tensors, keys.block),
        "growth": grow.shape[0],
    }
    return sizes | _unusual(
        unshuffle=0 if unshuffle == max(1, 4 // scale) else unshuffle,
        plus=f"{keys.plus.format(i=0, j=1)}.weight" in tensors,
        channels=first.shape[1] // unshuffle**2,
        out_channels=outputs,
    )


def _unusual(**sizes: Any) -> dict[str, Any]:
    """What of these is not as in most files: what goes without saying is not said."""
    usual = {"unshuffle": 0, "plus": False, "channels": 3, "out_channels": 3}
    return {name: value for name, value in sizes.items() if value != usual[name]}


def _rrdb_config(sizes: Sizes) -> ConfigDict:
    settings = {name: value for name, value in sizes.items() if name != "scale"}
    settings |= {"form": "rrdb", "skip": False, "remat": False}
    return config_of("esrgan", "generator", settings, scale=sizes["scale"], hr_size=128)


def _read_rrdb(config: ConfigDict) -> Sizes | None:
    net = make_generator(config)
    # The bicubic skip is ours: a layout has no place for it.
    if not isinstance(net, RRDBNet) or net.skip:
        return None
    sizes = {name: getattr(net, name) for name in ("scale", "features", "blocks", "growth")}
    unshuffle = 0 if net.multiple() == max(1, 4 // net.scale) else net.unshuffle
    return sizes | _unusual(
        unshuffle=unshuffle,
        plus=net.plus,
        channels=net.channels,
        out_channels=net.out_channels,
    )


def _rrdb_rules(keys: _Keys, sizes: Sizes) -> list[Rule]:
    rules = module_rules(keys.block, "params/body/{i}/rdb{j}/conv{k}")
    rules.append(Rule(f"{keys.plus}.weight", "params/body/{i}/rdb{j}/conv1x1/kernel", CONV))
    step = _UP if keys is _OLD else 1
    ups = len(RRDBNet(scale=sizes["scale"], unshuffle=sizes.get("unshuffle", 0)).factors())
    for source, target in (
        (keys.first, "conv_first"),
        (keys.trunk.format(blocks=sizes["blocks"]), "conv_body"),
        *((keys.up.format(n=step * n), f"conv_up{n}") for n in range(1, ups + 1)),
        (keys.hr.format(n=step * ups + 2), "conv_hr"),
        (keys.last.format(n=step * ups + 4), "conv_last"),
    ):
        rules += module_rules(source, f"params/{target}")
    return rules


def _rrdb_layout(name: str, keys: _Keys) -> Layout:
    return Layout(
        name=name,
        net="g",
        sizes=partial(_rrdb_sizes, keys),
        config=_rrdb_config,
        read=_read_rrdb,
        rules=partial(_rrdb_rules, keys),
        expected=_generator_shapes,
    )


# -------------------------------------------------------------------------------- SRVGGNetCompact


def _srvgg_sizes(activation: str, tensors: Tensors) -> Sizes | None:
    first, slopes = tensors.get("body.0.weight"), tensors.get("body.1.weight")
    if first is None or first.ndim != 4 or (slopes is None) is (activation == "prelu"):
        return None
    # Convolutions at even places, activations between them.
    last = count(tensors, "body.{i}.") - 1
    final = tensors.get(f"body.{last}.weight")
    if last < 2 or last % 2 or final is None or final.ndim != 4:
        return None
    if slopes is not None and slopes.ndim != 1:
        return None
    channels = first.shape[1]
    for outputs in (channels,) if channels != 1 else (1, 3, 4):  # the input is added to the output
        scale = math.isqrt(final.shape[0] // outputs)
        if final.shape[0] == outputs * scale**2:
            sizes = {"scale": scale, "features": first.shape[0], "convs": last // 2 - 1}
            return sizes | _unusual(channels=channels, out_channels=outputs)
    return None


def _srvgg_config(activation: str, sizes: Sizes) -> ConfigDict:
    settings = {name: value for name, value in sizes.items() if name != "scale"}
    settings = {"form": "srvgg", **settings}
    if activation != "prelu":
        settings["activation"] = activation
    return config_of("esrgan", "generator", settings, scale=sizes["scale"], hr_size=128)


def _read_srvgg(activation: str, config: ConfigDict) -> Sizes | None:
    net = make_generator(config)
    if not isinstance(net, SRVGGNetCompact) or net.activation != activation:
        return None
    sizes = {name: getattr(net, name) for name in ("scale", "features", "convs")}
    return sizes | _unusual(channels=net.channels, out_channels=net.out_channels)


def _srvgg_rules(sizes: Sizes) -> list[Rule]:
    rules = []
    for i in range(sizes["convs"] + 2):
        rules += module_rules(f"body.{2 * i}", f"params/conv_{i}")
        rules.append(Rule(f"body.{2 * i + 1}.weight", f"params/prelu_{i}/alpha"))
    return rules


def _srvgg_layout(name: str, activation: str) -> Layout:
    return Layout(
        name=name,
        net="g",
        sizes=partial(_srvgg_sizes, activation),
        config=partial(_srvgg_config, activation),
        read=partial(_read_srvgg, activation),
        rules=_srvgg_rules,
        expected=_generator_shapes,
    )


# --------------------------------------------------------------------------------- discriminators


def _vgg_sizes(tensors: Tensors) -> Sizes | None:
    first, hidden = tensors.get("conv0_0.weight"), tensors.get("linear1.weight")
    if first is None or hidden is None or first.ndim != 4 or hidden.ndim != 2:
        return None
    stages = count(tensors, "conv{i}_1.")
    return {
        "size": HEAD_SIDE * 2**stages,
        "features": first.shape[0],
        "hidden": hidden.shape[0],
    }


def _vgg_config(sizes: Sizes) -> ConfigDict:
    settings = {"form": "vgg", "features": sizes["features"], "hidden": sizes["hidden"]}
    return config_of("esrgan", "discriminator", settings, scale=4, hr_size=sizes["size"])


def _read_vgg(config: ConfigDict) -> Sizes | None:
    net = make_discriminator(config)
    if not isinstance(net, VGGStyleDiscriminator):
        return None
    return {name: getattr(net, name) for name in ("size", "features", "hidden")}


def _vgg_rules(sizes: Sizes) -> list[Rule]:
    channels = sizes["features"] * 2 ** min(vgg_stages(sizes["size"]) - 1, 3)
    flat = dense_after_flatten(HEAD_SIDE, HEAD_SIDE, channels)
    return [
        NORM_COUNTS,
        *module_rules("conv{i}_{j}", "params/conv{i}_{j}"),
        *norm_rules("bn{i}_{j}", "bn{i}_{j}"),
        *module_rules("linear1", "params/linear1", flat),
        *module_rules("linear2", "params/linear2", DENSE),
    ]


def _unet_sizes(tensors: Tensors) -> Sizes | None:
    first = tensors.get("conv0.weight")
    if first is None or first.ndim != 4 or "conv1.weight_orig" not in tensors:
        return None
    return {"features": first.shape[0]}


def _unet_config(sizes: Sizes) -> ConfigDict:
    settings = {"form": "unet", "features": sizes["features"]}
    return config_of("esrgan", "discriminator", settings, scale=4, hr_size=256)


def _read_unet(config: ConfigDict) -> Sizes | None:
    net = make_discriminator(config)
    return {"features": net.features} if isinstance(net, UNetDiscriminatorSN) else None


_UNET_RULES = [
    *module_rules("conv0", "params/conv0", CONV),
    *module_rules("conv9", "params/conv9", CONV),
    # 4x4 on the way down, 3x3 on the way up.
    *(r for i in range(1, 4) for r in spectral_norm.rules(f"conv{i}", f"conv{i}", 4)),
    *(r for i in range(4, 9) for r in spectral_norm.rules(f"conv{i}", f"conv{i}", 3)),
]


LAYOUTS = (
    _rrdb_layout("Real-ESRGAN RRDBNet", _BASICSR),
    _rrdb_layout("ESRGAN RRDBNet", _NEW),
    _rrdb_layout("ESRGAN RRDBNet, old keys", _OLD),
    _srvgg_layout("Real-ESRGAN SRVGGNetCompact", "prelu"),
    # Which of the two a file has, its keys don't tell.
    _srvgg_layout("Real-ESRGAN SRVGGNetCompact with ReLU", "relu"),
    _srvgg_layout("Real-ESRGAN SRVGGNetCompact with LeakyReLU", "leaky_relu"),
    Layout(
        name="ESRGAN VGG-style discriminator",
        net="d",
        sizes=_vgg_sizes,
        config=_vgg_config,
        read=_read_vgg,
        rules=_vgg_rules,
        expected=_discriminator_shapes,
    ),
    Layout(
        name="Real-ESRGAN U-Net discriminator",
        net="d",
        sizes=_unet_sizes,
        config=_unet_config,
        read=_read_unet,
        rules=lambda sizes: _UNET_RULES,
        expected=_discriminator_shapes,
    ),
)
