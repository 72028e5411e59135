"""Pickles written by hand, as PyTorch writes them: what its own writer never would, too."""

import pickle
import zipfile
from typing import NamedTuple

import numpy as np

DTYPES = {"FloatStorage": np.float32, "HalfStorage": np.float16, "LongStorage": np.int64}


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
