"""What a weight file is, by its bytes: names lie, as `.ckpt` and `.pth.tar` do."""

from __future__ import annotations

import zipfile
from pathlib import Path

from jaxgen.errors import UserError
from jaxgen.weights import torch_files

READABLE = "jaxgen reads .safetensors, .npz, and PyTorch's .pth, .pt, .bin and .ckpt"
# What else lies where weights should be: how it begins, and what to do.
_OTHERS = (
    (b"version https://git-lfs", "is a pointer of Git LFS, not the file: run git lfs pull"),
    (b"<", "is a web page, not weights: fetch the file itself"),
    (b"\x93NUMPY", "is one NumPy array, without a name: save it as .npz, under the tensor's name"),
    (b"\x89HDF", f"is an HDF5 file, such as Keras writes; {READABLE}: save it as .npz"),
    (b"\x1f\x8b", "is compressed by gzip: unpack it first"),
    (b"Rar!", "is a RAR archive: unpack it first"),
    (b"7z\xbc\xaf", "is a 7z archive: unpack it first"),
    (b"GGUF", f"is a GGUF file; {READABLE}"),
)
_TAR = (257, b"ustar")


def kind_of(path: Path) -> str:
    """ "safetensors", "npz", "torchscript" or "torch".

    Raises:
      UserError: it is something else, which is named.
      Exception: of another kind, where it can't be read.
    """
    with open(path, "rb") as file:
        head = file.read(512)
        if torch_files.is_zip(file):
            return _kind_of_zip(path, file)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 28:
        return "safetensors"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "torch"
    raise UserError(f"{path} {_other(head)}")


def _kind_of_zip(path: Path, file: object) -> str:
    with zipfile.ZipFile(file) as entries:  # type: ignore[call-overload]
        names = [name.rpartition("/")[2] for name in entries.namelist()]
    if "data.pkl" in names:
        return "torchscript" if "constants.pkl" in names else "torch"
    if "constants.pkl" in names:  # a TorchScript archive that lost its weights
        return "torchscript"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    raise UserError(f"{path} is a zip archive without weights: unpack it; {READABLE}")


def _other(head: bytes) -> str:
    if not head:
        return "is empty: fetch the file again"
    at, ustar = _TAR
    if head[at : at + len(ustar)] == ustar:
        return "is a tar archive: unpack it; one of PyTorch before 0.2 must be saved again there"
    start = head.lstrip()
    for begins, what in _OTHERS:
        if start.startswith(begins):
            return what
    return f"is an unknown kind of weight file, or damaged; {READABLE}"
