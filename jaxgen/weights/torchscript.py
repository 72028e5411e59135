"""The tensors of a TorchScript archive, what `torch.jit.save` writes; read without PyTorch.

OpenAI's CLIP is published so. The archive is a zip file: `data.pkl` is a pickle of the modules, of
which `code/` holds the programs and `data/` the numbers. Nothing in it is run: the pickle may name
the classes listed here only, and modules become plain dicts of their attributes.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.weights.pickles import Maker, Stateful
from jaxgen.weights.torch_files import Archive
from jaxgen.weights.torch_names import Tensor, find, first

# Attributes of modules within modules; a module may lie in many, or in itself.
_MOST_ATTRIBUTES, _LONGEST_NAME = 1 << 20, 1 << 12
# A module's class in the program: its names of parameters and buffers are all that is read of it.
_CLASS = r"^class {name}\(Module\):\n(?P<body>(?:[ \t].*\n|\n)*)"
_LISTED = re.compile(r"^  __(?:parameters|buffers)__ = \[(?P<names>[^\]]*)\]", re.MULTILINE)


def read(path: Path) -> dict[str, np.ndarray]:
    """Parameters and buffers by their dotted names, as `torch.jit.load(path).state_dict()`.

    Raises:
      UnsafePickleError: the pickle names what no tensor or module needs.
      Exception: of another kind, where the archive is damaged.
    """
    with zipfile.ZipFile(path) as file:
        archive = Archive(file, "constants.pkl", path.stat().st_size)
        found: dict[str, Tensor] = {}
        programs = _Programs(archive)
        waiting, left = [("", archive.load(_find))], _MOST_ATTRIBUTES
        while waiting:
            prefix, module = waiting.pop()
            if not isinstance(module, _Module) or not isinstance(module.state, Mapping):
                continue
            left -= 1 + len(module.state)
            if left < 0 or len(prefix) > _LONGEST_NAME:
                raise ValueError("its modules lie in each other without end")
            names = programs.names(module.kind)
            for name, value in module.state.items():
                if isinstance(value, Tensor) and name in names:
                    found[f"{prefix}{name}"] = value
                elif isinstance(value, _Module):
                    waiting.append((f"{prefix}{name}.", value))
        return {name: tensor.read() for name, tensor in found.items()}


class _Module(Stateful):
    """A module of the archive: its attributes, and the name of its class."""

    state: Any = None

    def __init__(self, kind: str):
        self.kind = kind

    def set_state(self, state: Any) -> None:
        self.state = state


class _Programs:
    """What the programs of an archive say of its classes; they are not run."""

    def __init__(self, archive: Archive):
        self._archive = archive
        self._texts: dict[str, str] = {}
        self._names: dict[str, frozenset[str]] = {}

    def names(self, kind: str) -> frozenset[str]:
        """The parameters and buffers of a class of modules; its other tensors are no weights."""
        if kind not in self._names:
            place, _, name = kind.rpartition(".")
            if place not in self._texts:
                entry = f"code/{place.replace('.', '/')}.py"
                self._texts[place] = self._archive.entry(entry).decode()
            text = self._texts[place]
            body = re.search(_CLASS.format(name=re.escape(name)), text, re.MULTILINE)
            lists = _LISTED.finditer(body["body"]) if body else ()
            self._names[kind] = frozenset(
                name for one in lists for name in re.findall(r'"([^"]*)"', one["names"])
            )
        return self._names[kind]


# Attributes that are lists or dicts; none of them is a weight.
_ATTRIBUTES = (
    "build_intlist",
    "build_tensorlist",
    "build_doublelist",
    "build_boollist",
    "restore_type_tag",
)


def _find(module: str, name: str) -> Any:
    """One of the few things that tensors and modules are made of."""
    if module == "__torch__" or module.startswith("__torch__."):
        return Maker(lambda *_: _Module(f"{module}.{name}"))
    if module == "torch.jit._pickle" and name in _ATTRIBUTES:
        return Maker(first)
    return find(module, name)
