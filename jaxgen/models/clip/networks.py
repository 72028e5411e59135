"""CLIP's networks from a config."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from jaxgen.data.captioned import tokenizers
from jaxgen.encoders.clip.model import CLIP
from jaxgen.encoders.clip.resnet import ModifiedResNet
from jaxgen.encoders.clip.text import TextTower
from jaxgen.encoders.clip.vision import VisionTransformer
from jaxgen.errors import UserError
from jaxgen.tasks.common import make_module, module_of

FORMS: dict[str, Any] = {"vit": VisionTransformer, "resnet": ModifiedResNet}


def make_clip(config: ConfigDict) -> CLIP:
    """Net "g" of `config.model`, for pictures of `data.size` and the config's tokenizer.

    Own tokenizers have no id that ends a text, so that one more is added: the largest.

    Raises:
      UserError: settings that don't go together.
    """
    model = config.model
    activation = model.activation
    image = model.image.to_dict()
    form = image.pop("form")
    module = module_of(config, "image", FORMS)
    text = model.text.to_dict()
    ids, context = text.pop("ids", 0), text.pop("context", 0)
    if not ids:
        tokenizer = tokenizers.make_tokenizer(config.data)
        ids, context = tokenizer.size + 1, tokenizer.length + 1
    if text["width"] % text["heads"]:
        raise UserError(f"model.text.width={text['width']} must be a multiple of model.text.heads")
    size = config.data.size
    settings: dict[str, Any] = {"embed": model.embed, "image_size": size, **image}
    if form == "vit":
        settings["activation"] = activation
        if size % image["patch"]:
            raise UserError(f"data.size={size} must be a multiple of model.image.patch")
        if image["width"] % image["heads"]:
            raise UserError(
                f"model.image.width={image['width']} must be a multiple of model.image.heads"
            )
    else:
        settings["layers"] = tuple(image["layers"])
        if size % 32:
            raise UserError(f"data.size={size} must be a multiple of 32 for a resnet")
    return CLIP(
        visual=make_module(module, "image", config, **settings),
        text=make_module(
            TextTower,
            "text",
            config,
            vocabulary=ids,
            context=context,
            activation=activation,
            **text,
        ),
        embed=model.embed,
    )
