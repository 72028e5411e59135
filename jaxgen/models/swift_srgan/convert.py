"""Swift-SRGAN's published weights: the original repository's keys, generator and discriminator."""

from __future__ import annotations

from ml_collections import ConfigDict

from jaxgen.models.swift_srgan.task import make_discriminator, make_generator
from jaxgen.weights import CONV, DENSE, Rule, dense_after_flatten, module_rules
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


def _separable(source: str, target: str) -> list[Rule]:
    return [
        rule
        for part in ("depthwise", "pointwise")
        for rule in module_rules(f"{source}.{part}", f"params/{target}_conv/{part}", CONV)
    ]


def _block(source: str, target: str) -> list[Rule]:
    """A separable convolution, BatchNorm and the slopes of the original's ConvBlock."""
    return [
        *_separable(f"{source}.cnn", target),
        *norm_rules(f"{source}.bn", f"{target}_norm"),
        Rule(f"{source}.act.weight", f"params/{target}_prelu/alpha"),
    ]


_GENERATOR = (
    NORM_COUNTS,
    *_block("initial", "in"),
    *_block("residual.{i}.block1", "block_{i}_0"),
    *_block("residual.{i}.block2", "block_{i}_1"),
    *_block("convblock", "trunk"),
    *_separable("upsampler.{i}.conv", "up_{i}"),
    Rule("upsampler.{i}.act.weight", "params/up_{i}_prelu/alpha"),
    *_separable("final_conv", "out"),
)


def _generator_sizes(tensors: Tensors) -> Sizes | None:
    slopes = tensors.get("initial.act.weight")
    first = tensors.get("initial.cnn.depthwise.weight")
    if slopes is None or first is None or first.ndim != 4:
        return None
    return {
        "features": slopes.size,
        "blocks": count(tensors, "residual.{i}."),
        "edge_kernel": first.shape[2],
        # One up-stage doubles. The original's "x8" has four, and is converted as the x16 it is.
        "scale": 2 ** count(tensors, "upsampler.{i}."),
    }


def _generator_config(sizes: Sizes) -> ConfigDict:
    sizes = dict(sizes)
    scale = sizes.pop("scale")
    settings = {**sizes, "norm": True, "skip": False}
    return config_of("swift_srgan", "generator", settings, scale=scale)


def _read_generator(config: ConfigDict) -> Sizes | None:
    generator = make_generator(config)
    if not generator.norm or generator.skip:
        return None
    names = ("scale", "features", "blocks", "edge_kernel")
    return {name: getattr(generator, name) for name in names}


def _discriminator_sizes(tensors: Tensors) -> Sizes | None:
    first = tensors.get("blocks.0.cnn.pointwise.weight")
    dense = tensors.get("classifier.2.weight")
    if first is None or dense is None or dense.ndim != 2:
        return None
    features, (hidden, inputs) = first.shape[0], dense.shape
    pool = round((inputs / (8 * features)) ** 0.5)
    return {"features": features, "hidden": hidden, "pool": pool}


def _discriminator_config(sizes: Sizes) -> ConfigDict:
    return config_of("swift_srgan", "discriminator", sizes, scale=4)


def _read_discriminator(config: ConfigDict) -> Sizes:
    discriminator = make_discriminator(config)
    return {name: getattr(discriminator, name) for name in ("features", "hidden", "pool")}


def _discriminator_rules(sizes: Sizes) -> list[Rule]:
    flat = dense_after_flatten(sizes["pool"], sizes["pool"], 8 * sizes["features"])
    return [
        NORM_COUNTS,
        *_block("blocks.{i}", "block_{i}"),
        *module_rules("classifier.2", "params/dense_0", flat),
        *module_rules("classifier.4", "params/dense_1", DENSE),
    ]


LAYOUTS = (
    Layout(
        name="Swift-SRGAN generator",
        net="g",
        sizes=_generator_sizes,
        config=_generator_config,
        read=_read_generator,
        rules=lambda sizes: _GENERATOR,
        expected=lambda config: shapes_of(make_generator(config)),
    ),
    Layout(
        name="Swift-SRGAN discriminator",
        net="d",
        sizes=_discriminator_sizes,
        config=_discriminator_config,
        read=_read_discriminator,
        rules=_discriminator_rules,
        expected=lambda config: shapes_of(make_discriminator(config), 32),
    ),
)
