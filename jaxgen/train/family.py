"""From a config to its family's Task, by the folder's name: the trainer imports no family."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from ml_collections import ConfigDict

from jaxgen.errors import UserError
from jaxgen.task import Task


def load_task(config: ConfigDict) -> Task:
    """The family's Task for this config.

    Raises:
      UserError: no such family.
    """
    return _family(config).make_task(config)


def resolve(config: ConfigDict) -> ConfigDict:
    """The config with what the training data decide filled in, where the family has such.

    A text-to-image family fills in the tokenizer. A run's config.json is thus all that it takes to
    use its weights.
    """
    fill = getattr(_family(config), "resolve", None)
    return config if fill is None else fill(config)


def _family(config: ConfigDict) -> Any:
    name = f"jaxgen.models.{config.family}"
    if not config.family or importlib.util.find_spec(name) is None:
        raise UserError(
            f"unknown family {config.family!r}; families are the folders of jaxgen/models"
        )
    return importlib.import_module(name)
