"""The prior's networks from a config's sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxgen.errors import UserError
from jaxgen.nn.transformer import GPT, Bidirectional
from jaxgen.tasks.common import choose, make_module

FORMS = {"gpt": GPT, "maskgit": Bidirectional}


def make_transformer(config: ConfigDict, settings: Mapping[str, Any]) -> GPT | Bidirectional:
    """The transformer of `config.model.form`.

    Args:
      settings: of its section, and its sizes: ids, length, and of a GPT codes.

    Raises:
      UserError: unknown form or setting, or heads that don't divide the width.
    """
    form = choose(FORMS, config.model.form, "model.form")
    width, heads = settings["width"], settings["heads"]
    if width % heads:
        raise UserError(
            f"model.transformer.width={width} must be a multiple of model.transformer.heads={heads}"
        )
    return make_module(form, "transformer", config, **settings)
