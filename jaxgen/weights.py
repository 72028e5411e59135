"""Weight files and key maps: safe reading, atomic writing, and conversion by a two-way table.

Published PyTorch weights become our parameter trees through a list of `Rule`s, each a pair of
templates such as `Rule("body.{i}.conv.weight", "params/body_{i}/conv/kernel", CONV)`. The same
list read backwards (`to_torch`) gives a state dict that PyTorch loads.

Our own weights are `.safetensors` files whose tensor names are tree paths joined by "/", e.g.
"g/params/conv_in/kernel": readable by any tool, without JAX, Flax or this package.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from jaxgen.errors import UserError

Tree = Mapping[str, Any]
Tensors = dict[str, np.ndarray]

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
# What training scripts wrap a state dict in, the best first: an average beats the raw weights.
_WRAPPERS = ("params_ema", "params", "state_dict")
# Left in the keys by DataParallel and torch.compile.
_PREFIXES = ("module.", "_orig_mod.")
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

    `.safetensors` and `.npz` need NumPy only; `.pth`, `.pt`, `.bin` and `.ckpt` need torch and are
    read with `weights_only=True`, so that no file can run code. Wrapping dicts (`params_ema`, else
    `params`, else `state_dict`) and the prefixes `module.` and `_orig_mod.` are taken off.

    Raises:
      UserError: no such file, unknown suffix, damaged file, a pickle with code in it, torch
        missing, or no tensors inside.
    """
    path = Path(path)
    _check_is_file(path)
    if path.suffix == ".safetensors":
        tensors = _read_safetensors(path)
    elif path.suffix == ".npz":
        tensors = _read_npz(path)
    elif path.suffix in TORCH_SUFFIXES:
        tensors = _read_torch(path)
    else:
        known = ", ".join((".safetensors", ".npz", *TORCH_SUFFIXES))
        raise UserError(f"{path}: unknown kind of weight file; give one that ends in {known}")
    tensors = _unwrap_flat(tensors)
    stripped = {_strip_prefixes(key): value for key, value in tensors.items()}
    if len(stripped) != len(tensors):
        raise UserError(f"{path}: keys collide once 'module.' and '_orig_mod.' are taken off")
    return stripped


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
    return traverse_util.unflatten_dict(flat, sep="/")


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata given to `write_safetensors`, {} if there was none; reads the header only.

    Raises:
      UserError: no such file, or not a safetensors file.
    """
    path = Path(path)
    _check_is_file(path)
    try:
        with safetensors.safe_open(path, framework="np") as file:
            return dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _check_is_file(path: Path) -> None:
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise UserError(f"weight file {path} {what}; check the path")


def _damaged(path: Path, error: Exception) -> UserError:
    reason = " ".join(f"{type(error).__name__} {error}".split())[:200]
    return UserError(f"cannot read weights from {path}: {reason}; fetch or export the file again")


def _read_safetensors(path: Path) -> Tensors:
    try:
        entries = safetensors.deserialize(path.read_bytes())
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    tensors = {}
    for name, entry in entries:
        dtype = _SAFETENSORS_DTYPES.get(entry["dtype"])
        if dtype is None:
            raise UserError(
                f"{path}: tensor {name} has dtype {entry['dtype']}, which jaxgen does not read; "
                "save it as float32, float16 or bfloat16"
            )
        tensors[name] = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    return tensors


def _read_npz(path: Path) -> Tensors:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except Exception as error:  # zip, zlib, header and pickle errors share no base class
        raise _damaged(path, error) from error


def _read_torch(path: Path) -> Tensors:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f'reading {path} needs PyTorch: pip install "jaxgen[torch]", or convert the file to '
            ".safetensors where PyTorch is"
        ) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen unrelated types on bad input
        # torch's own text advises weights_only=False, which runs the file: do not quote it.
        if isinstance(error, pickle.UnpicklingError) or "TorchScript" in str(error):
            raise UserError(
                f"{path} is damaged or holds code, which jaxgen never runs; where you trust it, "
                "save only its weights: torch.save(model.state_dict(), PATH)"
            ) from error
        raise _damaged(path, error) from error
    while isinstance(content, Mapping) and (
        inner := [content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
    ):
        content = inner[0]
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a dict of tensors")
    tensors = {str(k): _to_numpy(v) for k, v in content.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        keys = ", ".join(str(key) for key in list(content)[:8])
        raise UserError(f"{path} has no tensors at its top level, only: {keys or 'nothing'}")
    return tensors


def _to_numpy(tensor: Any) -> np.ndarray:
    import torch

    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:  # torch cannot hand bfloat16 to NumPy
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _unwrap_flat(tensors: Tensors) -> Tensors:
    """Takes the wrapper off files that hold flat names only, such as "params_ema.conv.weight"."""
    if not all(key.partition(".")[0] in _WRAPPERS for key in tensors):
        return tensors
    for wrapper in _WRAPPERS:
        start = f"{wrapper}."
        inner = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
        if inner:
            return _unwrap_flat(inner)
    return tensors


def _strip_prefixes(key: str) -> str:
    while prefix := next((p for p in _PREFIXES if key.startswith(p)), None):
        key = key.removeprefix(prefix)
    return key


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
    path = Path(path)
    # order="C" and not ascontiguousarray, which would turn scalars into vectors.
    arrays = {k: np.asarray(v, order="C") for k, v in flatten(tree).items()}
    if not arrays:
        raise UserError(f"nothing to write to {path}: the tree has no arrays")
    data = safetensors.numpy.save(arrays, dict(metadata or {}))
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


def flatten(tree: Tree) -> dict[str, Any]:
    """{"g": {"params": {"kernel": a}}} -> {"g/params/kernel": a}; empty dicts are left out."""
    return traverse_util.flatten_dict(dict(tree), sep="/")


# ---------------------------------------------------------------------------------- conversion


@dataclasses.dataclass(frozen=True)
class Transform:
    """A change of layout and its inverse; `ndim` is the rank it takes (None: any)."""

    to_jax: Callable[[np.ndarray], np.ndarray]
    to_torch: Callable[[np.ndarray], np.ndarray]
    ndim: int | None = None


NONE = Transform(lambda a: a, lambda a: a)
# (out, in/groups, h, w) <-> (h, w, in/groups, out); depthwise and grouped convolutions too.
CONV = Transform(lambda a: a.transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1), ndim=4)
# (out, in) <-> (in, out)
DENSE = Transform(lambda a: a.T, lambda a: a.T, ndim=2)


def dense_after_flatten(height: int, width: int, channels: int) -> Transform:
    """DENSE for a layer that follows a flattened image: torch flattens (c, h, w), we (h, w, c)."""

    def to_jax(a: np.ndarray) -> np.ndarray:  # (out, c*h*w) -> (h*w*c, out)
        split = a.reshape(a.shape[0], channels, height, width)
        return split.transpose(2, 3, 1, 0).reshape(-1, a.shape[0])

    def to_torch(a: np.ndarray) -> np.ndarray:  # (h*w*c, out) -> (out, c*h*w)
        split = a.reshape(height, width, channels, a.shape[1])
        return split.transpose(3, 2, 0, 1).reshape(a.shape[1], -1)

    return Transform(to_jax, to_torch, ndim=2)


@dataclasses.dataclass(frozen=True)
class Rule:
    """One line of a key map: a PyTorch key, the path in our tree, and the change of layout.

    source, target: templates; `{name}` stands for a number (one or more digits), the same number
      on both sides. The first rule that fits a key is used, in both directions.
    target None: the tensor is known and not needed. There, and only there, `*` in `source` stands
      for any text ("*.num_batches_tracked").
    """

    source: str
    target: str | None
    transform: Transform = NONE

    def __post_init__(self) -> None:
        if self.target is None:
            return
        if "*" in self.source:
            raise ValueError(f"{self.source}: '*' is for tensors that are left out")
        if _fields(self.source) != _fields(self.target):
            raise ValueError(f"{self.source} -> {self.target}: the numbered fields differ")


def module_rules(source: str, target: str, transform: Transform = CONV) -> list[Rule]:
    """The two rules of a layer with weight and bias: convolution (default) or dense."""
    return [
        Rule(f"{source}.weight", f"{target}/kernel", transform),
        Rule(f"{source}.bias", f"{target}/bias"),
    ]


def convert(tensors: Mapping[str, np.ndarray], rules: Sequence[Rule], expected: Tree) -> dict:
    """PyTorch tensors -> our tree, complete and of the right shapes, or one error that lists all.

    Args:
      tensors: what `read_tensors` gave.
      rules: the key map.
      expected: nested dict whose leaves have `shape` and `dtype` (`jax.eval_shape` of the init).

    Returns: nested dict of NumPy arrays like `expected`, in its dtypes.

    Raises:
      UserError: names every missing, extra and misshapen key at once.
    """
    want = flatten(expected)
    found: Tensors = {}
    extra, misshapen = [], []
    for key, tensor in tensors.items():
        rule, target = _match(key, rules, forward=True)
        if rule is not None and target is None:
            continue
        if rule is None or target not in want or target in found:
            extra.append(key)
            continue
        found[target] = tensor
        if rule.transform.ndim not in (None, tensor.ndim):
            misshapen.append(f"{key} {tensor.shape} has not {rule.transform.ndim} dimensions")
            continue
        try:
            array = rule.transform.to_jax(tensor)
        except ValueError:  # dense_after_flatten of another size
            misshapen.append(f"{key} {tensor.shape} does not fit {target} {want[target].shape}")
            continue
        if array.shape != tuple(want[target].shape):
            misshapen.append(
                f"{key} {tensor.shape} gives {array.shape} where {target} is {want[target].shape}"
            )
            continue
        found[target] = np.ascontiguousarray(array.astype(want[target].dtype)).reshape(array.shape)
    sources = {p: _match(p, rules, forward=False)[1] for p in want if p not in found}
    missing = [f"{source or 'no rule'} (for {path})" for path, source in sources.items()]
    _report("weights do not fit", missing=missing, extra=extra, misshapen=misshapen)
    return traverse_util.unflatten_dict({path: found[path] for path in want}, sep="/")


def to_torch(tree: Tree, rules: Sequence[Rule]) -> Tensors:
    """Our tree -> PyTorch's keys and layouts: the inverse of `convert` with the same rules.

    Raises:
      UserError: names every path of the tree that no rule covers.
    """
    tensors: Tensors = {}
    uncovered = []
    for path, value in flatten(tree).items():
        rule, key = _match(path, rules, forward=False)
        if rule is None or key is None:
            uncovered.append(path)
            continue
        tensors[key] = np.asarray(rule.transform.to_torch(np.asarray(value)), order="C")
    _report("the key map has no line for some parameters", uncovered=uncovered)
    return tensors


def _report(summary: str, **problems: list[str]) -> None:
    texts = [
        f"{len(items)} {name}: {', '.join(items)}" for name, items in problems.items() if items
    ]
    if texts:
        raise UserError(f"{summary}: {'; '.join(texts)}")


def _fields(template: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", template))


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"(\{\w+\}|\*)", template)
    seen: set[str] = set()
    regex = ""
    for part in parts:
        if part == "*":
            regex += ".*"
        elif part.startswith("{") and part[1:-1] in seen:
            regex += f"(?P={part[1:-1]})"
        elif part.startswith("{"):
            regex += rf"(?P<{part[1:-1]}>\d+)"
            seen.add(part[1:-1])
        else:
            regex += re.escape(part)
    return re.compile(regex)


def _match(key: str, rules: Sequence[Rule], *, forward: bool) -> tuple[Rule | None, str | None]:
    """The first rule that fits `key` and what `key` becomes under it (None: left out)."""
    for rule in rules:
        have, give = (rule.source, rule.target) if forward else (rule.target, rule.source)
        if have is not None and (match := _pattern(have).fullmatch(key)):
            return rule, None if give is None else give.format(**match.groupdict())
    return None, None
