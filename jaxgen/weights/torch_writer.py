"""State dicts as `torch.save` writes them, written without PyTorch."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping

import numpy as np

from jaxgen.errors import UserError
from jaxgen.weights.torch_names import STORAGES

_KINDS = {dtype: name for name, dtype in STORAGES.items() if name != "UntypedStorage"}
_ROOT = "archive"


def dumps(tensors: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a file that `torch.load` reads as a dict of these tensors.

    Raises:
      UserError: a tensor has a dtype that PyTorch has not.
    """
    code, buffer = [b"\x80\x02}("], io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for number, (name, value) in enumerate(tensors.items()):
            array = np.asarray(value, order="C")
            array = array.astype(array.dtype.newbyteorder("<"), copy=False)
            code += [_atom(name), _tensor(name, array, str(number))]
            _add(file, f"data/{number}", array.tobytes())
        _add(file, "data.pkl", b"".join([*code, b"u."]))
        _add(file, "byteorder", b"little")
        _add(file, "version", b"3\n")
    return buffer.getvalue()


def _add(file: zipfile.ZipFile, name: str, data: bytes) -> None:
    # Without the time: the same tensors are the same bytes.
    file.writestr(zipfile.ZipInfo(f"{_ROOT}/{name}"), data)


def _tensor(name: str, array: np.ndarray, key: str) -> bytes:
    """`_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)` as a pickle."""
    if array.dtype not in _KINDS:
        raise UserError(f"tensor {name} has dtype {array.dtype}, which PyTorch has not")
    kind = _global("torch", _KINDS[array.dtype])
    parts = (_atom("storage"), kind, _atom(key), _atom("cpu"), _atom(array.size))
    strides = tuple(step // array.itemsize for step in array.strides)
    arguments = (
        b"(" + b"".join(parts) + b"tQ",
        _atom(0),
        _atom(array.shape),
        _atom(strides),
        _atom(False),
        _global("collections", "OrderedDict") + b")R",
    )
    return _global("torch._utils", "_rebuild_tensor_v2") + b"(" + b"".join(arguments) + b"tR"


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _atom(value: str | int | bool | tuple[int, ...]) -> bytes:
    return pickle.dumps(value, protocol=2)[2:-1]  # without the header and the end
