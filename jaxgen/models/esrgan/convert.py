"""Published weights of ESRGAN and Real-ESRGAN: RRDBNet in three key layouts, SRVGGNetCompact, and
both discriminators.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial

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
    return shapes_of(make_generator(config))


def _discriminator_shapes(config: ConfigDict) -> Tree:
    return shapes_of(make_discriminator(config), config.data.hr_size)


# ---------------------------------------------------------------------------------------- RRDBNet


@dataclasses.dataclass(frozen=True)
class _Keys:
    """PyTorch's names of RRDBNet's convolutions.

    block: of a dense block's, with {i}, {j} and {k}. trunk: with {blocks}, filled in.
    """

    first: str
    block: str
    trunk: str
    up1: str
    up2: str
    hr: str
    last: str


_BASICSR = _Keys(
    first="conv_first",
    block="body.{i}.rdb{j}.conv{k}",
    trunk="conv_body",
    up1="conv_up1",
    up2="conv_up2",
    hr="conv_hr",
    last="conv_last",
)
_NEW = _Keys(
    first="conv_first",
    block="RRDB_trunk.{i}.RDB{j}.conv{k}",
    trunk="trunk_conv",
    up1="upconv1",
    up2="upconv2",
    hr="HRconv",
    last="conv_last",
)
_OLD = _Keys(
    first="model.0",
    block="model.1.sub.{i}.RDB{j}.conv{k}.0",
    trunk="model.1.sub.{blocks}",
    up1="model.3",
    up2="model.6",
    hr="model.8",
    last="model.10",
)


def _rrdb_sizes(keys: _Keys, tensors: Tensors) -> Sizes | None:
    first = tensors.get(f"{keys.first}.weight")
    grow = tensors.get(f"{keys.block.format(i=0, j=1, k=1)}.weight")
    if first is None or grow is None or first.ndim != 4:
        return None
    # Three channels, folded by 2 x 2 for scale 2, by 4 x 4 for scale 1.
    scale = {3: 4, 12: 2, 48: 1}.get(first.shape[1])
    if scale is None:
        return None
    return {
        "scale": scale,
        "features": first.shape[0],
        "blocks": count(tensors, keys.block),
        "growth": grow.shape[0],
    }


def _rrdb_config(sizes: Sizes) -> ConfigDict:
    settings = {name: sizes[name] for name in ("features", "blocks", "growth")}
    settings |= {"form": "rrdb", "skip": False, "remat": False}
    return config_of("esrgan", "generator", settings, scale=sizes["scale"], hr_size=128)


def _read_rrdb(config: ConfigDict) -> Sizes | None:
    net = make_generator(config)
    # The bicubic skip is ours: a layout has no place for it.
    if not isinstance(net, RRDBNet) or net.skip:
        return None
    return {name: getattr(net, name) for name in ("scale", "features", "blocks", "growth")}


def _rrdb_rules(keys: _Keys, sizes: Sizes) -> list[Rule]:
    rules = module_rules(keys.block, "params/body/{i}/rdb{j}/conv{k}")
    for source, target in (
        (keys.first, "conv_first"),
        (keys.trunk.format(blocks=sizes["blocks"]), "conv_body"),
        (keys.up1, "conv_up1"),
        (keys.up2, "conv_up2"),
        (keys.hr, "conv_hr"),
        (keys.last, "conv_last"),
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


def _srvgg_sizes(tensors: Tensors) -> Sizes | None:
    first, slopes = tensors.get("body.0.weight"), tensors.get("body.1.weight")
    if first is None or slopes is None or first.ndim != 4 or slopes.ndim != 1:
        return None
    # Convolutions at even places, slopes between them.
    last = count(tensors, "body.{i}.") - 1
    final = tensors.get(f"body.{last}.weight")
    if last < 2 or last % 2 or final is None or final.ndim != 4:
        return None
    scale = math.isqrt(final.shape[0] // 3)
    if final.shape[0] != 3 * scale**2:
        return None
    return {"scale": scale, "features": first.shape[0], "convs": last // 2 - 1}


def _srvgg_config(sizes: Sizes) -> ConfigDict:
    settings = {"form": "srvgg", "features": sizes["features"], "convs": sizes["convs"]}
    return config_of("esrgan", "generator", settings, scale=sizes["scale"], hr_size=128)


def _read_srvgg(config: ConfigDict) -> Sizes | None:
    net = make_generator(config)
    if not isinstance(net, SRVGGNetCompact):
        return None
    return {name: getattr(net, name) for name in ("scale", "features", "convs")}


def _srvgg_rules(sizes: Sizes) -> list[Rule]:
    rules = []
    for i in range(sizes["convs"] + 2):
        rules += module_rules(f"body.{2 * i}", f"params/conv_{i}")
        rules.append(Rule(f"body.{2 * i + 1}.weight", f"params/prelu_{i}/alpha"))
    return rules


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
    Layout(
        name="Real-ESRGAN SRVGGNetCompact",
        net="g",
        sizes=_srvgg_sizes,
        config=_srvgg_config,
        read=_read_srvgg,
        rules=_srvgg_rules,
        expected=_generator_shapes,
    ),
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
