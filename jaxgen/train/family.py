"""From a config to its family's Task, by the folder's name: the trainer imports no family."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from jaxgen.errors import UserError
from jaxgen.task import Task
from jaxgen.weights.parts import Part, Wanted, arrays


def load_task(config: ConfigDict, parts: Mapping[str, Part] = MappingProxyType({})) -> Task:
    """The family's Task for this config, with the nets of its parts in `frozen`.

    Args:
      parts: what `jaxgen.weights.parts.gather` found, for a family that takes parts.

    Raises:
      UserError: no such family.
    """
    family = _family(config)
    if not hasattr(family, "parts"):
        return family.make_task(config)
    task = family.make_task(config, parts)
    return dataclasses.replace(task, frozen={**task.frozen, **arrays(parts)})


def wanted_parts(config: ConfigDict) -> dict[str, Wanted]:
    """What trained models the family takes as `config.parts`, by name; {} for most families.

    A family that takes some has a function `parts(config)` that says so, and gets them as second
    argument of `make_task` and `verbs`.

    Raises:
      UserError: no such family.
    """
    ask = getattr(_family(config), "parts", None)
    return {} if ask is None else dict(ask(config))


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
