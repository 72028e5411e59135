"""Published weights of the KL autoencoder: CompVis's names, and diffusers' AutoencoderKL.

CompVis's are those of taming-transformers without a codebook. diffusers' become these by other
names; its attention has dense layers where CompVis has 1x1 convolutions, and older files call them
query, key, value and proj_attn. Neither says what latents are multiplied by: diffusers'
`config.json` beside the file does (`scaling_factor`), else Stable Diffusion's 0.18215 is taken.
"""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxgen.errors import NO_JSON, UserError
from jaxgen.models.vae.task import make_vae
from jaxgen.nn.autoencoder_keys import halves_rules
from jaxgen.weights import Rule, Tree
from jaxgen.weights.layout import Layout, Sizes, Tensors, config_of, count

SCALING = 0.18215  # of Stable Diffusion 1 and 2
# Of every such network.
_OURS = {"groups": 32, "epsilon": 1e-6, "middle_attention": True, "patch": 1}
_NAMES = ("features", "widths", "blocks", "attention")
# Parts of a key: diffusers' and CompVis's.
_PARTS = (
    ("mid_block.resnets.0", "mid.block_1"),
    ("mid_block.resnets.1", "mid.block_2"),
    ("mid_block.attentions.0", "mid.attn_1"),
    ("downsamplers.0", "downsample"),
    ("upsamplers.0", "upsample"),
    ("conv_shortcut", "nin_shortcut"),
    ("conv_norm_out", "norm_out"),
)
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OLDER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_LEVEL = re.compile(r"(encoder|decoder)\.(down|up)_blocks\.(\d+)\.(?:resnets\.)?(.+)")
_OWN_LEVEL = re.compile(r"(encoder|decoder)\.(down|up)\.(\d+)\.(.+)")


def join_diffusers(tensors: Tensors) -> dict[str, np.ndarray]:
    """diffusers' keys -> CompVis's; {} of a file of another form."""
    levels, result = count(tensors, "decoder.up_blocks.{i}."), {}
    if not levels:
        return {}
    for key, value in tensors.items():
        new = key
        for theirs, ours in _PARTS:
            new = new.replace(theirs, ours)
        if (found := _LEVEL.fullmatch(new)) is not None:
            half, way, i, rest = found.groups()
            # Up, CompVis counts its levels as it does on the way down.
            level = int(i) if way == "down" else levels - 1 - int(i)
            rest = re.sub(r"^(\d+)\.", r"block.\1.", rest)
            new = f"{half}.{way}.{level}.{rest}"
        if ".mid.attn_1." in new:
            new = _renamed(new, _OLDER)
            new = _renamed(new, _ATTENTION)
            if value.ndim == 2:
                value = value[..., None, None]
        result[new] = value
    return result


def part_diffusers(tensors: Tensors) -> dict[str, np.ndarray]:
    """The inverse of `join_diffusers`."""
    levels, result = count(tensors, "decoder.up.{i}."), {}
    for key, value in tensors.items():
        new = key
        if ".mid.attn_1." in new:
            new = _renamed(new, {ours: theirs for theirs, ours in _ATTENTION.items()})
            if value.ndim == 4:
                value = value[..., 0, 0]
        if (found := _OWN_LEVEL.fullmatch(new)) is not None:
            half, way, i, rest = found.groups()
            level = int(i) if way == "down" else levels - 1 - int(i)
            rest = re.sub(r"^block\.", "resnets.", rest)
            new = f"{half}.{way}_blocks.{level}.{rest}"
        for theirs, ours in _PARTS:
            new = new.replace(ours, theirs)
        result[new] = value
    return result


def _renamed(key: str, names: dict[str, str]) -> str:
    """A key of an attention with its layer's name changed."""
    head, layer = key.split(".mid.attn_1.")
    name, _, leaf = layer.rpartition(".")
    return f"{head}.mid.attn_1.{names.get(name, name)}.{leaf}"


def _sizes(tensors: Tensors) -> Sizes | None:
    first, into = tensors.get("encoder.conv_in.weight"), tensors.get("quant_conv.weight")
    after = tensors.get("post_quant_conv.weight")
    if first is None or into is None or after is None or any("quantize." in k for k in tensors):
        return None
    features, channels = first.shape[:2]
    levels = count(tensors, "encoder.down.{i}.block.0.conv1.weight")
    if not levels:
        return None
    return {
        "channels": channels,
        "features": features,
        "widths": tuple(
            tensors[f"encoder.down.{i}.block.0.conv1.weight"].shape[0] // features
            for i in range(levels)
        ),
        "blocks": count(tensors, "encoder.down.0.block.{i}.conv1.weight"),
        "attention": tuple(
            i for i in range(levels) if f"encoder.down.{i}.attn.0.q.weight" in tensors
        ),
        "latent": after.shape[0],
        "scaling": SCALING,
    }


def _beside(path: Path, sizes: Sizes) -> Sizes:
    """With what diffusers' config in the same folder says of the latents' scale."""
    about = path.parent / "config.json"
    if not about.is_file():
        return sizes
    try:
        said = json.loads(about.read_text())
        if "AutoencoderKL" not in str(said.get("_class_name", "")):
            return sizes
        groups, scaling = (
            said.get("norm_num_groups", 32),
            float(said.get("scaling_factor", SCALING)),
        )
        shift = said.get("shift_factor")
    except (*NO_JSON, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{about} is no config of an autoencoder ({error}); mend it") from None
    if groups != 32 or shift:
        raise UserError(
            f"{about}: norm_num_groups={groups}, shift_factor={shift}; 32 and 0 are read"
        )
    return {**sizes, "scaling": scaling}


def _config(sizes: Sizes) -> ConfigDict:
    settings = {name: sizes[name] for name in (*_NAMES, "latent")}
    config = config_of("vae", "autoencoder", settings)
    config.model.update(channels=sizes["channels"], scaling=sizes["scaling"])
    return config


def _read(config: ConfigDict) -> Sizes | None:
    net = make_vae(config)
    if not all(getattr(net.encoder, name) == value for name, value in _OURS.items()):
        return None
    if not net.scaling:
        return None  # it has a deviation of its own, which these layouts have no place for
    own = {name: getattr(net.encoder, name) for name in _NAMES}
    return {
        "channels": config.model.channels, **own, "latent": net.latent, "scaling": net.scaling,
    }  # fmt: skip


def _rules(sizes: Sizes) -> list[Rule]:
    del sizes
    dropped = ("loss.*", "model_ema.*")
    return [*halves_rules(), *(Rule(name, None) for name in dropped)]


def _expected(config: ConfigDict) -> Tree:
    net = make_vae(config)
    side = 2 ** len(net.encoder.widths)
    picture = jax.ShapeDtypeStruct((1, side, side, config.model.channels), "float32")
    return jax.eval_shape(net.init, jax.random.key(0), picture)


_vae = partial(
    Layout, net="g", sizes=_sizes, config=_config, read=_read, rules=_rules, expected=_expected,
    beside=_beside,
)  # fmt: skip
COMPVIS = _vae(name="CompVis KL autoencoder")
DIFFUSERS = _vae(name="diffusers AutoencoderKL", join=join_diffusers, part=part_diffusers)
LAYOUTS = (COMPVIS, DIFFUSERS)
