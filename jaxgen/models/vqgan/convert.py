"""Published weights of VQGAN: the keys of taming-transformers' checkpoints.

A checkpoint holds the autoencoder (our net "g"), the discriminator (`loss.discriminator.*`, our net
"d"), LPIPS and its trunk (`loss.perceptual_loss.*`, left out), and the subset of the codes that the
training data use (`quantize.used`, left out).

MaskGIT's tokenizer has the paths of its Flax checkpoint's "params" (encoder/Conv_0/kernel), in one
.npz; its layouts are ours already.
"""

from __future__ import annotations

import jax
from ml_collections import ConfigDict

from jaxgen.models.vqgan.networks import Autoencoder
from jaxgen.models.vqgan.task import make_autoencoder
from jaxgen.nn.autoencoder_keys import halves_rules
from jaxgen.tasks.autoencoder.task import make_discriminator
from jaxgen.weights import Rule, Tree, module_rules
from jaxgen.weights.keymap import CONV, Transform
from jaxgen.weights.layout import (
    NORM_COUNTS,
    Layout,
    Sizes,
    Tensors,
    config_of,
    count,
    norm_rules,
)

# Key of the codebook -> its form.
CODEBOOKS = {"quantize.embedding.weight": "vq", "quantize.embed.weight": "gumbel"}
_D = "loss.discriminator.main"
# A 1x1 convolution (out, in, 1, 1) <-> a dense layer (in, out).
_POINTWISE = Transform(lambda a: a[..., 0, 0].T, lambda a: a.T[..., None, None], ndim=4)
# Of every such network.
_OURS = {"groups": 32, "epsilon": 1e-6, "middle_attention": True, "patch": 1}


# ------------------------------------------------------------------------------------ autoencoder


def _sizes(tensors: Tensors) -> Sizes | None:
    first, into = tensors.get("encoder.conv_in.weight"), tensors.get("quant_conv.weight")
    found = [(key, form) for key, form in CODEBOOKS.items() if key in tensors]
    levels = count(tensors, "encoder.down.{i}.block.0.conv1.weight")
    if first is None or into is None or not found or first.ndim != 4 or into.ndim != 4:
        return None
    features, channels = first.shape[:2]
    widths = tuple(
        tensors[f"encoder.down.{i}.block.0.conv1.weight"].shape[0] // features
        for i in range(levels)
    )
    return {
        "form": found[0][1],
        "codes": tensors[found[0][0]].shape[0],
        "width": into.shape[0],
        "latent": into.shape[1],
        "channels": channels,
        "features": features,
        "widths": widths,
        "blocks": count(tensors, "encoder.down.0.block.{i}.conv1.weight"),
        "attention": tuple(
            i for i in range(levels) if f"encoder.down.{i}.attn.0.q.weight" in tensors
        ),
    }


def _config(sizes: Sizes) -> ConfigDict:
    names = ("features", "widths", "blocks", "attention", "latent")
    settings = {"form": "taming", **{name: sizes[name] for name in names}}
    config = config_of("vqgan", "autoencoder", settings)
    config.model.quantize = {name: sizes[name] for name in ("form", "codes", "width")}
    config.model.channels = sizes["channels"]
    return config


def _read(config: ConfigDict) -> Sizes | None:
    chosen = config.model.quantize
    net = make_autoencoder(config)
    if config.model.autoencoder.form != "taming":
        return None
    same = all(getattr(net.encoder, name) == value for name, value in _OURS.items())
    projected = chosen.get("dim", 0) not in (0, chosen.width)
    if not same or projected or chosen.form not in CODEBOOKS.values():
        return None
    names = ("features", "widths", "blocks", "attention", "latent")
    return {
        "form": chosen.form,
        "codes": chosen.codes,
        "width": chosen.width,
        "channels": config.model.channels,
        **{name: getattr(net.encoder, name) for name in names},
    }


def autoencoder_rules(sizes: Sizes) -> list[Rule]:
    """The key map of an autoencoder of taming-transformers."""
    rules = halves_rules()
    if sizes["form"] == "gumbel":
        rules += module_rules("quantize.proj", "params/quantize/proj", _POINTWISE)
        rules.append(Rule("quantize.embed.weight", "params/quantize/embedding"))
    else:
        rules.append(Rule("quantize.embedding.weight", "params/quantize/embedding"))
    return [*rules, Rule("quantize.used", None), Rule("loss.*", None)]


def _expected(config: ConfigDict) -> Tree:
    net: Autoencoder = make_autoencoder(config)
    side = 2 ** len(net.encoder.widths)
    picture = jax.ShapeDtypeStruct((1, side, side, config.model.channels), "float32")
    rngs = {"params": jax.random.key(0), "quantize": jax.random.key(0)}
    return jax.eval_shape(net.init, rngs, picture)


# ---------------------------------------------------------------------------------- discriminator


def _d_sizes(tensors: Tensors) -> Sizes | None:
    first = tensors.get(f"{_D}.0.weight")
    if first is None or first.ndim != 4:
        return None
    layers = count(tensors, f"{_D}.{{i}}.running_mean") // 3  # the last is at 3 * layers
    return {"features": first.shape[0], "layers": layers, "channels": first.shape[1]}


def _d_config(sizes: Sizes) -> ConfigDict:
    settings = {name: sizes[name] for name in ("features", "layers")}
    config = config_of("vqgan", "discriminator", settings)
    config.model.update(channels=sizes["channels"], gan_start=0)
    return config


def _d_read(config: ConfigDict) -> Sizes | None:
    net = make_discriminator(config)
    if net is None:
        return None
    return {"features": net.features, "layers": net.layers, "channels": config.model.channels}


def _d_rules(sizes: Sizes) -> list[Rule]:
    layers = sizes["layers"]
    rules = module_rules(f"{_D}.0", "params/conv_0")
    for i in range(1, layers + 1):
        rules.append(Rule(f"{_D}.{3 * i - 1}.weight", f"params/conv_{i}/kernel", CONV))
        rules += norm_rules(f"{_D}.{3 * i}", f"norm_{i}")
    rules += module_rules(f"{_D}.{3 * layers + 2}", "params/conv_out")
    others = ("encoder.*", "decoder.*", "quantize.*", "quant_conv.*", "post_quant_conv.*")
    dropped = (*others, "loss.perceptual_loss.*")
    return [*rules, NORM_COUNTS, *(Rule(name, None) for name in dropped)]


def _d_expected(config: ConfigDict) -> Tree:
    picture = jax.ShapeDtypeStruct((1, 64, 64, config.model.channels), "float32")
    net = make_discriminator(config)
    assert net is not None  # `_d_config` has a GAN
    return jax.eval_shape(net.init, jax.random.key(0), picture)


# ---------------------------------------------------------------------------------------- MaskGIT


def _maskgit_sizes(tensors: Tensors) -> Sizes | None:
    first, codebook = tensors.get("encoder/Conv_0/kernel"), tensors.get("quantizer/codebook")
    if first is None or codebook is None or first.ndim != 4 or codebook.ndim != 2:
        return None
    # Between two levels the decoder has a convolution, besides the first and the last.
    levels = count(tensors, "decoder/Conv_{i}/kernel") - 1
    blocks = count(tensors, "encoder/ResBlock_{i}/Conv_0/kernel") // (levels + 1)
    features = first.shape[3]
    widths = tuple(
        tensors[f"encoder/ResBlock_{i * blocks}/Conv_0/kernel"].shape[3] // features
        for i in range(levels)
    )
    return {
        "codes": codebook.shape[0],
        "latent": codebook.shape[1],
        "channels": first.shape[2],
        "features": features,
        "widths": widths,
        "blocks": blocks,
    }


_MASKGIT = ("features", "widths", "blocks", "latent")


def _maskgit_config(sizes: Sizes) -> ConfigDict:
    settings = {"form": "maskgit", **{name: sizes[name] for name in _MASKGIT}}
    config = config_of("vqgan", "autoencoder", settings)
    config.model.quantize = {"form": "vq", "codes": sizes["codes"], "width": sizes["latent"]}
    config.model.channels = sizes["channels"]
    return config


def _maskgit_read(config: ConfigDict) -> Sizes | None:
    chosen = config.model.quantize
    if config.model.autoencoder.form != "maskgit" or chosen.form != "vq":
        return None
    encoder = make_autoencoder(config).encoder
    if encoder.groups != 32 or encoder.epsilon != 1e-6 or chosen.get("dim", 0):
        return None
    own = {name: getattr(encoder, name) for name in _MASKGIT}
    return {"codes": chosen.codes, "channels": config.model.channels, **own}


def _maskgit_rules(sizes: Sizes) -> list[Rule]:
    levels = len(sizes["widths"])
    ups = {f"Conv_{i + 1}": f"up_{i}" for i in range(levels - 1)}
    names = {
        "encoder": {"Conv_0": "conv_in", "Conv_1": "conv_out"},
        "decoder": {"Conv_0": "conv_in", **ups, f"Conv_{levels}": "conv_out"},
    }
    rules = [Rule("quantizer/codebook", "params/quantize/embedding")]
    for half, convs in names.items():
        layers = {**convs, "GroupNorm_0": "norm_out"}
        layers |= {f"ResBlock_{{i}}/Conv_{k}": f"block_{{i}}/conv_{k}" for k in (0, 1)}
        layers |= {f"ResBlock_{{i}}/GroupNorm_{k}": f"block_{{i}}/norm_{k}" for k in (0, 1)}
        layers["ResBlock_{i}/Conv_2"] = "block_{i}/shortcut"
        for theirs, ours in layers.items():
            for leaf in ("scale", "bias") if "Norm" in theirs else ("kernel", "bias"):
                rules.append(Rule(f"{half}/{theirs}/{leaf}", f"params/{half}/{ours}/{leaf}"))
    return rules


TAMING = Layout(
    name="taming VQGAN",
    net="g",
    sizes=_sizes,
    config=_config,
    read=_read,
    rules=autoencoder_rules,
    expected=_expected,
)
LAYOUTS = (
    TAMING,
    Layout(
        name="taming VQGAN discriminator",
        net="d",
        sizes=_d_sizes,
        config=_d_config,
        read=_d_read,
        rules=_d_rules,
        expected=_d_expected,
    ),
    Layout(
        name="MaskGIT tokenizer",
        net="g",
        sizes=_maskgit_sizes,
        config=_maskgit_config,
        read=_maskgit_read,
        rules=_maskgit_rules,
        expected=_expected,
    ),
)
