"""What every family's `task.py` needs: modules of a config and their keys, pictures as floats."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen import keys
from jaxgen.errors import UserError, near, shown
from jaxgen.keys import WIDEST, Key, Table

# Fields that the family or Flax fills.
_NOT_SETTINGS = ("parent", "name", "dtype")
_TYPES: dict[str, Any] = {"int": 1, "float": 1.0, "str": "", "bool": False}


def make_module(module: Callable[..., nn.Module], name: str, config: ConfigDict, **settings: Any):
    """`module(**settings)` in the config's dtype; an unknown setting is a UserError.

    name: of the section below `config.model`, for the message.
    """
    try:
        return module(dtype=jnp.dtype(config.train.dtype), **settings)
    except TypeError as error:
        raise UserError(f"config.model.{name}: {str(error).split('__init__() ')[-1]}") from None


def module_keys(
    module: Any,
    given: tuple[str, ...] = (),
    like: tuple[type[nn.Module], ...] = (),
    **limits: Any,
) -> Table:
    """The keys of a config section that makes a module: its fields, and what its docstring says.

    A section may lack those of them that have a default. Integers are 1 or more and numbers 0 or
    more where `limits` says nothing else.

    Args:
      module: the class, or a partial of it, whose arguments are no keys.
      given: fields that the family fills.
      like: other classes whose docstrings describe fields.
      limits: of fields, as `jaxgen.keys.Key` takes them: `head={"choices": ("dense", "pool")}`.
    """
    if isinstance(module, functools.partial):
        given, module = (*given, *module.keywords), module.func
    says: dict[str, str] = {}
    for one in (cls for lead in (*like, module) for cls in reversed(lead.__mro__)):
        says |= _described(one.__dict__.get("__doc__") or "")
    table = {}
    for field in dataclasses.fields(module):
        if field.name in (*_NOT_SETTINGS, *given):
            continue
        table[field.name] = dataclasses.replace(
            _key(str(field.type)),
            says=says.get(field.name, ""),
            needed=field.default is dataclasses.MISSING,
            **limits.get(field.name, {}),
        )
    return table


def _key(kind: str) -> Key:
    if kind.startswith("tuple"):
        return Key((), each=Key(1, least=1, most=WIDEST))
    default = _TYPES[kind]
    if kind == "int":
        return Key(default, least=1, most=WIDEST)
    return Key(default, least=0, most=1e6) if kind == "float" else Key(default)


def _described(doc: str) -> dict[str, str]:
    """Name -> text of a docstring's block "Attributes:"."""
    block = doc.partition("Attributes:")[2].split("\n\n")[0]
    found = {}
    for names, text in re.findall(r"^ {6}((?:\w+, )*\w+): (.*(?:\n {8,}.*)*)", block, re.MULTILINE):
        for name in names.split(", "):
            found[name] = " ".join(text.split()).rstrip(".")
    return found


def module_of(config: ConfigDict, section: str, forms: Mapping[str, Any]) -> Any:
    """The module that `config.model.<section>.form` names.

    Raises:
      UserError: there is none.
    """
    settings = config.model
    for name in section.split("."):
        settings = settings.get(name) if isinstance(settings, ConfigDict) else None
    if not isinstance(settings, ConfigDict):
        raise UserError(f"config key model.{section} must be a section, not {shown(settings)}")
    form = settings.get("form")
    keys.check_value(f"model.{section}.form", form, Key("", choices=tuple(forms)))
    return forms[form]


def with_own(kind: Table, **own: Any) -> Table:
    """The sections of a kind of family with a family's own keys in `model`."""
    return {**kind, "model": {**kind["model"], **own}}


def choose(kinds: Mapping[str, Any], kind: str, what: str) -> Any:
    """kinds[kind], or a UserError that lists them."""
    if kind not in kinds:
        raise UserError(
            f"unknown {what} {shown(kind)}; there are {', '.join(kinds)}{near(str(kind), kinds)}"
        )
    return kinds[kind]


def to_float(images: jax.Array) -> jax.Array:
    """uint8 [0, 255] -> float32 [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1.0
