"""Key maps of diffusers' files of latent diffusion: UNet2DConditionModel."""

from __future__ import annotations

from jaxgen.weights import DENSE, Rule, module_rules, scale_rules
from jaxgen.weights.keymap import CONV


def unet_rules(linear: bool) -> list[Rule]:
    """diffusers' keys of a UNet; linear: dense layers around the transformers."""
    rules = [
        *module_rules("conv_in", "params/conv_in"),
        *module_rules("time_embedding.linear_1", "params/time_embed/linear_1", DENSE),
        *module_rules("time_embedding.linear_2", "params/time_embed/linear_2", DENSE),
        *scale_rules("conv_norm_out", "params/norm_out"),
        *module_rules("conv_out", "params/conv_out"),
        *_resnet("mid_block.resnets.{j}", "params/mid_resnet_{j}"),
        *_transformer("mid_block.attentions.{j}", "params/mid_attn_{j}", linear),
    ]
    for way, step in (("down", "downsample"), ("up", "upsample")):
        block, ours = f"{way}_blocks.{{i}}", f"params/{way}_{{i}}"
        rules += _resnet(f"{block}.resnets.{{j}}", f"{ours}_resnet_{{j}}")
        rules += _transformer(f"{block}.attentions.{{j}}", f"{ours}_attn_{{j}}", linear)
        rules += module_rules(f"{block}.{step}rs.0.conv", f"{ours}_{step}")
    return rules


def _resnet(source: str, target: str) -> list[Rule]:
    return [
        *scale_rules(f"{source}.norm1", f"{target}/norm1"),
        *module_rules(f"{source}.conv1", f"{target}/conv1"),
        *module_rules(f"{source}.time_emb_proj", f"{target}/time", DENSE),
        *scale_rules(f"{source}.norm2", f"{target}/norm2"),
        *module_rules(f"{source}.conv2", f"{target}/conv2"),
        *module_rules(f"{source}.conv_shortcut", f"{target}/shortcut"),
    ]


def _transformer(source: str, target: str, linear: bool) -> list[Rule]:
    around = DENSE if linear else CONV
    rules = [
        *scale_rules(f"{source}.norm", f"{target}/norm"),
        *module_rules(f"{source}.proj_in", f"{target}/proj_in", around),
        *module_rules(f"{source}.proj_out", f"{target}/proj_out", around),
    ]
    block, ours = f"{source}.transformer_blocks.{{k}}", f"{target}/block_{{k}}"
    for i in (1, 2):
        for name in ("to_q", "to_k", "to_v"):
            rules += module_rules(f"{block}.attn{i}.{name}", f"{ours}/attn{i}/{name}", DENSE)[:1]
        rules += module_rules(f"{block}.attn{i}.to_out.0", f"{ours}/attn{i}/to_out", DENSE)
    for i in (1, 2, 3):
        rules += scale_rules(f"{block}.norm{i}", f"{ours}/norm{i}")
    rules += module_rules(f"{block}.ff.net.0.proj", f"{ours}/ff_in", DENSE)
    return rules + module_rules(f"{block}.ff.net.2", f"{ours}/ff_out", DENSE)
