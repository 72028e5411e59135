"""Key map of `jaxgen.nn.autoencoder`: CompVis's names, also those of taming-transformers."""

from __future__ import annotations

from jaxgen.weights import Rule, module_rules, scale_rules


def halves_rules() -> list[Rule]:
    """Encoder, decoder, and the 1x1 convolutions around what lies between them."""
    rules = []
    for half, way, step in (("encoder", "down", "downsample"), ("decoder", "up", "upsample")):
        ours = f"params/{half}"
        level = f"{half}.{way}.{{i}}"
        rules += [
            *module_rules(f"{half}.conv_in", f"{ours}/conv_in"),
            *_resnet(f"{level}.block.{{j}}", f"{ours}/{way}_{{i}}_block_{{j}}"),
            *_attention(f"{level}.attn.{{j}}", f"{ours}/{way}_{{i}}_attn_{{j}}"),
            *module_rules(f"{level}.{step}.conv", f"{ours}/{way}_{{i}}_{step}/conv"),
            *_resnet(f"{half}.mid.block_{{i}}", f"{ours}/mid_block_{{i}}"),
            *_attention(f"{half}.mid.attn_{{i}}", f"{ours}/mid_attn_{{i}}"),
            *scale_rules(f"{half}.norm_out", f"{ours}/norm_out"),
            *module_rules(f"{half}.conv_out", f"{ours}/conv_out"),
        ]
    for name in ("quant_conv", "post_quant_conv"):
        rules += module_rules(name, f"params/{name}")
    return rules


def _resnet(source: str, target: str) -> list[Rule]:
    rules = module_rules(f"{source}.nin_shortcut", f"{target}/nin_shortcut")
    for i in (1, 2):
        rules += scale_rules(f"{source}.norm{i}", f"{target}/norm{i}")
        rules += module_rules(f"{source}.conv{i}", f"{target}/conv{i}")
    return rules


def _attention(source: str, target: str) -> list[Rule]:
    rules = scale_rules(f"{source}.norm", f"{target}/norm")
    for name in ("q", "k", "v", "proj_out"):
        rules += module_rules(f"{source}.{name}", f"{target}/{name}")
    return rules
