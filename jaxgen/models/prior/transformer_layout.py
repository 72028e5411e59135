"""Published weights of the prior: taming-transformers' Net2Net transformer, MaskGIT's transformer.

A Net2Net checkpoint also holds its first stage (`first_stage_model.`), and perhaps another for its
condition, which are models of the family vqgan; whole it is `convert.py`'s. MaskGIT's file is its
Flax tree with paths as names, in a `.npz`: "TransformerLayer_0/Attention_0/...".
"""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxgen.models.prior.layout import make_sequence, settings_of
from jaxgen.models.prior.networks import make_transformer
from jaxgen.weights import Rule, Tree, module_rules, scale_rules
from jaxgen.weights.keymap import DENSE, Transform
from jaxgen.weights.layout import Layout, Sizes, Tensors, config_of, count

# Keys don't tell how many heads there are: 64 numbers each, but for these (width, ids) of taming's
# models with boxes.
_HEADS = {(1408, 8192): 16, (1536, 8192): 16}
_ROWS = Transform(lambda a: a[0], lambda a: a[None], ndim=3)  # (1, length, width)


def net2net_rules(sizes: Sizes, prefix: str = "transformer.") -> list[Rule]:
    """The key map of minGPT as taming-transformers has it."""
    del sizes
    block = f"{prefix}blocks.{{i}}"
    rules = [
        Rule(f"{prefix}tok_emb.weight", "params/tokens"),
        Rule(f"{prefix}pos_emb", "params/places", _ROWS),
        Rule(f"{prefix}head.weight", "params/head/kernel", DENSE),
        *scale_rules(f"{prefix}ln_f", "params/norm"),
        *scale_rules(f"{block}.ln1", "params/layer_{i}/norm_0"),
        *scale_rules(f"{block}.ln2", "params/layer_{i}/norm_1"),
    ]
    for source, target in (
        ("attn.query", "query"), ("attn.key", "key"), ("attn.value", "value"),
        ("attn.proj", "proj"), ("mlp.0", "mlp_in"), ("mlp.2", "mlp_out"),
    ):  # fmt: skip
        rules += module_rules(f"{block}.{source}", f"params/layer_{{i}}/{target}", DENSE)
    left_out = (
        f"{prefix}blocks.*.attn.mask",
        "first_stage_model.*",
        "cond_stage_model.*",
        "loss.*",
    )
    return [*rules, *(Rule(key, None) for key in left_out)]


def maskgit_rules(sizes: Sizes) -> list[Rule]:
    """The key map of MaskGIT's Flax tree; heads lie in their own axis there."""
    heads, width = sizes["heads"], sizes["width"]
    size = width // heads
    split = Transform(lambda a: a.reshape(width, width), lambda a: a.reshape(width, heads, size), 3)
    bias = Transform(lambda a: a.reshape(width), lambda a: a.reshape(heads, size), 2)
    out = Transform(lambda a: a.reshape(width, width), lambda a: a.reshape(heads, size, width), 3)
    layer, ours = "TransformerLayer_{i}", "params/layer_{i}"
    attend = f"{layer}/Attention_0/self_attention"
    rules = [
        Rule("Embed_0/word_embeddings/embedding", "params/tokens"),
        Rule("Embed_0/position_embeddings/embedding", "params/places"),
        Rule("MlmLayer_0/mlm_bias/bias", "params/bias"),
        Rule(f"{attend}/out/kernel", f"{ours}/proj/kernel", out),
        Rule(f"{attend}/out/bias", f"{ours}/proj/bias"),
    ]
    for name in ("query", "key", "value"):
        rules.append(Rule(f"{attend}/{name}/kernel", f"{ours}/{name}/kernel", split))
        rules.append(Rule(f"{attend}/{name}/bias", f"{ours}/{name}/bias", bias))
    for source, target in (
        ("Embed_0/embeddings_ln", "params/norm_in"),
        ("MlmLayer_0/mlm_ln", "params/norm_out"),
        (f"{layer}/Attention_0/attention_output_ln", f"{ours}/norm_0"),
        (f"{layer}/Mlp_0/layer_output_ln", f"{ours}/norm_1"),
    ):
        rules += [Rule(f"{source}/{n}", f"{target}/{n}") for n in ("scale", "bias")]
    for source, target in (
        ("MlmLayer_0/mlm_dense", "params/out"),
        (f"{layer}/Mlp_0/intermediate_output", f"{ours}/mlp_in"),
        (f"{layer}/Mlp_0/layer_output", f"{ours}/mlp_out"),
    ):
        rules += [Rule(f"{source}/{n}", f"{target}/{n}") for n in ("kernel", "bias")]
    return rules


def _net2net_sizes(prefix: str, tensors: Tensors) -> Sizes | None:
    table, places = (tensors.get(f"{prefix}{name}") for name in ("tok_emb.weight", "pos_emb"))
    if table is None or places is None or places.ndim != 3 or not places.shape[1]:
        return None
    ids, width = table.shape
    return {
        "ids": ids,
        "codes": tensors[f"{prefix}head.weight"].shape[0],
        "length": places.shape[1],
        "layers": count(tensors, f"{prefix}blocks.{{i}}."),
        "heads": _HEADS.get((width, ids), max(width // 64, 1)),
        "width": width,
    }


def _maskgit_sizes(tensors: Tensors) -> Sizes | None:
    table = tensors.get("Embed_0/word_embeddings/embedding")
    first = "TransformerLayer_0/"
    if table is None or f"{first}Attention_0/self_attention/query/kernel" not in tensors:
        return None
    return {
        "ids": table.shape[0],
        "length": tensors["Embed_0/position_embeddings/embedding"].shape[0],
        "layers": count(tensors, "TransformerLayer_{i}/"),
        "heads": tensors[f"{first}Attention_0/self_attention/query/kernel"].shape[1],
        "width": table.shape[1],
        "mlp": tensors[f"{first}Mlp_0/intermediate_output/bias"].shape[0],
    }


def _config(form: str, sizes: Sizes) -> ConfigDict:
    config = config_of("prior", "transformer", sizes)
    config.model.form = form
    return config


def _expected(config: ConfigDict) -> Tree:
    tokens = jax.ShapeDtypeStruct((1, 1), np.int32)
    module = make_transformer(config, config.model.transformer.to_dict())
    return jax.eval_shape(module.init, jax.random.key(0), tokens)


def _read(form: str, config: ConfigDict) -> Sizes | None:
    """The sizes that a converted or, with its parts filled in, a trained model's config tells."""
    if config.model.form != form:
        return None
    settings = config.model.transformer.to_dict()
    if "ids" not in settings:
        settings = settings_of(config, make_sequence(config))
    # A condition's ids that are never predicted: the published network predicts all.
    return settings if settings.get("codes", settings["ids"]) == settings["ids"] else None


def _net2net(name: str, prefix: str) -> Layout:
    return Layout(
        name=name,
        net="g",
        sizes=partial(_net2net_sizes, prefix),
        config=partial(_config, "gpt"),
        read=partial(_read, "gpt"),
        rules=partial(net2net_rules, prefix=prefix),
        expected=_expected,
    )


NET2NET = _net2net("taming Net2Net transformer", "transformer.")
LAYOUTS = (
    NET2NET,
    _net2net("taming minGPT", ""),
    Layout(
        name="MaskGIT transformer",
        net="g",
        sizes=_maskgit_sizes,
        config=partial(_config, "maskgit"),
        read=partial(_read, "maskgit"),
        rules=maskgit_rules,
        expected=_expected,
    ),
)
