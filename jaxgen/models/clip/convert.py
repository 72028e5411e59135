"""Published weights of CLIP, both ways: OpenAI's archives, open_clip's and Hugging Face's files.

Keys and shapes tell all but the activation (quick or exact GELU) and the heads' number, for which
the config beside the file is read (`config.json`, `open_clip_config.json`). OpenAI's own archives
are all quick. Where nothing tells, quick GELU is taken and that is said; heads are 64 wide.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxgen.data.text.clip_bpe import read_tokenizer
from jaxgen.encoders.clip.text_keys import join_hf, part_hf
from jaxgen.errors import UserError
from jaxgen.log import log
from jaxgen.models.clip.layout import NUMBERS, hf_rules, openai_rules
from jaxgen.models.clip.networks import make_clip
from jaxgen.models.clip.text import TEXT_LAYOUTS
from jaxgen.weights import Rule, Tree
from jaxgen.weights.layout import Layout, Sizes, Tensors, config_of, count

HEAD = 64  # width of a head, where nothing says another
_CONFIGS = ("open_clip_config.json", "config.json")
_VOCABULARIES = ("bpe_simple_vocab_16e6.txt.gz", "tokenizer.json", "vocab.json")


def _openai_sizes(text: str, tensors: Tensors) -> Sizes | None:
    table, places = tensors[f"{text}token_embedding.weight"], f"{text}positional_embedding"
    blocks = f"{text}transformer.resblocks.{{i}}.attn.in_proj_weight"
    sizes = _text_sizes(table, tensors[places], count(tensors, blocks))
    sizes["embed"] = tensors[f"{text}text_projection"].shape[1]
    if any(name in tensors for name in NUMBERS):
        sizes["activation"] = "quick_gelu"  # OpenAI's own archive
    if "visual.proj" in tensors:
        layers = count(tensors, "visual.transformer.resblocks.{i}.attn.in_proj_weight")
        first = tensors["visual.conv1.weight"]
        return sizes | _vit_sizes(first, tensors["visual.positional_embedding"], layers)
    width = tensors["visual.layer1.0.conv1.weight"].shape[0]
    places_of = tensors["visual.attnpool.positional_embedding"].shape[0]
    return sizes | {
        "form": "resnet",
        "image_size": 32 * round((places_of - 1) ** 0.5),
        "image_width": width,
        "image_layers": tuple(
            count(tensors, f"visual.layer{stage}.{{i}}.conv1.weight") for stage in (1, 2, 3, 4)
        ),
        "image_heads": max(width * 32 // HEAD, 1),
    }


def _hf_sizes(tensors: Tensors) -> Sizes | None:
    text, image = "text_model", "vision_model"
    block = "{}.encoder.layers.{{i}}.layer_norm1.weight"
    sizes = _text_sizes(
        tensors[f"{text}.embeddings.token_embedding.weight"],
        tensors[f"{text}.embeddings.position_embedding.weight"],
        count(tensors, block.format(text)),
    )
    sizes["embed"] = tensors["text_projection.weight"].shape[0]
    return sizes | _vit_sizes(
        tensors[f"{image}.embeddings.patch_embedding.weight"],
        tensors[f"{image}.embeddings.position_embedding.weight"],
        count(tensors, block.format(image)),
    )


def _text_sizes(table: Any, places: Any, layers: int) -> dict[str, Any]:
    ids, width = table.shape
    return {
        "activation": "",
        "ids": ids,
        "context": places.shape[0],
        "text_width": width,
        "text_layers": layers,
        "text_heads": max(width // HEAD, 1),
    }


def _vit_sizes(first: Any, places: Any, layers: int) -> dict[str, Any]:
    width, _, patch, _ = first.shape
    return {
        "form": "vit",
        "image_size": patch * round((places.shape[0] - 1) ** 0.5),
        "patch": patch,
        "image_width": width,
        "image_layers": layers,
        "image_heads": max(width // HEAD, 1),
    }


def _beside(path: Path, sizes: Sizes) -> Sizes:
    """With activation and heads of the config in the same folder, and where the vocabulary lies."""
    found = dict(sizes)
    for name in _CONFIGS:
        if (path.parent / name).is_file():
            found |= _said(path.parent / name, sizes)
            break
    for name in _VOCABULARIES:
        if (path.parent / name).is_file():
            found["vocabulary"] = str(path.parent / name)
            break
    if not found["activation"]:
        log.warning(
            "%s: its keys do not tell the activation; quick GELU is taken, as in OpenAI's weights. "
            "For exact GELU put the model's config.json beside the file and convert it again",
            path,
        )
        found["activation"] = "quick_gelu"
    return found


def _said(path: Path, sizes: Sizes) -> dict[str, Any]:
    """What a config of Hugging Face or open_clip says of activation and heads."""
    try:
        said = json.loads(path.read_text())
        if "model_cfg" in said or "vision_cfg" in said:
            said = said.get("model_cfg", said)
            image, text = said["vision_cfg"], said["text_cfg"]
            width = image.get("head_width", HEAD)
            heads = sizes["image_width"] * (32 if sizes["form"] == "resnet" else 1) // width
            activation = "quick_gelu" if said.get("quick_gelu", False) else "gelu"
            return {
                "activation": activation,
                "image_heads": heads,
                "text_heads": int(text.get("heads", sizes["text_heads"])),
            }
        if "text_config" not in said or "vision_config" not in said:
            return {}  # of something else
        text, image = said["text_config"] or {}, said["vision_config"] or {}
        acts = {one.get("hidden_act", "quick_gelu") for one in (text, image)}
        if len(acts) > 1 or not acts <= {"quick_gelu", "gelu"}:
            raise UserError(
                f"{path}: activation {' and '.join(sorted(acts))}; CLIP is read with quick_gelu or "
                "gelu, the same in both towers"
            )
        return {
            "activation": acts.pop(),
            "image_heads": int(image.get("num_attention_heads") or sizes["image_heads"]),
            "text_heads": int(text.get("num_attention_heads") or sizes["text_heads"]),
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError) as error:
        raise UserError(f"{path} is no config of a CLIP ({error}); mend it or move it") from None


def _config(sizes: Sizes) -> ConfigDict:
    image = {
        "form": sizes["form"],
        "width": sizes["image_width"],
        "layers": sizes["image_layers"],
        "heads": sizes["image_heads"],
    }
    if sizes["form"] == "vit":
        image["patch"] = sizes["patch"]
    config = config_of("clip", "image", image, size=sizes["image_size"])
    config.model.text = {
        "ids": sizes["ids"],
        "context": sizes["context"],
        "width": sizes["text_width"],
        "layers": sizes["text_layers"],
        "heads": sizes["text_heads"],
    }
    config.model.embed = sizes["embed"]
    config.model.activation = sizes["activation"] or "quick_gelu"
    config.model.vocabulary = ""
    if "vocabulary" in sizes:  # all of it, so that the model reads texts wherever it is moved
        config.model.vocabulary = read_tokenizer(sizes["vocabulary"], sizes["context"]).to_json()
    return config


def _read(form: str, config: ConfigDict) -> Sizes | None:
    if "image" not in config.model:
        return None  # a text tower alone
    net = make_clip(config)
    image, text = net.visual, net.text
    if form not in ("", config.model.image.form):
        return None
    sizes = {
        "form": config.model.image.form,
        "activation": config.model.activation,
        "embed": net.embed,
        "ids": text.vocabulary,
        "context": text.context,
        "text_width": text.width,
        "text_layers": text.layers,
        "text_heads": text.heads,
        "image_size": image.image_size,
        "image_width": image.width,
        "image_layers": image.layers,
        "image_heads": image.heads,
    }
    return sizes | ({"patch": image.patch} if sizes["form"] == "vit" else {})


def _openai(text: str, sizes: Sizes) -> list[Rule]:
    return openai_rules(sizes["image_layers"] if sizes["form"] == "resnet" else None, text)


def _expected(config: ConfigDict) -> Tree:
    net = make_clip(config)
    side = net.visual.image_size
    return jax.eval_shape(
        net.init,
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, side, side, 3), "float32"),
        jax.ShapeDtypeStruct((1, net.text.context), "int32"),
    )


# What they have alike: the networks, and what lies beside the file.
_clip = partial(Layout, net="g", config=_config, expected=_expected, beside=_beside)
LAYOUTS = (
    _clip(
        name="OpenAI CLIP",
        sizes=partial(_openai_sizes, ""),
        read=partial(_read, ""),
        rules=partial(_openai, ""),
    ),
    _clip(
        name="open_clip with a text tower of its own",
        sizes=partial(_openai_sizes, "text."),
        read=partial(_read, ""),
        rules=partial(_openai, "text."),
    ),
    _clip(
        name="Hugging Face CLIP",
        sizes=_hf_sizes,
        read=partial(_read, "vit"),
        rules=lambda sizes: hf_rules(),
        join=join_hf,
        part=part_hf,
    ),
    *TEXT_LAYOUTS,
)
