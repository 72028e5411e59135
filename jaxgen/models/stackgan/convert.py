"""StackGAN's published weights: StackGAN-PyTorch's keys, both stages.

A published stage II generator holds stage I's, too, under "STAGE1_G.". Here these are two nets, g2
and g: the file is read once for each, with the layout named.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.models.stackgan.discriminator import layers
from jaxgen.models.stackgan.task import (
    make_discriminator,
    make_first,
    make_second,
    stage_config,
    stages,
)
from jaxgen.nn.text import Text
from jaxgen.weights import CONV, DENSE, Rule, Tree, module_rules
from jaxgen.weights.keymap import Transform
from jaxgen.weights.layout import NORM_COUNTS, Layout, Sizes, Tensors, config_of, count, norm_rules

WITHIN = "STAGE1_G."
# Stage II's own parts, where stage I's are read from its file.
_NOT_WITHIN = tuple(
    Rule(f"{part}*", None)
    for part in ("ca_net", "encoder", "hr_joint", "residual", "upsample", "img")
)


def _conv(source: str, target: str) -> Rule:
    return Rule(f"{source}.weight", f"params/{target}/kernel", CONV)


def _unit(sequence: str, index: int, target: str) -> list[Rule]:
    """A convolution at `index` of a sequence and the BatchNorm that follows it."""
    return [
        _conv(f"{sequence}.{index}", target),
        *norm_rules(f"{sequence}.{index + 1}", f"{target}_norm"),
    ]


# --------------------------------------------------------------------------------------- stage I


def _first_sizes(prefix: str, tensors: Tensors) -> Sizes | None:
    tensors = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    dense, augment = tensors.get("fc.0.weight"), tensors.get("ca_net.fc.weight")
    if dense is None or augment is None or "upsample1.1.weight" not in tensors:
        return None
    (units, inputs), (twice, text) = dense.shape, augment.shape
    ups = count(tensors, "upsample{i}.") - 1  # they are numbered from 1
    return {
        "size": 2 ** (ups + 2),
        "features": units // 16 // 2 ** (ups - 1),
        "z": inputs - twice // 2,
        "condition": twice // 2,
        "text": text,
    }


def _config(stage: int, settings: dict[str, Any], text: int, **values: Any) -> ConfigDict:
    """A config that holds what the nets of one stage depend on."""
    config = config_of("stackgan", "generator", settings, size=values.pop("size"))
    config.model.update({"form": "pytorch", "stages": (stage,), "factor": 4, "loss": {}, **values})
    config.model.text = {"width": text}
    return config


def _first_config(sizes: Sizes) -> ConfigDict:
    settings = {name: sizes[name] for name in ("features", "z", "condition")}
    return _config(1, settings, sizes["text"], size=sizes["size"])


def _read_first(config: ConfigDict) -> Sizes | None:
    if config.model.form != "pytorch" or "z" not in config.model.generator:
        return None
    net = make_first(config)
    names = ("size", "features", "z", "condition")
    return {**{name: getattr(net, name) for name in names}, "text": config.model.text.width}


def _first_rules(prefix: str, sizes: Sizes) -> list[Rule]:
    channels = sizes["features"] * sizes["size"] // 8
    unit = _by_place(channels)
    rules = [
        *module_rules("ca_net.fc", "params/ca_net/fc", DENSE),
        Rule("fc.0.weight", "params/first/kernel", _dense_to_places(channels)),
        *(Rule(rule.source, rule.target, unit) for rule in norm_rules("fc.1", "first_norm")),
        _conv("upsample{i}.1", "up_{i}"),
        *norm_rules("upsample{i}.2", "up_{i}_norm"),
        _conv("img.0", "image"),
    ]
    rules = [Rule(prefix + rule.source, rule.target, rule.transform) for rule in rules]
    return [NORM_COUNTS, *rules, *(_NOT_WITHIN if prefix else ())]


def _by_place(channels: int) -> Transform:
    """A vector over a 4 x 4 map: PyTorch's order is (c, h, w), ours (h, w, c)."""
    return Transform(
        lambda a: a.reshape(channels, 16).T.reshape(-1),
        lambda a: a.reshape(16, channels).T.reshape(-1),
        ndim=1,
    )


def _dense_to_places(channels: int) -> Transform:
    """The weight of a dense layer whose output is a 4 x 4 map."""
    return Transform(
        lambda a: a.reshape(channels, 16, -1).transpose(2, 1, 0).reshape(-1, 16 * channels),
        lambda a: a.reshape(-1, 16, channels).transpose(2, 1, 0).reshape(16 * channels, -1),
        ndim=2,
    )


def _text(width: int) -> Text:
    """A text's features as shapes, enough for `jax.eval_shape`."""
    make = lambda: Text(  # noqa: E731
        words=jnp.zeros((2, 1, width)),
        mask=jnp.ones((2, 1), bool),
        sentence=jnp.zeros((2, width)),
    )
    return jax.eval_shape(make)


def _shape(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _first_expected(config: ConfigDict) -> Tree:
    net = make_first(config)
    text = _text(config.model.text.width)
    return jax.eval_shape(net.init, jax.random.key(0), _shape(2, *net.noise), text)


# -------------------------------------------------------------------------------------- stage II


def _second_sizes(tensors: Tensors) -> Sizes | None:
    first, augment = tensors.get("encoder.0.weight"), tensors.get("ca_net.fc.weight")
    if first is None or augment is None or "hr_joint.0.weight" not in tensors:
        return None
    return {
        "factor": 2 ** (count(tensors, "upsample{i}.") - 3),
        "features": first.shape[0],
        "blocks": count(tensors, "residual.{i}."),
        "condition": augment.shape[0] // 2,
        "text": augment.shape[1],
    }


def _second_config(sizes: Sizes) -> ConfigDict:
    own = {name: sizes[name] for name in ("features", "blocks")}
    # Stage I's noise, which this network's weights do not depend on, as published.
    settings = {"z": 100, "condition": sizes["condition"]}
    return _config(
        2, settings, sizes["text"], size=64 * sizes["factor"], factor=sizes["factor"],
        stage2={"generator": own, "discriminator": {}, "loss": {}},
    )  # fmt: skip


def _read_second(config: ConfigDict) -> Sizes | None:
    if config.model.form != "pytorch" or 2 not in stages(config):
        return None
    net = make_second(config)
    names = ("factor", "features", "blocks", "condition")
    return {**{name: getattr(net, name) for name in names}, "text": config.model.text.width}


_SECOND = (
    NORM_COUNTS,
    Rule(f"{WITHIN}*", None),
    *module_rules("ca_net.fc", "params/ca_net/fc", DENSE),
    _conv("encoder.0", "encoder_0"),
    *_unit("encoder", 2, "encoder_1"),
    *_unit("encoder", 5, "encoder_2"),
    *_unit("hr_joint", 0, "joint"),
    *_unit("residual.{i}.block", 0, "block_{i}_0"),
    *_unit("residual.{i}.block", 3, "block_{i}_1"),
    _conv("upsample{i}.1", "up_{i}"),
    *norm_rules("upsample{i}.2", "up_{i}_norm"),
    _conv("img.0", "image"),
)


def _second_expected(config: ConfigDict) -> Tree:
    net, text = make_second(config), _text(config.model.text.width)
    side = config.data.size // config.model.factor
    low = _shape(2, side, side, 3)
    return jax.eval_shape(net.init, jax.random.key(0), _shape(2, *net.noise), low, text)


# -------------------------------------------------------------------------------- discriminators


def _judge_sizes(stage: int, tensors: Tensors) -> Sizes | None:
    first = tensors.get("encode_img.0.weight")
    joint, norm = (
        tensors.get(f"get_cond_logits.outlogits.{key}") for key in ("0.weight", "1.bias")
    )
    if first is None or joint is None or norm is None:
        return None
    if ("get_uncond_logits.outlogits.0.weight" in tensors) != (stage == 2):
        return None
    # Index 0 is a strided convolution, then 2, 5, 8, ...: those that are 4x4, and then 3x3.
    strided = [
        k for k in tensors
        if re.fullmatch(r"encode_img\.\d+\.weight", k) and tensors[k].shape[2:] == (4, 4)
    ]  # fmt: skip
    return {
        "size": 2 ** (len(strided) + 2),
        "features": first.shape[0],
        "condition": joint.shape[1] - norm.shape[0],
    }


def _judge_config(stage: int, sizes: Sizes) -> ConfigDict:
    own = {"form": "own", "features": sizes["features"]}
    settings = {"z": 100, "condition": sizes["condition"]}
    values: dict[str, Any] = {"discriminator": own}
    if stage == 2:
        values = {"stage2": {"generator": {}, "discriminator": own, "loss": {}}}
    return _config(stage, settings, 1, size=sizes["size"], **values)


def _read_judge(stage: int, config: ConfigDict) -> Sizes | None:
    if config.model.form != "pytorch" or (stage == 2 and 2 not in stages(config)):
        return None
    view = stage_config(config, stage)
    if view.model.get("discriminator", {}).get("form", "") != "own":
        return None
    net = make_discriminator(config, stage)
    condition = config.model.generator.condition
    return {"size": net.size, "features": net.features, "condition": condition}


def _judge_rules(stage: int, sizes: Sizes) -> list[Rule]:
    downs, narrows = layers(sizes["size"])
    names = [f"down_{i}" for i in range(1, downs)] + [f"narrow_{i}" for i in range(narrows)]
    rules = [NORM_COUNTS, _conv("encode_img.0", "down_0")]
    for i, name in enumerate(names):
        rules += _unit("encode_img", 2 + 3 * i, name)
    rules += _unit("get_cond_logits.outlogits", 0, "joint")
    rules += module_rules("get_cond_logits.outlogits.3", "params/pair")
    if stage == 2:
        rules += module_rules("get_uncond_logits.outlogits.0", "params/image")
    return rules


def _judge_expected(stage: int, config: ConfigDict) -> Tree:
    net = make_discriminator(config, stage)
    picture = _shape(2, net.size, net.size, 3)
    sentences = (_shape(2, config.model.generator.condition),)
    return jax.eval_shape(net.init, jax.random.key(0), picture, sentences)


def _first_layout(name: str, prefix: str) -> Layout:
    return Layout(
        name=name,
        net="g",
        sizes=partial(_first_sizes, prefix),
        config=_first_config,
        read=_read_first,
        rules=partial(_first_rules, prefix),
        expected=_first_expected,
    )


def _judge_layout(name: str, stage: int, net: str) -> Layout:
    return Layout(
        name=name,
        net=net,
        sizes=partial(_judge_sizes, stage),
        config=partial(_judge_config, stage),
        read=partial(_read_judge, stage),
        rules=partial(_judge_rules, stage),
        expected=partial(_judge_expected, stage),
    )


LAYOUTS = (
    _first_layout("StackGAN-PyTorch stage I generator", ""),
    _first_layout("StackGAN-PyTorch stage I generator within stage II", WITHIN),
    Layout(
        name="StackGAN-PyTorch stage II generator",
        net="g2",
        sizes=_second_sizes,
        config=_second_config,
        read=_read_second,
        rules=lambda sizes: _SECOND,
        expected=_second_expected,
    ),
    _judge_layout("StackGAN-PyTorch stage I discriminator", 1, "d"),
    _judge_layout("StackGAN-PyTorch stage II discriminator", 2, "d2"),
)
