"""Weight files of frozen networks: the choice `file:PATH` and files of our own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen import weights as weights_lib
from jaxgen.errors import UserError


def read_choice(weights: str, where: str) -> weights_lib.Tensors:
    """Tensors of the file that a perceptual choice "file:PATH" names.

    Args:
      weights: the choice; "random" and "none" are the caller's matter.
      where: where to get the file, for the error.

    Raises:
      UserError: not such a choice, or no such file.
    """
    if not weights.startswith("file:"):
        raise UserError(f'perceptual weights are "file:PATH", "random" or "none", not {weights!r}')
    path = Path(weights.removeprefix("file:")).expanduser()
    if not path.is_file():
        raise UserError(f"no perceptual weights at {path}: {where}")
    return weights_lib.read_tensors(path)


def own_tensors(tensors: Mapping[str, np.ndarray], net: str) -> weights_lib.Tensors | None:
    """The tensors below `net` in a file of ours ("vgg19/conv1_1/kernel"), or None if it has none.

    Returns: {"conv1_1/kernel": array}.
    """
    start = f"{net}/"
    own = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
    return own or None


def checked_tree(own: Mapping[str, np.ndarray], expected: weights_lib.Tree) -> dict[str, Any]:
    """Flat tensors of ours -> a tree like `expected`, float32.

    Raises:
      UserError: names every missing, extra or misshapen tensor.
    """
    rules = [weights_lib.Rule(path, path) for path in weights_lib.flatten(expected)]
    return weights_lib.convert(own, rules, expected)
