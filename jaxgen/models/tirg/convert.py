"""Weights of google/tirg and of CLIP4Cir's Combiner, both ways.

A checkpoint does not hold its vocabulary, without which word ids mean nothing: put it beside the
file as `vocabulary.txt`, a word in each line in the order of their ids from 1. (The words' order
changed in google/tirg's history, from that of their appearance to the alphabet's.)
"""

from __future__ import annotations

from pathlib import Path

import jax
from ml_collections import ConfigDict

from jaxgen import config as configs
from jaxgen import keys
from jaxgen.data.triplets import section
from jaxgen.encoders import resnet
from jaxgen.errors import UserError
from jaxgen.log import log
from jaxgen.models.tirg import over_clip
from jaxgen.models.tirg.compose import Combiner, View
from jaxgen.models.tirg.layout import TELLING, tirg_rules
from jaxgen.models.tirg.networks import make_net
from jaxgen.nn.text_keys import split_gates, stack_gates
from jaxgen.tasks.tirg.config import EVAL, MODEL
from jaxgen.weights import DENSE, Rule, Tree, module_rules
from jaxgen.weights.layout import Layout, Sizes, Tensors, count

VOCABULARY = "vocabulary.txt"


def _sizes(tensors: Tensors) -> Sizes | None:
    forms = [form for form, key in TELLING.items() if key in tensors]
    blocks = tuple(
        count(tensors, f"img_model.layer{stage}.{{i}}.conv1.weight") for stage in (1, 2, 3, 4)
    )
    kind = "bottleneck" if "img_model.layer1.0.conv3.weight" in tensors else "basic"
    archs = [arch for arch, table in resnet.ARCHS.items() if table == (kind, blocks)]
    words, vector = tensors["text_model.embedding_layer.weight"].shape
    return {
        "compose": forms[0] if forms else "image",
        "arch": archs[0] if archs else "resnet18",
        "width": tensors["img_model.conv1.weight"].shape[0] / resnet.CHANNELS[0],
        "embed": tensors["img_model.fc.0.weight"].shape[0],
        "words": words - 1,
        "vector": vector,
        "hidden": tensors["text_model.lstm.weight_hh_l0.i"].shape[0],
    }


def _beside(path: Path, sizes: Sizes) -> Sizes:
    file = path.parent / VOCABULARY
    if not file.is_file():
        log.warning(
            "the checkpoint does not hold its words: put %s beside it, a word in each line by id "
            "from 1, and convert it again; until then every word is unknown", file,
        )  # fmt: skip
        return sizes
    words = file.read_text(encoding="utf-8").split()
    if len(words) != sizes["words"]:
        raise UserError(f"{file} has {len(words)} words, the weights have {sizes['words']}")
    return {**sizes, "vocabulary": tuple(words)}


def _config(sizes: Sizes) -> ConfigDict:
    config = configs.base("tirg")
    config.data = section.defaults()
    config.data.update(size=224, length=64)
    # No text is read as one of these.
    unknown = tuple(f"#{i}" for i in range(sizes["words"]))
    config.data.vocabulary = tuple(sizes.get("vocabulary", unknown))
    config.model = keys.defaults(MODEL)
    config.model.embed = sizes["embed"]
    config.model.text.update(vector=sizes["vector"], hidden=sizes["hidden"])
    config.model.image = {"form": "resnet", "arch": sizes["arch"], "width": sizes["width"]}
    config.model.compose = {"form": sizes["compose"]}
    config.eval = keys.defaults(EVAL)
    return config


def _read(config: ConfigDict) -> Sizes | None:
    model = config.model
    if model.image.form != "resnet" or model.compose.form not in ("image", "text", *TELLING):
        return None
    return {
        "compose": model.compose.form,
        "arch": model.image.get("arch", "resnet18"),
        "width": model.image.get("width", 1.0),
        "embed": model.embed,
        "words": len(config.data.vocabulary),
        "vector": model.text.vector,
        "hidden": model.text.hidden,
    }


def _expected(config: ConfigDict) -> Tree:
    side, length = 64, config.data.length
    picture = jax.ShapeDtypeStruct((1, side, side, 3), "float32")
    tokens = jax.ShapeDtypeStruct((1, 1, length), "int32")
    return jax.eval_shape(
        make_net(config).init,
        jax.random.key(0),
        picture,
        jax.ShapeDtypeStruct((1, 1, side, side, 3), "float32"),
        tokens,
        jax.ShapeDtypeStruct((1, 1, length), "bool"),
    )


def _combiner_sizes(tensors: Tensors) -> Sizes | None:
    projection, embed = tensors["text_projection_layer.weight"].shape
    return {
        "embed": embed,
        "projection": projection,
        "hidden": tensors["combiner_layer.weight"].shape[0],
    }


def _combiner_config(sizes: Sizes) -> ConfigDict:
    """Of a composer that has yet to be put over its CLIP: `train.init_from.g` with `parts.clip`."""
    config = configs.base("tirg")
    config.data = section.defaults()
    config.model = keys.defaults(MODEL)
    config.model.embed = sizes["embed"]
    config.model.image = {"form": over_clip.PART}
    config.model.compose = {
        "form": "combiner",
        "projection": sizes["projection"],
        "hidden": sizes["hidden"],
    }
    config.parts = {over_clip.PART: ""}
    config.eval = keys.defaults(EVAL)
    return config


def _combiner_read(config: ConfigDict) -> Sizes | None:
    model = config.model
    if not over_clip.is_over_clip(config) or model.compose.form != "combiner":
        return None
    clip = config.parts.get(over_clip.PART)
    embed = clip.model.embed if isinstance(clip, ConfigDict) else model.embed
    return {
        "embed": embed,
        "projection": model.compose.get("projection", Combiner.projection),
        "hidden": model.compose.get("hidden", Combiner.hidden),
    }


def _combiner_rules(sizes: Sizes) -> list[Rule]:
    del sizes
    table = (
        ("text_projection_layer", "text"), ("image_projection_layer", "image"),
        ("combiner_layer", "hidden"), ("output_layer", "out"),
        ("dynamic_scalar.0", "share_hidden"), ("dynamic_scalar.3", "share"),
    )  # fmt: skip
    return [rule for key, name in table for rule in module_rules(key, f"params/{name}", DENSE)]


def _combiner_expected(config: ConfigDict) -> Tree:
    sizes = _combiner_read(config)
    assert sizes is not None
    row = jax.ShapeDtypeStruct((1, sizes["embed"]), "float32")
    module = Combiner(projection=sizes["projection"], hidden=sizes["hidden"])

    def init(rng, row):
        return module.init(rng, View(row, row), row)

    return jax.eval_shape(init, jax.random.key(0), row)


LAYOUTS = (
    Layout(
        name="CLIP4Cir Combiner",
        net="g",
        sizes=_combiner_sizes,
        config=_combiner_config,
        read=_combiner_read,
        rules=_combiner_rules,
        expected=_combiner_expected,
    ),
    Layout(
        name="TIRG",
        net="g",
        sizes=_sizes,
        config=_config,
        read=_read,
        rules=lambda sizes: tirg_rules(sizes["compose"]),
        expected=_expected,
        join=split_gates,
        part=stack_gates,
        beside=_beside,
    ),
)
