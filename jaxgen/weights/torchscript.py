"""The tensors of a TorchScript archive, what `torch.jit.save` writes; read without PyTorch.

OpenAI's CLIP is published so. The archive is a zip file: `data.pkl` is a pickle of the modules, of
which `code/` holds the programs and `data/` the numbers. Nothing in it is run: the pickle may name
the classes listed here only, and modules become plain dicts of their attributes.
"""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

# What such an archive has and a file of `torch.save` has not.
_TELLING = "constants.pkl"
_DTYPES: dict[str, np.dtype] = {
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "BoolStorage": np.dtype("?"),
    "ByteStorage": np.dtype("<u1"),
    "CharStorage": np.dtype("<i1"),
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "IntStorage": np.dtype("<i4"),
    "LongStorage": np.dtype("<i8"),
    "ShortStorage": np.dtype("<i2"),
}
# A module's class in the program: its names of parameters and buffers are all that is read of it.
_CLASS = r"^class {name}\(Module\):\n(?P<body>(?:[ \t].*\n|\n)*)"
_LISTED = re.compile(r"^  __(?:parameters|buffers)__ = \[(?P<names>[^\]]*)\]", re.MULTILINE)


def is_archive(path: Path) -> bool:
    """Whether a file is a zip file with what only `torch.jit.save` writes."""
    try:
        with zipfile.ZipFile(path) as file:
            return any(name.rpartition("/")[2] == _TELLING for name in file.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def read(path: Path) -> dict[str, np.ndarray]:
    """Parameters and buffers by their dotted names, as `torch.jit.load(path).state_dict()`.

    Raises:
      pickle.UnpicklingError: the pickle names what no tensor or module needs.
      Exception: of another kind, where the archive is damaged.
    """
    with zipfile.ZipFile(path) as file:
        root = next(n for n in file.namelist() if n.rpartition("/")[2] == _TELLING)
        archive = _Archive(file, root.removesuffix(_TELLING))
        found: dict[str, np.ndarray] = {}
        _collect(archive.load(), archive, "", found)
    return found


class _Module:
    """A module of the archive: its attributes, and the name of its class."""

    kind = ""
    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Archive(pickle.Unpickler):
    """Reads `data.pkl`, and the numbers where it points at them."""

    def __init__(self, file: zipfile.ZipFile, root: str):
        self._file, self._root = file, root
        self._numbers: dict[tuple[str, str], np.ndarray] = {}
        self._names: dict[str, frozenset[str]] = {}
        if f"{root}byteorder" in file.namelist() and file.read(f"{root}byteorder") != b"little":
            raise ValueError("its numbers are big-endian")
        super().__init__(io.BytesIO(file.read(f"{root}data.pkl")))

    def find_class(self, module: str, name: str) -> Any:
        """One of the few things that tensors and modules are made of."""
        if module == "__torch__" or module.startswith("__torch__."):
            return type("_Module", (_Module,), {"kind": f"{module}.{name}"})
        if module == "torch" and name in _DTYPES:
            return name
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a tensor or a module")

    def persistent_load(self, pid: Any) -> np.ndarray:
        """("storage", its type, its key, device, number of elements) -> the numbers, (n,)."""
        _, kind, key, *_ = pid
        if (kind, key) not in self._numbers:
            data = self._file.read(f"{self._root}data/{key}")
            self._numbers[kind, key] = np.frombuffer(data, _DTYPES[kind])
        return self._numbers[kind, key]

    def names(self, kind: str) -> frozenset[str]:
        """The parameters and buffers of a class of modules; its other tensors are no weights."""
        if kind not in self._names:
            place, _, name = kind.rpartition(".")
            program = self._file.read(f"{self._root}code/{place.replace('.', '/')}.py").decode()
            body = re.search(_CLASS.format(name=re.escape(name)), program, re.MULTILINE)
            lists = _LISTED.finditer(body["body"]) if body else ()
            self._names[kind] = frozenset(
                name for one in lists for name in re.findall(r'"([^"]*)"', one["names"])
            )
        return self._names[kind]


def _collect(module: Any, archive: _Archive, prefix: str, found: dict[str, np.ndarray]) -> None:
    """Adds a module's tensors and those of the modules in it to `found`."""
    if not isinstance(module, _Module) or not isinstance(module.state, Mapping):
        return
    names = archive.names(module.kind)
    for name, value in module.state.items():
        if isinstance(value, np.ndarray) and name in names:
            found[f"{prefix}{name}"] = value
        _collect(value, archive, f"{prefix}{name}.", found)


def _tensor(
    numbers: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *rest: Any
) -> np.ndarray:
    """A view of a storage's numbers, as `torch._utils._rebuild_tensor_v2` makes it."""
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    inside = min((offset, *shape, *strides)) >= 0 and (0 in shape or last < numbers.size)
    if not inside:  # NumPy would read the memory beyond
        raise ValueError(f"a tensor {shape} lies outside of its {numbers.size} numbers")
    size = numbers.itemsize
    view = np.lib.stride_tricks.as_strided(
        numbers[offset:], shape, [step * size for step in strides], writeable=False
    )
    if view.size == numbers.size and view.flags.c_contiguous:
        return view
    return np.array(view, order="C")  # a tensor that is kept must not keep all of its storage


def _first(value: Any, *rest: Any) -> Any:
    return value


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch", "device"): _first,
    ("collections", "OrderedDict"): dict,
    # Attributes that are lists or dicts; none of them is a weight.
    ("torch.jit._pickle", "build_intlist"): _first,
    ("torch.jit._pickle", "build_tensorlist"): _first,
    ("torch.jit._pickle", "build_doublelist"): _first,
    ("torch.jit._pickle", "build_boollist"): _first,
    ("torch.jit._pickle", "restore_type_tag"): _first,
}
