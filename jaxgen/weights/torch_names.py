"""What the pickles in PyTorch's files may name: tensors and storages, dicts, NumPy's arrays.

Every name stands for something of ours (`KNOWN`); PyTorch is not imported, and nothing else of
Python can be reached.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from jaxgen.weights import pickles
from jaxgen.weights.pickles import Maker, Stateful, UnsafePickleError

_DTYPES: dict[str, np.dtype] = {
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "bool": np.dtype("?"),
    "complex64": np.dtype("<c8"),
    "complex128": np.dtype("<c16"),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e4m3fnuz": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "float8_e5m2fnuz": np.dtype(ml_dtypes.float8_e5m2fnuz),
} | {
    f"{kind}{bits}": np.dtype(f"<{kind[0]}{bits // 8}")
    for kind, sizes in (
        ("float", (16, 32, 64)),
        ("int", (8, 16, 32, 64)),
        ("uint", (8, 16, 32, 64)),
    )
    for bits in sizes
}
STORAGES: dict[str, np.dtype] = {
    f"{name}Storage": _DTYPES[dtype]
    for name, dtype in (
        ("BFloat16", "bfloat16"),
        ("Bool", "bool"),
        ("Byte", "uint8"),
        ("Char", "int8"),
        ("ComplexDouble", "complex128"),
        ("ComplexFloat", "complex64"),
        ("Double", "float64"),
        ("Float", "float32"),
        ("Half", "float16"),
        ("Int", "int32"),
        ("Long", "int64"),
        ("Short", "int16"),
        ("Untyped", "uint8"),
    )
}


@dataclasses.dataclass(frozen=True)
class StorageKind:
    """A class of storages, as a pickle names it."""

    dtype: np.dtype


@dataclasses.dataclass(frozen=True, eq=False)
class Storage:
    """Numbers of a file, read when they are asked for.

    numbers: gives them, (size,).
    room: bytes that tensors of the file may still copy, one for all its storages.
    """

    dtype: np.dtype
    size: int
    numbers: Callable[[], np.ndarray]
    room: list[int]


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A view of a storage, as `torch._utils._rebuild_tensor_v2` makes it.

    dtype: its own where the storage is of bytes; offset and strides count its elements.
    """

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self) -> np.ndarray:
        """The numbers, of the tensor's shape; not writable.

        Raises:
          ValueError: they lie outside of the storage, or are more than it has.
        """
        numbers = self.storage.numbers()
        if numbers.dtype != self.dtype:
            numbers = numbers.view(self.dtype)
        pairs = list(zip(self.shape, self.strides, strict=True))
        last = self.offset + sum((n - 1) * step for n, step in pairs)
        inside = min((self.offset, *self.shape, *self.strides)) >= 0
        empty = 0 in self.shape
        if not inside or not (empty or last < numbers.size):  # NumPy would read the memory beyond
            raise ValueError(f"a tensor {self.shape} lies outside of its {numbers.size} numbers")
        if empty:
            return np.zeros(self.shape, self.dtype)
        # Of what is expanded the stride is 0, and each number is there several times.
        if math.prod(n for n, step in pairs if step) > numbers.size:
            raise ValueError(f"a tensor {self.shape} of {numbers.size} numbers overlaps itself")
        size = numbers.itemsize
        view = np.ndarray(
            self.shape,
            self.dtype,
            numbers.view(np.uint8),  # float8 has no buffers of its own
            self.offset * size,
            [step * size for step in self.strides],
        )
        if view.size == numbers.size and view.flags.c_contiguous:
            return view
        self.storage.room[0] -= view.nbytes
        if self.storage.room[0] < 0:
            raise ValueError("its tensors have many times the numbers that it holds")
        return np.array(view, order="C")  # a tensor that is kept must not keep all of its storage


def leaf(value: Any) -> Tensor | NumPyArray | None:
    """The value, if it has numbers to read."""
    return value if isinstance(value, (Tensor, NumPyArray)) else None


# --------------------------------------------------------------------------------------- the names


# Of a tensor: its offset, and a size and a stride for each of the dimensions that NumPy may have.
_MOST_NUMBERS = 1 + 2 * 64
# Lightning before 1.5 has the states of its callbacks under their classes.
_CALLBACKS = "pytorch_lightning.callbacks."


def tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Tensor:
    """`torch._utils._rebuild_tensor_v2`; what follows says nothing of the numbers."""
    return _tensor_of(storage.dtype, storage, offset, shape, strides)


def _tensor_3(
    storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
) -> Tensor:
    """`torch._utils._rebuild_tensor_v3`: of a dtype that has no storages of its own."""
    if not isinstance(dtype, np.dtype):
        raise ValueError("a tensor without a dtype")
    return _tensor_of(dtype, storage, offset, shape, strides)


def _tensor_of(dtype: np.dtype, storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
    numbers = (offset, *shape, *strides)
    whole = all(type(n) is int and -1 << 63 <= n < 1 << 63 for n in numbers)
    if not isinstance(storage, Storage) or not whole or len(numbers) > _MOST_NUMBERS:
        raise ValueError("a tensor without numbers")
    return Tensor(storage, dtype, offset, tuple(shape), tuple(strides))


def first(value: Any, *rest: Any) -> Any:
    """Of a call whose first argument is what it gives, for us."""
    return value


def _latin(text: Any, encoding: Any) -> bytes:
    """`_codecs.encode`, by which bytes are written in pickles of protocol 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("an encoding that no bytes have")
    return text.encode("latin-1")


class _NumPyKind(Stateful):
    """`numpy.dtype` of numbers; its state is (version, byte order, ...)."""

    def __init__(self, name: Any, *rest: Any):
        known = [f"{kind}{size}" for kind in "iufc" for size in (1, 2, 4, 8, 16)]
        if name not in (*known, "b1"):
            raise UnsafePickleError("NumPy arrays of other things than numbers")
        self.dtype = np.dtype(f"<{name}")

    def set_state(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", "|"):
            raise ValueError("its numbers are big-endian")


class _Settings(Stateful):
    """What a training script was called with; of no use here."""

    def set_state(self, state: Any) -> None:
        pass


class NumPyArray(Stateful):
    """`numpy.ndarray`; its state is (version, shape, dtype, whether Fortran's order, bytes)."""

    _value = np.zeros(0)

    def read(self) -> np.ndarray:
        """The array."""
        return self._value

    def set_state(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        numbers = np.frombuffer(_bytes(data), _dtype(kind))
        self._value = numbers.reshape(shape, order="F" if fortran else "C")


def _bytes(data: Any) -> bytes:
    if not isinstance(data, (str, bytes)):
        raise ValueError("an array without numbers")
    return data.encode("latin-1") if isinstance(data, str) else data


def _dtype(kind: Any) -> np.dtype:
    if not isinstance(kind, _NumPyKind):
        raise ValueError("an array without a dtype")
    return kind.dtype


def _scalar(kind: Any, data: Any) -> Any:
    """`numpy.core.multiarray.scalar`."""
    return np.frombuffer(_bytes(data), _dtype(kind), 1)[0].item()


def _dict(items: Any = ()) -> dict:
    pairs = items.items() if isinstance(items, dict) else items
    return {pickles.key(name): value for name, value in pairs}


def _set(items: Any = ()) -> set:
    return set(map(pickles.key, items))


KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Maker(_dict),
    ("collections", "Counter"): Maker(_dict),  # a learning rate's milestones
    ("argparse", "Namespace"): Maker(_Settings),
    ("torch._utils", "_rebuild_tensor"): Maker(tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Maker(tensor),
    ("torch._utils", "_rebuild_tensor_v3"): Maker(_tensor_3),
    ("torch._utils", "_rebuild_parameter"): Maker(first),
    ("torch", "Size"): Maker(first),
    ("torch", "device"): Maker(first),
    ("torch.storage", "UntypedStorage"): StorageKind(np.dtype("<u1")),
    ("_codecs", "encode"): Maker(_latin),
    ("numpy", "dtype"): Maker(_NumPyKind),
    ("numpy", "ndarray"): "numpy.ndarray",
}
KNOWN |= {(place, "set"): Maker(_set) for place in ("builtins", "__builtin__")}
KNOWN |= {("torch", name): StorageKind(dtype) for name, dtype in STORAGES.items()}
KNOWN |= {("torch", name): dtype for name, dtype in _DTYPES.items()}
# Of NumPy 1 and 2.
for _place in ("numpy.core.multiarray", "numpy._core.multiarray"):
    KNOWN[_place, "scalar"] = Maker(_scalar)
    KNOWN[_place, "_reconstruct"] = Maker(lambda *_: NumPyArray())


def find(module: str, name: str) -> Any:
    """What stands for a name in a pickle.

    Raises:
      UnsafePickleError: it is none of those that weights need.
    """
    if module.startswith(_CALLBACKS):
        return f"{module}.{name}"  # a text: nothing that can be called
    if (module, name) not in KNOWN:
        raise UnsafePickleError(f"{module}.{name}")
    return KNOWN[module, name]
