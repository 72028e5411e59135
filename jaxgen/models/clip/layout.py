"""How published CLIPs name their weights: OpenAI's, open_clip's two and Hugging Face's."""

from __future__ import annotations

from jaxgen.encoders.clip.text_keys import (
    hf_block_rules,
    hf_text_rules,
    openai_block_rules,
    openai_text_rules,
)
from jaxgen.weights import DENSE, Rule, module_rules, scale_rules
from jaxgen.weights.layout import norm_rules

# Numbers of OpenAI's archives, and of Hugging Face's older files, that are no weights.
NUMBERS = ("input_resolution", "context_length", "vocab_size")


def openai_rules(layers: tuple[int, ...] | None, text: str = "") -> list[Rule]:
    """OpenAI's keys, and with text="text." open_clip's of models with a text tower of their own.

    Args: layers: blocks of each stage of a ResNet; None: a vision transformer.
    """
    rules = [Rule("logit_scale", "params/logit_scale")]
    rules.append(Rule(f"{text}text_projection", "params/text_projection"))
    rules += openai_text_rules(text, "params/text")
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
        *hf_text_rules(f"{text}.", "params/text"),
        *hf_block_rules(f"{image}.", ours),
        Rule(f"{image}.embeddings.class_embedding", f"{ours}/class_embedding"),
        Rule(f"{image}.embeddings.position_embedding.weight", f"{ours}/places"),
        *module_rules(f"{image}.embeddings.patch_embedding", f"{ours}/conv1")[:1],
        *scale_rules(f"{image}.pre_layrnorm", f"{ours}/ln_pre"),  # sic
        *scale_rules(f"{image}.post_layernorm", f"{ours}/ln_post"),
    ]
    dropped = (*NUMBERS, "*.position_ids")
    return [*rules, *(Rule(name, None) for name in dropped)]


def _vit(source: str) -> list[Rule]:
    target = "params/visual"
    return [
        Rule(f"{source}.class_embedding", f"{target}/class_embedding"),
        Rule(f"{source}.positional_embedding", f"{target}/places"),
        Rule(f"{source}.proj", f"{target}/proj"),
        *module_rules(f"{source}.conv1", f"{target}/conv1")[:1],
        *scale_rules(f"{source}.ln_pre", f"{target}/ln_pre"),
        *scale_rules(f"{source}.ln_post", f"{target}/ln_post"),
        *openai_block_rules(f"{source}.transformer", f"{target}/transformer"),
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
