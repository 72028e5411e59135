"""Nets from elsewhere: a run, an exported folder, or a weights file in our own layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxgen.errors import UserError
from jaxgen.train.checkpoint import FOLDER, load_for_use

WEIGHTS = "weights.safetensors"


def load_nets(source: str | Path, nets: tuple[str, ...] | None = None) -> dict[str, Any]:
    """{net: variables} of NumPy arrays from any place that holds trained nets.

    Args:
      source: a run's folder (its newest checkpoint's averages), an exported folder, or a
        `.safetensors` file that `jaxgen export` wrote.
      nets: names of the nets; None: all.

    Raises:
      UserError: nothing of this kind is there.
    """
    from jaxgen.weights import read_tree

    path = Path(source)
    if (path / FOLDER).is_dir():
        return load_for_use(path, nets=nets)[0]
    file = path / WEIGHTS if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"{path} is neither a run, nor an exported model, nor a weights file")
    tree = read_tree(file)
    return tree if nets is None else {n: tree[n] for n in nets if n in tree}
