"""Published weights of DF-GAN, both versions: the key layouts of its PyTorch project.

The CVPR version's checkpoints hold netG, netD and netC together. netD and netC are our net "d";
what `to_torch` writes of them is one flat file with the keys "netD.*" and "netC.*". A generator is
read alone or from such a checkpoint, and written alone. Discriminators have shortcut convolutions
that they never use, in published files: these are left out, and go back as zeros.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxgen.models.dfgan.discriminator import MOST, Discriminator
from jaxgen.models.dfgan.generator import widths
from jaxgen.models.dfgan.task import make_discriminator, make_generator
from jaxgen.nn.text import Text
from jaxgen.weights import Rule, Tree, module_rules
from jaxgen.weights.keymap import CONV, DENSE
from jaxgen.weights.layout import Layout, Sizes, Tensors, config_of, count

BLOCK = {"2022": "GBlocks.{i}", "2020": "block{i}"}
LAST = {"2022": "to_rgb.1", "2020": "conv_img.1"}
FEATURES = {"2022": ("netD.", "DBlocks.{i}"), "2020": ("", "block{i}")}
JUDGE = {"2022": "netC.joint_conv", "2020": "COND_DNET.joint_conv"}


# -------------------------------------------------------------------------------------- generator


def _generator_sizes(version: str, tensors: Tensors) -> Sizes | None:
    tensors = {key.removeprefix("netG."): value for key, value in tensors.items()}
    first, last = tensors.get("fc.weight"), tensors.get(f"{LAST[version]}.weight")
    # SSA-GAN's files are like the first version's, but for the affine maps.
    affine = tensors.get(f"{_affine(version, 0, 0, 0)}.fc_gamma.linear1.weight")
    if first is None or last is None or affine is None:
        return None
    if first.ndim != 2 or last.ndim != 4 or affine.ndim != 2:
        return None
    blocks = count(tensors, BLOCK[version] + ".c1.weight")
    z_size = first.shape[1]
    return {
        "size": 4 * 2 ** (blocks - (version == "2020")),
        "features": last.shape[1],
        "z_size": z_size,
        "text_width": affine.shape[1] - (0 if version == "2020" else z_size),
    }


def _generator_config(version: str, sizes: Sizes) -> ConfigDict:
    settings = {
        "features": sizes["features"],
        "z_size": sizes["z_size"],
        "block": "base",
        "sentence_first": False,
    }
    return _config(version, "generator", settings, sizes)


def _config(version: str, net: str, settings: dict, sizes: Sizes) -> ConfigDict:
    config = config_of("dfgan", net, settings, size=sizes["size"])
    config.model.version = version
    config.model.text = {"width": sizes["text_width"]}
    return config


def _read_generator(version: str, config: ConfigDict) -> Sizes | None:
    net = make_generator(config)
    if net.version != version or net.block != "base" or net.sentence_first:
        return None
    sizes = {name: getattr(net, name) for name in ("size", "features", "z_size")}
    return {**sizes, "text_width": config.model.text.width}


def _affine(version: str, block: int, fuse: int, i: int) -> str:
    name = BLOCK[version].format(i=block)
    if version == "2020":
        return f"{name}.affine{2 * fuse + i}"
    return f"{name}.fuse{fuse + 1}.affine{i}"


def _generator_rules(version: str, sizes: Sizes) -> list[Rule]:
    rules = module_rules("fc", "params/dense_in", DENSE)
    rules += module_rules(LAST[version], "params/conv_out")
    for i in range(len(widths(sizes["size"], 1)) - (version != "2020")):
        ours, theirs = f"params/block_{i}", BLOCK[version].format(i=i)
        rules += module_rules(f"{theirs}.c1", f"{ours}/conv_0")
        rules += module_rules(f"{theirs}.c2", f"{ours}/conv_1")
        rules += module_rules(f"{theirs}.c_sc", f"{ours}/shortcut")
        if version == "2020":
            rules.append(Rule(f"{theirs}.gamma", f"{ours}/gain"))
        for fuse, k, kind in itertools.product((0, 1), (0, 1), ("gamma", "beta")):
            mlp = f"{_affine(version, i, fuse, k)}.fc_{kind}"
            affine = f"{ours}/fuse_{fuse}_affine_{k}/{kind}"
            rules += module_rules(f"{mlp}.linear1", f"{affine}_hidden", DENSE)
            rules += module_rules(f"{mlp}.linear2", f"{affine}_out", DENSE)
    # In a checkpoint of all nets. Ours go back by the first rule that fits: without the prefix.
    whole = [Rule(f"netG.{rule.source}", rule.target, rule.transform) for rule in rules]
    return [*rules, *whole, Rule("netD.*", None), Rule("netC.*", None)]


def _generator_shapes(config: ConfigDict) -> Tree:
    net = make_generator(config)
    return jax.eval_shape(
        net.init,
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, *net.noise), "float32"),
        _text_shapes(config.model.text.width),
    )


def _text_shapes(width: int) -> Text:
    shape: Any = jax.ShapeDtypeStruct  # in the place of arrays
    return Text(
        words=shape((1, 1, width), "float32"),
        mask=shape((1, 1), "bool"),
        sentence=shape((1, width), "float32"),
    )


# ---------------------------------------------------------------------------------- discriminator


def _discriminator_sizes(version: str, tensors: Tensors) -> Sizes | None:
    prefix, block = FEATURES[version]
    first = tensors.get(f"{prefix}conv_img.weight")
    joined = tensors.get(f"{JUDGE[version]}.0.weight")
    if first is None or joined is None or first.ndim != 4 or joined.ndim != 4:
        return None
    size = 4 * 2 ** count(tensors, f"{prefix}{block}.conv_r.0.weight")
    features = first.shape[0]
    channels = widths(size, features, MOST[version])[-1]
    return {"size": size, "features": features, "text_width": joined.shape[1] - channels}


def _discriminator_config(version: str, sizes: Sizes) -> ConfigDict:
    settings = {"form": "own", "features": sizes["features"]}
    return _config(version, "discriminator", settings, sizes)


def _read_discriminator(version: str, config: ConfigDict) -> Sizes | None:
    net = make_discriminator(config)
    if not isinstance(net, Discriminator) or net.version != version:
        return None
    width = config.model.text.width
    return {"size": config.data.size, "features": net.features, "text_width": width}


def _discriminator_rules(version: str, sizes: Sizes) -> list[Rule]:
    prefix, block = FEATURES[version]
    rules = module_rules(f"{prefix}conv_img", "params/features/conv_in")
    channels = widths(sizes["size"], sizes["features"], MOST[version])
    for i, (before, after) in enumerate(itertools.pairwise(channels)):
        ours, theirs = f"params/features/block_{i}", f"{prefix}{block.format(i=i)}"
        rules.append(Rule(f"{theirs}.gamma", f"{ours}/gain"))
        for n in (0, 1):
            rules.append(Rule(f"{theirs}.conv_r.{2 * n}.weight", f"{ours}/conv_{n}/kernel", CONV))
        if before != after:
            rules += module_rules(f"{theirs}.conv_s", f"{ours}/shortcut")
        else:
            rules.append(Rule(f"{theirs}.conv_s.weight", None, zeros=(after, before, 1, 1)))
            rules.append(Rule(f"{theirs}.conv_s.bias", None, zeros=(after,)))
    rules.append(Rule(f"{JUDGE[version]}.0.weight", "params/judge/joined/kernel", CONV))
    rules.append(Rule(f"{JUDGE[version]}.2.weight", "params/judge/last", CONV))
    return [*rules, Rule("netG.*", None)] if prefix else rules


def _discriminator_shapes(config: ConfigDict) -> Tree:
    picture = jax.ShapeDtypeStruct((1, config.data.size, config.data.size, 3), "float32")
    sentence = _text_shapes(config.model.text.width).sentence
    return jax.eval_shape(
        make_discriminator(config).init, jax.random.key(0), picture, (sentence,)
    )  # fmt: skip


def _generator(version: str, name: str) -> Layout:
    return Layout(
        name=name,
        net="g",
        sizes=partial(_generator_sizes, version),
        config=partial(_generator_config, version),
        read=partial(_read_generator, version),
        rules=partial(_generator_rules, version),
        expected=_generator_shapes,
    )


def _discriminator(version: str, name: str) -> Layout:
    return Layout(
        name=name,
        net="d",
        sizes=partial(_discriminator_sizes, version),
        config=partial(_discriminator_config, version),
        read=partial(_read_discriminator, version),
        rules=partial(_discriminator_rules, version),
        expected=_discriminator_shapes,
    )


LAYOUTS = (
    _generator("2022", "DF-GAN generator"),
    _discriminator("2022", "DF-GAN discriminator"),
    _generator("2020", "DF-GAN 2020 generator"),
    _discriminator("2020", "DF-GAN 2020 discriminator"),
)
