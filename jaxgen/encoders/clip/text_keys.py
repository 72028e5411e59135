"""How published CLIPs name their text tower: OpenAI's names (open_clip too), transformers'."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from jaxgen.weights import DENSE, Rule, Tensors, module_rules, scale_rules

_HF = re.compile(r"(.*\.self_attn\.)([qkv])_proj\.(weight|bias)")


def openai_text_rules(source: str, target: str) -> list[Rule]:
    """OpenAI's keys of the tower; source: what they begin with ("", "text.")."""
    return [
        Rule(f"{source}positional_embedding", f"{target}/places"),
        Rule(f"{source}token_embedding.weight", f"{target}/tokens"),
        *scale_rules(f"{source}ln_final", f"{target}/ln_final"),
        *openai_block_rules(f"{source}transformer", f"{target}/transformer"),
    ]


def openai_block_rules(source: str, target: str) -> list[Rule]:
    """Of a transformer's blocks, of either tower."""
    block, at = f"{source}.resblocks.{{i}}", f"{target}/block_{{i}}"
    return [
        Rule(f"{block}.attn.in_proj_weight", f"{at}/qkv/kernel", DENSE),
        Rule(f"{block}.attn.in_proj_bias", f"{at}/qkv/bias"),
        *module_rules(f"{block}.attn.out_proj", f"{at}/out", DENSE),
        *scale_rules(f"{block}.ln_1", f"{at}/ln_1"),
        *scale_rules(f"{block}.ln_2", f"{at}/ln_2"),
        *module_rules(f"{block}.mlp.c_fc", f"{at}/mlp_in", DENSE),
        *module_rules(f"{block}.mlp.c_proj", f"{at}/mlp_out", DENSE),
    ]


def hf_text_rules(source: str, target: str) -> list[Rule]:
    """transformers' keys of the tower, after `join_hf`; source: "text_model." or ""."""
    return [
        Rule(f"{source}embeddings.token_embedding.weight", f"{target}/tokens"),
        Rule(f"{source}embeddings.position_embedding.weight", f"{target}/places"),
        *scale_rules(f"{source}final_layer_norm", f"{target}/ln_final"),
        *hf_block_rules(source, target),
    ]


def hf_block_rules(source: str, target: str) -> list[Rule]:
    """Of a transformer's blocks, of either tower; after `join_hf`."""
    block, at = f"{source}encoder.layers.{{i}}", f"{target}/transformer/block_{{i}}"
    rules = scale_rules(f"{block}.layer_norm1", f"{at}/ln_1")
    rules += scale_rules(f"{block}.layer_norm2", f"{at}/ln_2")
    for theirs, name in (("self_attn.qkv_proj", "qkv"), ("self_attn.out_proj", "out"),
                         ("mlp.fc1", "mlp_in"), ("mlp.fc2", "mlp_out")):  # fmt: skip
        rules += module_rules(f"{block}.{theirs}", f"{at}/{name}", DENSE)
    return rules


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
