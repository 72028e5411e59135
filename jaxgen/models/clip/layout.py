"""How published CLIPs name their weights: OpenAI's, open_clip's two and Hugging Face's."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from jaxgen.weights import DENSE, Rule, Tensors, module_rules
from jaxgen.weights.layout import norm_rules

# Numbers of OpenAI's archives, and of Hugging Face's older files, that are no weights.
NUMBERS = ("input_resolution", "context_length", "vocab_size")
_HF = re.compile(r"(.*\.self_attn\.)([qkv])_proj\.(weight|bias)")


def openai_rules(layers: tuple[int, ...] | None, text: str = "") -> list[Rule]:
    """OpenAI's keys, and with text="text." open_clip's of models with a text tower of their own.

    Args: layers: blocks of each stage of a ResNet; None: a vision transformer.
    """
    rules = [Rule("logit_scale", "params/logit_scale")]
    rules += [
        Rule(f"{text}positional_embedding", "params/text/places"),
        Rule(f"{text}text_projection", "params/text_projection"),
        Rule(f"{text}token_embedding.weight", "params/text/tokens"),
        *_norm(f"{text}ln_final", "params/text/ln_final"),
        *_openai_blocks(f"{text}transformer", "params/text/transformer"),
    ]
    rules += _vit("visual") if layers is None else _resnet("visual")
    dropped = (*NUMBERS, f"{text}attn_mask", "*.num_batches_tracked")
    return [*rules, *(Rule(name, None) for name in dropped)]


def hf_rules() -> list[Rule]:
    """Hugging Face's keys, after `join_hf`."""
    text, image = "text_model", "vision_model"
    ours = "params/visual"
    rules = [
        Rule("logit_scale", "params/logit_scale"),
        Rule("text_projection.weight", "params/text_projection", DENSE),
        Rule("visual_projection.weight", f"{ours}/proj", DENSE),
        Rule(f"{text}.embeddings.token_embedding.weight", "params/text/tokens"),
        Rule(f"{text}.embeddings.position_embedding.weight", "params/text/places"),
        *_norm(f"{text}.final_layer_norm", "params/text/ln_final"),
        Rule(f"{image}.embeddings.class_embedding", f"{ours}/class_embedding"),
        Rule(f"{image}.embeddings.position_embedding.weight", f"{ours}/places"),
        *module_rules(f"{image}.embeddings.patch_embedding", f"{ours}/conv1")[:1],
        *_norm(f"{image}.pre_layrnorm", f"{ours}/ln_pre"),  # sic
        *_norm(f"{image}.post_layernorm", f"{ours}/ln_post"),
    ]
    for tower, target in ((text, "params/text"), (image, ours)):
        block, at = f"{tower}.encoder.layers.{{i}}", f"{target}/transformer/block_{{i}}"
        rules += _norm(f"{block}.layer_norm1", f"{at}/ln_1")
        rules += _norm(f"{block}.layer_norm2", f"{at}/ln_2")
        for theirs, name in (("self_attn.qkv_proj", "qkv"), ("self_attn.out_proj", "out"),
                             ("mlp.fc1", "mlp_in"), ("mlp.fc2", "mlp_out")):  # fmt: skip
            rules += module_rules(f"{block}.{theirs}", f"{at}/{name}", DENSE)
    dropped = (*NUMBERS, "*.position_ids")
    return [*rules, *(Rule(name, None) for name in dropped)]


def join_hf(tensors: Mapping[str, np.ndarray]) -> Tensors:
    """q, k and v of each attention as one; where one of them is lacking they stay as they are."""
    result: Tensors = {}
    for key, value in tensors.items():
        found = _HF.fullmatch(key)
        names = [f"{found[1]}{x}_proj.{found[3]}" for x in "qkv"] if found else []
        if not found or not all(name in tensors for name in names):
            result[key] = value
        elif found[2] == "q":
            result[f"{found[1]}qkv_proj.{found[3]}"] = np.concatenate([tensors[n] for n in names])
    return result


def part_hf(tensors: Mapping[str, np.ndarray]) -> Tensors:
    """The inverse of `join_hf`."""
    result: Tensors = {}
    for key, value in tensors.items():
        if ".qkv_proj." not in key:
            result[key] = value
            continue
        for name, part in zip("qkv", np.split(value, 3), strict=True):
            result[key.replace(".qkv_proj.", f".{name}_proj.")] = np.ascontiguousarray(part)
    return result


def _norm(source: str, target: str) -> list[Rule]:
    return [
        Rule(f"{source}.weight", f"{target}/scale"),
        Rule(f"{source}.bias", f"{target}/bias"),
    ]


def _openai_blocks(source: str, target: str) -> list[Rule]:
    block, at = f"{source}.resblocks.{{i}}", f"{target}/block_{{i}}"
    return [
        Rule(f"{block}.attn.in_proj_weight", f"{at}/qkv/kernel", DENSE),
        Rule(f"{block}.attn.in_proj_bias", f"{at}/qkv/bias"),
        *module_rules(f"{block}.attn.out_proj", f"{at}/out", DENSE),
        *_norm(f"{block}.ln_1", f"{at}/ln_1"),
        *_norm(f"{block}.ln_2", f"{at}/ln_2"),
        *module_rules(f"{block}.mlp.c_fc", f"{at}/mlp_in", DENSE),
        *module_rules(f"{block}.mlp.c_proj", f"{at}/mlp_out", DENSE),
    ]


def _vit(source: str) -> list[Rule]:
    target = "params/visual"
    return [
        Rule(f"{source}.class_embedding", f"{target}/class_embedding"),
        Rule(f"{source}.positional_embedding", f"{target}/places"),
        Rule(f"{source}.proj", f"{target}/proj"),
        *module_rules(f"{source}.conv1", f"{target}/conv1")[:1],
        *_norm(f"{source}.ln_pre", f"{target}/ln_pre"),
        *_norm(f"{source}.ln_post", f"{target}/ln_post"),
        *_openai_blocks(f"{source}.transformer", f"{target}/transformer"),
    ]


def _resnet(source: str) -> list[Rule]:
    rules = [Rule(f"{source}.attnpool.positional_embedding", "params/visual/attnpool/places")]
    for name in ("q_proj", "k_proj", "v_proj", "c_proj"):
        rules += module_rules(f"{source}.attnpool.{name}", f"params/visual/attnpool/{name}", DENSE)
    rules += module_rules(f"{source}.conv{{i}}", "params/visual/conv{i}")[:1]
    rules += norm_rules(f"{source}.bn{{i}}", "visual/bn{i}")
    block, at = f"{source}.layer{{i}}.{{j}}", "visual/layer{i}_{j}"
    rules += module_rules(f"{block}.conv{{k}}", f"params/{at}/conv{{k}}")[:1]
    rules += norm_rules(f"{block}.bn{{k}}", f"{at}/bn{{k}}")
    rules += module_rules(f"{block}.downsample.0", f"params/{at}/shortcut")[:1]
    return rules + norm_rules(f"{block}.downsample.1", f"{at}/shortcut_bn")
