"""What every family's `task.py` needs: modules of a config, choices by name, pictures as floats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.errors import UserError


def make_module(module: Callable[..., nn.Module], name: str, config: ConfigDict, **settings: Any):
    """`module(**settings)` in the config's dtype; an unknown setting is a UserError.

    name: of the section below `config.model`, for the message.
    """
    try:
        return module(dtype=jnp.dtype(config.train.dtype), **settings)
    except TypeError as error:
        raise UserError(f"config.model.{name}: {str(error).split('__init__() ')[-1]}") from None


def choose(kinds: Mapping[str, Any], kind: str, what: str) -> Any:
    """kinds[kind], or a UserError that lists them."""
    if kind not in kinds:
        raise UserError(f"unknown {what} {kind!r}; there are {', '.join(kinds)}")
    return kinds[kind]


def to_float(images: jax.Array) -> jax.Array:
    """uint8 [0, 255] -> float32 [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1.0
