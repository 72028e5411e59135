"""Published UNets of latent diffusion, both ways: diffusers' and CompVis's names.

Keys and shapes tell all but the number of attention's heads and the groups of the normalisation,
for which diffusers' `config.json` beside the file is read. Without one, a UNet with dense layers
around its transformers has heads of 64 (SD 2) and any other 8 heads (SD 1), and groups are 32.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import jax
from ml_collections import ConfigDict

from jaxgen.errors import NO_JSON, UserError
from jaxgen.models.ldm.compvis import to_compvis, to_diffusers
from jaxgen.models.ldm.condition import make_condition
from jaxgen.models.ldm.keymap import unet_rules
from jaxgen.models.ldm.networks import make_denoiser
from jaxgen.models.ldm.space import make_space
from jaxgen.models.ldm.unet import UNet, check
from jaxgen.tasks.common import make_module
from jaxgen.weights import Rule, Tree
from jaxgen.weights.layout import Layout, Sizes, Tensors, config_of, count

_NAMES = (
    "out", "channels", "blocks", "attention", "middle_attention", "depth", "heads", "head_width",
    "linear", "groups", "context",
)  # fmt: skip
# What follows from the other nets, where there are any.
_GIVEN = ("out", "context")
_ATTENTION = "attentions.0.transformer_blocks"


def _sizes(tensors: Tensors) -> Sizes | None:
    first, last = tensors.get("conv_in.weight"), tensors.get("conv_out.weight")
    levels = count(tensors, "down_blocks.{i}.resnets.0.conv1.weight")
    if (
        first is None
        or last is None
        or not levels
        or "time_embedding.linear_1.weight" not in tensors
    ):
        return None
    # Twice as many: InstructPix2Pix, which sees the picture's latent beside x.
    if first.shape[1] not in (last.shape[0], 2 * last.shape[0]):
        raise UserError(
            f"a UNet that takes {first.shape[1]} channels and gives {last.shape[0]} (an inpainting "
            "model): such are not read; take the model without it, which inpaints by a mask"
        )
    attention = tuple(
        i for i in range(levels) if f"down_blocks.{i}.{_ATTENTION}.0.attn1.to_q.weight" in tensors
    )
    middle = f"mid_block.{_ATTENTION}.0.attn1.to_q.weight" in tensors
    where = "mid_block" if middle else f"down_blocks.{attention[0]}" if attention else ""
    linear, depth, context = False, 1, 0
    if where:
        linear = tensors[f"{where}.attentions.0.proj_in.weight"].ndim == 2
        depth = count(tensors, f"{where}.{_ATTENTION}.{{i}}.")
        to_k = tensors.get(f"{where}.{_ATTENTION}.0.attn2.to_k.weight")
        context = 0 if to_k is None else to_k.shape[1]
    return {
        "out": last.shape[0],
        "channels": tuple(
            tensors[f"down_blocks.{i}.resnets.0.conv1.weight"].shape[0] for i in range(levels)
        ),
        "blocks": count(tensors, "down_blocks.0.resnets.{i}.conv1.weight"),
        "attention": attention,
        "middle_attention": middle,
        "depth": depth,
        "heads": 8,
        "head_width": 64 if linear else 0,
        "linear": linear,
        "groups": 32,
        "context": context,
        **({"instruct": True} if first.shape[1] == 2 * last.shape[0] else {}),
    }


def _beside(path: Path, sizes: Sizes) -> Sizes:
    """With what diffusers' config in the same folder says of heads and groups."""
    about = path.parent / "config.json"
    if not about.is_file():
        return sizes
    try:
        said = json.loads(about.read_text())
        if "UNet2DConditionModel" not in str(said.get("_class_name", "")):
            return sizes
        # It calls the number of heads their dimension.
        heads = said.get("num_attention_heads") or said.get("attention_head_dim") or 8
        groups = int(said.get("norm_num_groups") or 32)
        each = [int(n) for n in heads] if isinstance(heads, list) else [int(heads)]
    except (*NO_JSON, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{about} is no config of a UNet ({error}); mend it or move it") from None
    if len(set(each)) == 1:
        return {**sizes, "heads": each[0], "head_width": 0, "groups": groups}
    widths = {c // n for c, n in zip(sizes["channels"], each, strict=False)}
    if len(widths) != 1 or len(each) != len(sizes["channels"]):
        raise UserError(
            f"{about}: heads {each} of channels {list(sizes['channels'])} are neither of one "
            "number nor of one width"
        )
    return {**sizes, "heads": 8, "head_width": widths.pop(), "groups": groups}


def _config(sizes: Sizes) -> ConfigDict:
    settings = {name: sizes[name] for name in _NAMES if name not in _GIVEN}
    alike = {"patch": 1, "dropout": 0.0, "remat": False}
    config = config_of("ldm", "denoiser", {"form": "unet", **settings, **alike})
    config.model.condition = "text" if sizes["context"] else "none"
    if sizes.get("instruct"):
        config.model.instruct = True
    config.model.given = {name: sizes[name] for name in _GIVEN}
    return config


def unet_of(config: ConfigDict) -> UNet:
    """The UNet of a config: of converted weights alone, or with its parts filled in."""
    if "given" not in config.model:
        net: UNet = make_denoiser(config, make_space(config), make_condition(config))
        return net
    settings = config.model.denoiser.to_dict()
    settings.pop("form")
    alone: UNet = make_module(UNet, "denoiser", config, **settings, **config.model.given.to_dict())
    check(alone, "model.denoiser")
    return alone


def _read(config: ConfigDict) -> Sizes | None:
    if config.model.denoiser.form != "unet":
        return None
    net = unet_of(config)
    if net.classes or net.pooled or net.patch != 1:
        return None
    sizes = {name: getattr(net, name) for name in _NAMES}
    return {**sizes, "instruct": True} if config.model.get("instruct", False) else sizes


def _rules(sizes: Sizes) -> list[Rule]:
    return unet_rules(sizes["linear"])


def _expected(config: ConfigDict) -> Tree:
    net = unet_of(config)
    side = 2 ** len(net.channels)
    seen = net.out * (2 if config.model.get("instruct", False) else 1)
    arrays = [jax.ShapeDtypeStruct((1, side, side, seen), "float32")]
    arrays.append(jax.ShapeDtypeStruct((1,), "float32"))
    if net.context:
        arrays.append(jax.ShapeDtypeStruct((1, 2, net.context), "float32"))
    return jax.eval_shape(net.init, jax.random.key(0), *arrays)


_unet = partial(
    Layout, net="g", sizes=_sizes, config=_config, read=_read, rules=_rules, expected=_expected
)
DIFFUSERS = _unet(name="diffusers UNet2DConditionModel", beside=_beside)
COMPVIS = _unet(name="CompVis UNet", join=to_diffusers, part=to_compvis)
