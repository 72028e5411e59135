"""Pickles written by hand, as PyTorch writes them: what its own writer never would, too."""

import io
import pickle
import zipfile
from typing import NamedTuple

import numpy as np
import pytest

from jaxgen import weights
from jaxgen.errors import UserError

DTYPES = {"FloatStorage": np.float32, "HalfStorage": np.float16, "LongStorage": np.int64}

NUMBERS = np.arange(8, dtype=np.float32)


class Named(NamedTuple):
    """A class or function as a pickle refers to it."""

    module: str
    name: str


class Call(NamedTuple):
    """A call that a pickle asks for."""

    function: Named
    arguments: tuple


class Tensor(NamedTuple):
    storage: str
    key: str
    offset: int
    shape: tuple
    strides: tuple
    size: int  # of the storage


class Module(NamedTuple):
    kind: Named
    state: dict


class Raw(NamedTuple):
    """Operations as they are."""

    code: bytes


def pickled(thing):
    """The part of a pickle, as torch's C++ code writes it, that stands for a thing."""
    if isinstance(thing, Raw):
        return thing.code
    if isinstance(thing, Named):
        return f"c{thing.module}\n{thing.name}\n".encode()
    if isinstance(thing, Call):
        return pickled(thing.function) + pickled(thing.arguments) + pickle.REDUCE
    if isinstance(thing, Module):
        made = pickled(thing.kind) + pickle.EMPTY_TUPLE + pickle.NEWOBJ
        return made + pickled(thing.state) + pickle.BUILD
    if isinstance(thing, Tensor):
        storage = ("storage", Named("torch", thing.storage), thing.key, "cpu", thing.size)
        parts = [pickled(storage) + pickle.BINPERSID, *map(pickled, thing[2:5]), pickled(False)]
        rebuild = pickled(Named("torch._utils", "_rebuild_tensor_v2"))
        rest = pickled(Call(Named("collections", "OrderedDict"), ()))
        return rebuild + pickle.MARK + b"".join([*parts, rest]) + pickle.TUPLE + pickle.REDUCE
    if isinstance(thing, tuple):
        return pickle.MARK + b"".join(map(pickled, thing)) + pickle.TUPLE
    if isinstance(thing, dict):
        items = b"".join(pickled(key) + pickled(value) for key, value in thing.items())
        return pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS
    return pickle.dumps(thing, protocol=2)[2:-1]  # without the header and the end


def whole(key, numbers):
    """The tensor (n,) of a storage with these numbers."""
    kind = next(k for k, dtype in DTYPES.items() if dtype == numbers.dtype)
    return Tensor(kind, key, 0, (numbers.size,), (1,), numbers.size)


def torch_file(path, content, numbers=None, how=zipfile.ZIP_STORED, **entries):
    """A file as `torch.save` writes it, of this content and these storages."""
    entries = {"data.pkl": b"\x80\x02" + pickled(content) + pickle.STOP, **entries}
    entries |= {f"data/{key}": value.tobytes() for key, value in (numbers or {}).items()}
    with zipfile.ZipFile(path, "w", how) as file:
        for name, data in entries.items():
            file.writestr(f"archive/{name}", data)
    return path


def old_file(content=None, machine=None, keys=("0",), numbers=NUMBERS, count=None):
    """A file of the older format, by hand."""
    content = {"w": Raw(pickled(whole("0", NUMBERS)).replace(b"tQ", b"NtQ"))} if content is None \
        else content  # fmt: skip
    parts = [0x1950A86A20F9469CFC6C, 1001, machine or {"little_endian": True}]
    file = io.BytesIO()
    for part in parts:
        file.write(pickle.dumps(part, protocol=2))
    file.write(b"\x80\x02" + pickled(content) + b".")
    file.write(pickle.dumps(list(keys), protocol=2))
    file.write((numbers.size if count is None else count).to_bytes(8, "little", signed=True))
    return file.getvalue() + numbers.tobytes()


def refused(path, reason):
    """Asserts that a file gives one line, which names it and says this."""
    with pytest.raises(UserError) as error:
        weights.read_tensors(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert reason in str(error.value)
