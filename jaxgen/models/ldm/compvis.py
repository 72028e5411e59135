"""CompVis's names of latent diffusion's UNet, and of a whole checkpoint, as diffusers' names.

A UNet of CompVis counts its blocks through: `input_blocks.0` is the first convolution, then each
level has its residual blocks and one that halves the side; `output_blocks` likewise. How many
blocks a level has follows from where the first halving stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from jaxgen.weights.layout import Tensors, count

# What the keys of a checkpoint's nets begin with.
UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model."
# Of the text tower below it: transformers' names (SD 1, two forms), open_clip's (SD 2).
TEXT_HF = ("cond_stage_model.transformer.text_model.", "cond_stage_model.transformer.")
TEXT_OPEN = "cond_stage_model.model."
_EMA = "model_ema."
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_ALONE = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_BLOCK = re.compile(r"(input|output)_blocks\.(\d+)\.(\d+)\.(.+)")
_MIDDLE = re.compile(r"middle_block\.(\d+)\.(.+)")
_LEVEL = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.+)")
_STEP = re.compile(r"(down|up)_blocks\.(\d+)\.(?:down|up)samplers\.0\.conv\.(.+)")
_MID = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")


def to_diffusers(tensors: Tensors) -> dict[str, np.ndarray]:
    """A UNet's tensors under diffusers' keys; {} if they are not CompVis's."""
    if "input_blocks.0.0.weight" not in tensors:
        return {}
    blocks = _blocks(tensors)
    return {_to_diffusers(key, blocks): value for key, value in tensors.items()}


def to_compvis(tensors: Tensors) -> dict[str, np.ndarray]:
    """The inverse of `to_diffusers`."""
    blocks = count(tensors, "down_blocks.0.resnets.{i}.conv1.weight")
    levels = count(tensors, "down_blocks.{i}.resnets.0.conv1.weight")
    attended = {
        int(found[1])
        for key in tensors
        if (found := re.match(r"up_blocks\.(\d+)\.attentions\.", key)) is not None
    }
    middle = any(key.startswith("mid_block.attentions.") for key in tensors)
    return {
        _to_compvis(key, blocks, levels, attended, middle): value for key, value in tensors.items()
    }


def _blocks(tensors: Tensors) -> int:
    """Residual blocks of a level."""
    halved = [
        int(found[1])
        for key in tensors
        if (found := re.fullmatch(r"input_blocks\.(\d+)\.0\.op\.weight", key)) is not None
    ]
    last = count(tensors, "input_blocks.{i}.0.in_layers.0.weight") - 1
    return min(halved) - 1 if halved else max(last, 1)


def _to_diffusers(key: str, blocks: int) -> str:
    name, _, leaf = key.rpartition(".")
    if name in _ALONE:
        return f"{_ALONE[name]}.{leaf}"
    if (found := _MIDDLE.fullmatch(key)) is not None:
        number, rest = int(found[1]), found[2]
        if _is_resnet(rest):
            return f"mid_block.resnets.{min(number, 1)}.{_inner(rest)}"
        return f"mid_block.attentions.0.{rest}"
    if (found := _BLOCK.fullmatch(key)) is None:
        return key
    number, rest = int(found[2]), found[4]
    if found[1] == "input":
        level, i = divmod(number - 1, blocks + 1)
        way = f"down_blocks.{level}"
        if rest.startswith("op."):
            return f"{way}.downsamplers.0.conv.{rest.removeprefix('op.')}"
    else:
        level, i = divmod(number, blocks + 1)
        way = f"up_blocks.{level}"
        if rest.startswith("conv."):
            return f"{way}.upsamplers.0.{rest}"
    kind = "resnets" if _is_resnet(rest) else "attentions"
    return f"{way}.{kind}.{i}.{_inner(rest)}"


def _to_compvis(key: str, blocks: int, levels: int, attended: set[int], middle: bool) -> str:
    name, _, leaf = key.rpartition(".")
    for ours, theirs in _ALONE.items():
        if name == theirs:
            return f"{ours}.{leaf}"
    if (found := _MID.fullmatch(key)) is not None:
        if found[1] == "attentions":
            return f"middle_block.1.{found[3]}"
        number = 0 if found[2] == "0" else 2 if middle else 1
        return f"middle_block.{number}.{_outer(found[3])}"
    if (found := _STEP.fullmatch(key)) is not None:
        level = int(found[2])
        if found[1] == "down":
            return f"input_blocks.{(level + 1) * (blocks + 1)}.0.op.{found[3]}"
        after = 2 if level in attended else 1
        return f"output_blocks.{level * (blocks + 1) + blocks}.{after}.conv.{found[3]}"
    if (found := _LEVEL.fullmatch(key)) is None:
        return key
    way, level, i = found[1], int(found[2]), int(found[4])
    inside = f"0.{_outer(found[5])}" if found[3] == "resnets" else f"1.{found[5]}"
    if way == "down":
        return f"input_blocks.{level * (blocks + 1) + i + 1}.{inside}"
    return f"output_blocks.{level * (blocks + 1) + i}.{inside}"


def _is_resnet(rest: str) -> bool:
    return any(rest.startswith(f"{name}.") for name in _RESNET)


def _inner(rest: str) -> str:
    name, _, leaf = rest.rpartition(".")
    return f"{_RESNET.get(name, name)}.{leaf}"


def _outer(rest: str) -> str:
    name, _, leaf = rest.rpartition(".")
    names = {theirs: ours for ours, theirs in _RESNET.items()}
    return f"{names.get(name, name)}.{leaf}"


def averaged(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A checkpoint with its averages in place of the UNet's weights; as it is if it has none.

    LitEma names an average as its parameter, with all dots taken out.
    """
    result = {key: value for key, value in tensors.items() if not key.startswith(_EMA)}
    for key in result:
        name = _EMA + key.removeprefix("model.").replace(".", "")
        if key.startswith(UNET) and name in tensors:
            result[key] = tensors[name]
    return result
