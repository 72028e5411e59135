"""CLIP's text tower alone, Stable Diffusion's text encoder: its config, and its published names.

SD 1's is that of ViT-L/14 with the last block's features; SD 2's that of OpenCLIP's ViT-H/14 with
those of the last but one; diffusers' files leave the last out. Both end with the final norm. SD 1
fills texts up with the id that ends them, SD 2 with 0.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.text.clip_bpe import read_tokenizer
from jaxgen.encoders.clip.text import TextTower
from jaxgen.encoders.clip.text_keys import (
    hf_text_rules,
    join_hf,
    openai_text_rules,
    part_hf,
)
from jaxgen.errors import NO_JSON, UserError
from jaxgen.tasks.common import make_module
from jaxgen.weights import Rule, Tree
from jaxgen.weights.layout import Layout, Sizes, Tensors, config_of, count

HEAD = 64
_PREFIX = "text_model."
_TABLE = "embeddings.token_embedding.weight"
_VOCABULARIES = ("tokenizer.json", "vocab.json", "bpe_simple_vocab_16e6.txt.gz")


def make_text_tower(config: ConfigDict) -> TextTower:
    """Net "text" of a converted text tower's config."""
    text = config.model.text.to_dict()
    net: TextTower = make_module(
        TextTower, "text", config, vocabulary=text.pop("ids"), activation=config.model.activation,
        **text,
    )  # fmt: skip
    return net


def _join(tensors: Tensors) -> Tensors:
    """transformers' names, with `text_model.` and without, as those without."""
    bare = {key.removeprefix(_PREFIX): value for key, value in tensors.items()}
    return join_hf(bare) if _TABLE in bare else {}


def _part(tensors: Tensors) -> Tensors:
    """As Hugging Face's files have them: with `text_model.`."""
    return {f"{_PREFIX}{key}": value for key, value in part_hf(tensors).items()}


def _hf_sizes(tensors: Tensors) -> Sizes | None:
    if _TABLE not in tensors or any(key.startswith("vision_model.") for key in tensors):
        return None
    places = tensors["embeddings.position_embedding.weight"]
    mlp = tensors["encoder.layers.0.mlp.fc1.weight"].shape[0]
    layers = count(tensors, "encoder.layers.{i}.layer_norm1.weight")
    return _said(tensors[_TABLE], places, mlp, layers)


def _open_sizes(tensors: Tensors) -> Sizes | None:
    if "token_embedding.weight" not in tensors or any(k.startswith("visual.") for k in tensors):
        return None
    places = tensors["positional_embedding"]
    mlp = tensors["transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
    layers = count(tensors, "transformer.resblocks.{i}.ln_1.weight")
    # open_clip's own, of which Stable Diffusion takes the last block but one.
    found = _said(tensors["token_embedding.weight"], places, mlp, layers)
    return {**found, "activation": "gelu", "pad": 0, "skip": 1}


def _said(table: Any, places: Any, mlp: int, layers: int) -> dict[str, Any]:
    """As of SD 1, unless the width is that of SD 2."""
    ids, width = table.shape
    second = width == 1024
    return {
        "ids": ids,
        "context": places.shape[0],
        "width": width,
        "layers": layers,
        "heads": max(width // HEAD, 1),
        "mlp": mlp,
        "activation": "gelu" if second else "quick_gelu",
        "pad": 0 if second else ids - 1,
        "skip": 0,
    }


def _beside(path: Path, sizes: Sizes) -> Sizes:
    """With what transformers' config and the tokenizer's files say, here or in `tokenizer/`."""
    found = dict(sizes)
    about = path.parent / "config.json"
    if about.is_file():
        found |= _configured(about, sizes)
    for folder in (path.parent, path.parent / "tokenizer", path.parent.parent / "tokenizer"):
        for name in _VOCABULARIES:
            if (folder / name).is_file() and "vocabulary" not in found:
                found["vocabulary"] = str(folder / name)
        found |= _padding(folder / "special_tokens_map.json", sizes)
    return found


def _configured(about: Path, sizes: Sizes) -> dict[str, Any]:
    try:
        said = json.loads(about.read_text())
        if "CLIPText" not in str(said.get("architectures") or said.get("model_type", "")):
            return {}
        activation = said.get("hidden_act", "quick_gelu")
        heads = int(said.get("num_attention_heads") or sizes["heads"])
    except (*NO_JSON, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{about} is no config of a text encoder ({error}); mend it") from None
    if activation not in ("quick_gelu", "gelu"):
        raise UserError(f"{about}: activation {activation}; quick_gelu and gelu are read")
    return {"activation": activation, "heads": heads}


def _padding(about: Path, sizes: Sizes) -> dict[str, Any]:
    if not about.is_file():
        return {}
    try:
        said = json.loads(about.read_text()).get("pad_token")
        sign = said.get("content") if isinstance(said, dict) else said
    except (*NO_JSON, AttributeError) as error:
        raise UserError(f"{about} does not name special tokens ({error}); mend it") from None
    if sign not in ("<|endoftext|>", "!", None):
        raise UserError(f"{about}: texts are filled up with {sign!r}; <|endoftext|> and ! are read")
    return {} if sign is None else {"pad": 0 if sign == "!" else sizes["ids"] - 1}


def _config(sizes: Sizes) -> ConfigDict:
    names = ("ids", "context", "width", "layers", "heads", "mlp")
    config = config_of("clip", "text", {name: sizes[name] for name in names})
    config.model.update({name: sizes[name] for name in ("activation", "pad", "skip")})
    config.model.vocabulary = ""
    if "vocabulary" in sizes:  # all of it, so that the model reads texts wherever it is moved
        tokenizer = read_tokenizer(sizes["vocabulary"], sizes["context"])
        config.model.vocabulary = tokenizer.to_json()
    return config


def _read(skipping: bool, config: ConfigDict) -> Sizes | None:
    model = config.model
    if "image" in model or "skip" not in model or bool(model.skip) > skipping:
        return None
    sizes = dict(model.text.to_dict())
    return {**sizes, **{name: model[name] for name in ("activation", "pad", "skip")}}


def _hf_rules(sizes: Sizes) -> list[Rule]:
    del sizes
    dropped = ("embeddings.position_ids", "text_projection.weight")
    return [*hf_text_rules("", "params"), *(Rule(name, None) for name in dropped)]


def _open_rules(sizes: Sizes) -> list[Rule]:
    del sizes
    dropped = ("attn_mask", "text_projection", "logit_scale")
    return [*openai_text_rules("", "params"), *(Rule(name, None) for name in dropped)]


def _expected(config: ConfigDict) -> Tree:
    tokens = jax.ShapeDtypeStruct((1, config.model.text.context), np.int32)
    return jax.eval_shape(make_text_tower(config).init, jax.random.key(0), tokens)


_text = partial(Layout, net="text", config=_config, expected=_expected, beside=_beside)
HF_TEXT = _text(
    name="transformers CLIPTextModel", sizes=_hf_sizes, read=partial(_read, False),
    rules=_hf_rules, join=_join, part=_part,
)  # fmt: skip
OPEN_TEXT = _text(
    name="open_clip text tower", sizes=_open_sizes, read=partial(_read, True), rules=_open_rules
)
TEXT_LAYOUTS = (HF_TEXT, OPEN_TEXT)
