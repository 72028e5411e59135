"""`config.parts.text`: a text encoder that was trained before and is used as it is."""

from __future__ import annotations

from functools import partial

from ml_collections import ConfigDict

from jaxgen.errors import UserError
from jaxgen.weights.parts import Wanted

# What the numbers of a text's tokens mean; `resolve` fills them in.
_TOKENIZER = ("tokenizer", "vocabulary", "tokenizer_json")


def parts(config: ConfigDict) -> dict[str, Wanted]:
    """What a text-to-image GAN may be made of: the net "text" of a model, or of a file.

    Raises:
      UserError: a part, and a config that trains or replaces the net.
    """
    if given(config):
        if config.model.text.trained_by != "none" or config.model.damsm_steps:
            raise UserError(
                "parts.text is used as it is: set model.text.trained_by=none and "
                "model.damsm_steps=0, or train on from it by train.init_from.text"
            )
        if config.train.init_from.text:
            raise UserError(
                "parts.text and train.init_from.text both give the net 'text'; keep one"
            )
    return {"text": Wanted(nets=("text",), needed=False, fits=partial(same_tokenizer, config))}


def given(config: ConfigDict) -> bool:
    """Whether the text encoder is a part; configs of before parts have no such section."""
    return config.get("parts", {}).get("text", "") != ""


def same_tokenizer(config: ConfigDict, encoder: ConfigDict | None) -> None:
    """Refuses an encoder that reads other tokens than the run's; a lone file does not say."""
    if encoder is None:
        return
    other = [f"data.{key}" for key in _TOKENIZER if encoder.data.get(key) != config.data.get(key)]
    if other:
        raise UserError(
            f"parts.text was trained with another {' and '.join(other)}: its numbers of words are "
            "not this run's; train on the same captions, or set these keys as in its config.json"
        )
