"""Published weights of SSA-GAN's generator.

Its netD has the keys and shapes of DF-GAN's first version, whose layout reads it: the network is
the same one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.models.dfgan.generator import widths
from jaxgen.models.ssagan.generator import Generator
from jaxgen.models.ssagan.task import make_generator
from jaxgen.nn.text import Text
from jaxgen.weights import Rule, Tree, module_rules
from jaxgen.weights.keymap import DENSE
from jaxgen.weights.layout import NORM_COUNTS, Layout, Sizes, Tensors, config_of, count, norm_rules

SETTINGS = ("features", "z_size", "hidden", "mask_features")


def _sizes(tensors: Tensors) -> Sizes | None:
    names = ("fc", "conv_img.2", "conv_mask.0", "block0.affine0.fc_gamma.linear1")
    found = [tensors.get(f"{name}.weight") for name in names]
    first, last, mask, affine = found
    if first is None or last is None or mask is None or affine is None:
        return None
    if [tensor.ndim for tensor in (first, last, mask, affine)] != [2, 4, 4, 2]:
        return None
    blocks = count(tensors, "block{i}.c1.weight")
    return {
        "size": 4 * 2 ** (blocks - 1),
        "features": last.shape[1],
        "z_size": first.shape[1],
        "text_width": affine.shape[1],
        "hidden": affine.shape[0],
        "mask_features": mask.shape[0],
    }


def _config(sizes: Sizes) -> ConfigDict:
    settings = {name: sizes[name] for name in SETTINGS}
    settings["sentence_first"] = False
    config = config_of("ssagan", "generator", settings, size=sizes["size"])
    config.model.text = {"width": sizes["text_width"]}
    return config


def _read(config: ConfigDict) -> Sizes | None:
    net = make_generator(config)
    if net.sentence_first:
        return None
    settings = {name: getattr(net, name) for name in SETTINGS}
    return {"size": net.size, "text_width": config.model.text.width, **settings}


def _rules(sizes: Sizes) -> list[Rule]:
    rules = module_rules("fc", "params/dense_in", DENSE)
    rules += norm_rules("conv_img.0", "norm_out") + module_rules("conv_img.2", "params/conv_out")
    rules += _head("conv_mask", "mask_in")
    for i in range(len(widths(sizes["size"], 1))):
        theirs, ours = f"block{i}", f"block_{i}"
        rules.append(Rule(f"{theirs}.gamma", f"params/{ours}/gain"))
        rules += module_rules(f"{theirs}.c_sc", f"params/{ours}/shortcut")
        rules += _head(f"{theirs}.conv_mask", f"mask_{i}")
        for n in (0, 1):
            affine, norm = f"{theirs}.affine{2 * n}", f"{ours}/affine_{n}/norm"
            rules += module_rules(f"{theirs}.c{n + 1}", f"params/{ours}/conv_{n}")
            rules += norm_rules(f"{affine}.batch_norm2d", norm)[2:]
            for kind in ("gamma", "beta"):
                mlp, target = f"{affine}.fc_{kind}", f"params/{ours}/affine_{n}/{kind}"
                rules += module_rules(f"{mlp}.linear1", f"{target}_hidden", DENSE)
                rules += module_rules(f"{mlp}.linear2", f"{target}_out", DENSE)
    return [*rules, NORM_COUNTS]


def _head(source: str, target: str) -> list[Rule]:
    rules = module_rules(f"{source}.0", f"params/{target}/conv_in")
    rules += norm_rules(f"{source}.1", f"{target}/norm")
    return rules + module_rules(f"{source}.3", f"params/{target}/conv_out")


def _expected(config: ConfigDict) -> Tree:
    return generator_shapes(make_generator(config), config.model.text.width)


def generator_shapes(net: Generator, text_width: int) -> Tree:
    """The generator's variables as shapes, for sentences (b, text_width)."""

    def init() -> Tree:
        words = jnp.zeros((1, 1, text_width))
        text = Text(words=words, mask=jnp.ones((1, 1), bool), sentence=words[:, 0])
        return net.init(jax.random.key(0), jnp.zeros((1, *net.noise)), text)

    return jax.eval_shape(init)


LAYOUTS = (
    Layout(
        name="SSA-GAN generator",
        net="g",
        sizes=_sizes,
        config=_config,
        read=_read,
        rules=_rules,
        expected=_expected,
    ),
)
