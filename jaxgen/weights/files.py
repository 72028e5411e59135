"""Weight files: reading that runs no code from them, and atomic writing. Key maps: `keymap`.

Our own weights are `.safetensors` files whose tensor names are tree paths joined by "/", e.g.
"g/params/conv_in/kernel": readable by any tool, without JAX, Flax or this package.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from jaxgen.errors import UserError
from jaxgen.weights import (
    digests,
    kinds,
    pickles,
    torch_files,
    torch_names,
    torch_writer,
    torchscript,
    wrappers,
)
from jaxgen.weights.keymap import Tensors, Tree, flatten, unflatten

# safetensors' NumPy reader knows no bfloat16.
_SAFETENSORS_DTYPES = {"BOOL": np.dtype(bool), "BF16": np.dtype(ml_dtypes.bfloat16)} | {
    f"{letter}{bits}": np.dtype(f"{kind}{bits}")
    for letter, kind, sizes in (
        ("I", "int", (8, 16, 32, 64)),
        ("U", "uint", (8, 16, 32, 64)),
        ("F", "float", (16, 32, 64)),
    )
    for bits in sizes
}


# ------------------------------------------------------------------------------------- reading


def read_tensors(path: str | os.PathLike[str]) -> Tensors:
    """Reads a weight file as a flat dict of NumPy arrays under the file's own key names.

    `.safetensors`, `.npz`, PyTorch's files and TorchScript archives; which of them it is, its bytes
    say. PyTorch is not needed, and no file can run code. Wrapping dicts (averaged weights before
    raw ones, see `wrappers`) and the prefixes `module.` and `_orig_mod.` are taken off. Of several
    networks side by side the keys begin with the network's: "netG.fc.weight".

    Raises:
      UserError: no such file, no weight file, damaged file, a pickle with code in it, or no tensors
        inside.
    """
    path = Path(path)
    _check_is_file(path)
    tensors = wrappers.unwrap_flat(path, _READERS[_kind_of(path)](path))
    stripped = {wrappers.strip(key): value for key, value in tensors.items()}
    if len(stripped) != len(tensors):
        raise UserError(f"{path}: keys collide once 'module.' and '_orig_mod.' are taken off")
    if unshown := [key for key in stripped if not key.isprintable()]:
        raise UserError(f"{path} is no weight file: a tensor's name is {ascii(unshown[0])[:40]}")
    # PyTorch's averaged models count their averages.
    stripped.pop("n_averaged", None)
    return stripped


def is_safetensors(path: Path) -> bool:
    """Whether a file is one, whatever its name."""
    try:
        return _kind_of(path) == "safetensors"
    except UserError:
        return False


def read_tree(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads what `write_safetensors` wrote: a nested dict of NumPy arrays.

    Raises:
      UserError: no such file, or not a whole safetensors file of ours.
    """
    path = Path(path)
    _check_is_file(path)
    flat = _read_safetensors(path)
    paths = {tuple(key.split("/")) for key in flat}
    if any(key[:i] in paths for key in paths for i in range(1, len(key))):
        raise UserError(f"{path}: a tensor's name is another one's folder; not a jaxgen file")
    return unflatten(flat)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata given to `write_safetensors`, {} if there was none; reads the header only.

    Raises:
      UserError: no such file, or not a safetensors file.
    """
    path = Path(path)
    _check_is_file(path)
    try:
        with safetensors.safe_open(path, framework="np") as file:
            facts = dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    facts.pop(digests.KEY, None)  # the file's own, not the caller's
    return facts


def parse_json(text: str | None) -> dict[str, Any]:
    """An object in a weights file's metadata: metrics, verbs; {} where there is none."""
    try:
        return dict(json.loads(text or "{}"))
    except (json.JSONDecodeError, TypeError, ValueError):
        return {}


def parse_number(text: str | None) -> int:
    """A count in a weights file's metadata; 0 where there is none."""
    return int(text) if text and text.isdigit() else 0


def _check_is_file(path: Path) -> None:
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise UserError(f"weight file {path} {what}; check the path")


def _damaged(path: Path, error: Exception) -> UserError:
    if isinstance(error, OSError) and error.strerror:  # permissions, a failing disk: no damage
        return UserError(f"cannot read {path}: {error.strerror}; nothing was changed")
    reason = _shown(" ".join(f"{type(error).__name__} {error}"[:1000].split()))
    return UserError(f"cannot read weights from {path}: {reason}; fetch or export the file again")


def _read_safetensors(path: Path) -> Tensors:
    """Views of the file's bytes, which are in memory once."""
    try:
        data = path.read_bytes()
        digests.check_signed(path, data)
        with safetensors.safe_open(path, framework="np"):
            pass  # the header is whole, and its places lie side by side within the file
        start = 8 + int.from_bytes(data[:8], "little")
        entries = json.loads(data[8:start])
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    entries.pop("__metadata__", None)
    tensors = {}
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        dtype = _SAFETENSORS_DTYPES.get(entry["dtype"])
        if dtype is None:
            raise UserError(
                f"{path}: tensor {name} has dtype {entry['dtype']}, which jaxgen does not read; "
                "save it as float32, float16 or bfloat16"
            )
        first, last = entry["data_offsets"]
        size = (last - first) // dtype.itemsize
        array = np.frombuffer(data, dtype, size, start + first) if size else np.empty(0, dtype)
        tensors[name] = array.reshape(entry["shape"])
    return tensors


def _read_npz(path: Path) -> Tensors:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except Exception as error:  # zip, zlib, header and pickle errors share no base class
        raise _damaged(path, error) from error


def _kind_of(path: Path) -> str:
    try:
        return kinds.kind_of(path)
    except UserError:
        raise
    except Exception as error:  # of zip files there are many
        raise _damaged(path, error) from error


def _read_torchscript(path: Path) -> Tensors:
    with _reading(path):
        tensors = torchscript.read(path)
    if not tensors:
        raise UserError(f"{path} is a TorchScript archive without parameters")
    return tensors


def _read_torch(path: Path) -> Tensors:
    with _reading(path), torch_files.opened(path) as content:
        if not isinstance(content, Mapping):
            what = type(content).__name__
            raise UserError(f"{path} holds a {what}, not a dict of tensors")
        tensors = wrappers.unwrap(path, content, torch_names.leaf)
        if not tensors:
            keys = ", ".join(_shown(str(key)) for key in list(content)[:8])
            raise UserError(f"{path} has no tensors, only: {keys or 'nothing'}")
        return {key: tensor.read() for key, tensor in tensors.items()}


def _shown(text: str) -> str:
    """A text of a file, which may hold anything, to be printed within a line."""
    return "".join(c if c.isprintable() else "?" for c in text[:200])


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What goes wrong in a file that may be hostile, as one line."""
    try:
        yield
    except UserError:
        raise
    except pickles.UnsafePickleError as error:
        raise UserError(
            f"{path} asks for {_shown(str(error))}, which is no part of weights: it holds code, "
            "which jaxgen never runs, or is damaged; where you trust it, save only its weights: "
            "torch.save(model.state_dict(), PATH)"
        ) from error
    except Exception as error:  # zip, zlib, pickle and shape errors share no base class
        raise _damaged(path, error) from error


_READERS = {
    "safetensors": _read_safetensors,
    "npz": _read_npz,
    "torchscript": _read_torchscript,
    "torch": _read_torch,
}


# ------------------------------------------------------------------------------------- writing


def write_safetensors(
    path: str | os.PathLike[str], tree: Tree, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a nested dict of arrays (NumPy or fully addressable JAX) as one safetensors file.

    The file appears whole or not at all: it is written beside its place, flushed to the disk, then
    renamed over it. A file that was there before survives any failure.

    Raises:
      UserError: no space, no permission, no such directory; or an empty tree.
    """
    # order="C" and not ascontiguousarray, which would turn scalars into vectors.
    arrays = {k: np.asarray(v, order="C") for k, v in flatten(tree).items()}
    if not arrays:
        raise UserError(f"nothing to write to {path}: the tree has no arrays")
    facts = dict(metadata or {})
    if digests.skipped():
        _write_whole(Path(path), safetensors.numpy.save(arrays, facts))
    else:
        blank = safetensors.numpy.save(arrays, {**facts, digests.KEY: digests.BLANK})
        _write_whole(Path(path), digests.sign(blank))


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a flat dict of arrays for PyTorch: `.safetensors`, or `.pth` and `.pt`.

    A `.pth` holds the bare state dict: `model.load_state_dict(torch.load(path))`. Whole or not at
    all, as `write_safetensors`.

    Raises:
      UserError: another suffix, or as `write_safetensors`.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return write_safetensors(path, tensors)
    if path.suffix not in (".pth", ".pt"):
        raise UserError(f"{path}: weights for PyTorch end in .safetensors, .pth or .pt")
    _write_whole(path, torch_writer.dumps(tensors))


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder to write in; at the end it becomes `folder`, whole or not at all.

    What was there before is replaced, and survives any failure.

    Raises:
      UserError: it can't be written.
    """
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        partial.mkdir(parents=True)
        yield partial
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    except OSError as error:
        raise UserError(
            f"cannot write {folder}: {error.strerror or error}; choose another folder"
        ) from error
    finally:  # also after Ctrl-C
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _write_whole(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another "
            "folder (a file that was there before is unchanged)"
        ) from error
    finally:  # also after Ctrl-C
        with contextlib.suppress(OSError):
            partial.unlink()
