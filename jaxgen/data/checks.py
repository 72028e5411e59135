"""What the checks of every `data` section share: keys, choices and least values."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxgen.errors import UserError


def check_keys(section: ConfigDict, known: ConfigDict, name: str, start: str) -> None:
    """Refuses unknown and missing keys, in sections below too.

    Args:
      known: the section with every key that there is.
      name: of the section in the config, such as "data".
      start: what gives a complete section, for the message.

    Raises:
      UserError: naming the key.
    """
    for key in section:
        if key not in known:
            near = difflib.get_close_matches(key, list(known), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"unknown config key {name}.{key}{hint}")
    for key, value in known.items():
        if key not in section:
            raise UserError(f"config key {name}.{key} is missing; start from {start}")
        if isinstance(value, ConfigDict):
            if not isinstance(section[key], ConfigDict):
                raise UserError(f"config key {name}.{key} must be a section, not {section[key]!r}")
            check_keys(section[key], value, f"{name}.{key}", start)


def check_choices(section: ConfigDict, choices: Mapping[str, Sequence[Any]]) -> None:
    """Raises UserError where a key of `data` has none of its possible values."""
    for key, possible in choices.items():
        if section[key] not in possible:
            raise UserError(
                f"data.{key} must be one of {', '.join(possible)}, not {section[key]!r}"
            )


def check_least(section: ConfigDict, least: Mapping[str, float]) -> None:
    """Raises UserError where a number of `data` is below its least value."""
    for key, value in least.items():
        if section[key] < value:
            raise UserError(f"data.{key} must be at least {value}, not {section[key]}")
