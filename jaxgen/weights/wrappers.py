"""Where the weights lie in what training scripts save: wrapping dicts, prefixes, several networks.

Averaged weights come before raw ones wherever both are there, which is said in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from jaxgen.log import log

_AVERAGED = ("params_ema", "params-ema", "ema_state_dict", "state_dict_ema", "model_ema", "ema")
# What dicts are wrapped in, the best first; in flat files such are the first parts of the names.
_WRAPPERS = (*_AVERAGED, "params", "state_dict", "model_state_dict")
# Nested dicts are also named like this; in flat files these are names of layers (ESRGAN's model.0).
_NESTED = (*_WRAPPERS, "model", "net", "network", "Combiner")
# Left in the keys by DataParallel and torch.compile.
_LEFT = ("module.", "_orig_mod.")
# A net among others, or inside of a trainer's module.
_AVERAGED_NETS = ("generator_ema", "netG_ema", "net_g_ema", "G_ema", "g_ema", "ema_model")
_NETS = ("generator", "netG", "net_g", "G", "g", "gen", "model", "net", "network")
# Checkpoints lie no deeper, and have no more tensors.
_DEPTH, _MOST = 4, 1 << 16


def unwrap(path: Any, content: Mapping, leaf: Callable[[Any], Any]) -> dict[str, Any]:
    """The state dict in nested dicts, flat; of several nets side by side the keys begin with the
    net's name: "netG.fc.weight".

    Args:
      path: the file, for the log.
      leaf: a value -> the tensor that it is, or None.

    Returns: {} if there are no tensors.

    Raises:
      ValueError: they are more than any network has.
    """
    content = _inside(path, content, leaf)
    found = _tensors(content, leaf)
    nets: dict[int, dict[str, Any]] = {}
    for name, inner in content.items() if not found else ():
        if not isinstance(inner, Mapping):
            continue
        if id(inner) not in nets:  # one dict may have many names
            nets[id(inner)] = _tensors(_inside(path, inner, leaf), leaf)
        found |= {f"{name}.{strip(key)}": value for key, value in nets[id(inner)].items()}
        if len(found) > _MOST:
            break
    if len(found) > _MOST:
        raise ValueError(f"it has more than {_MOST} tensors")
    return found


def unwrap_flat(path: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    """Takes the wrapper off files that hold flat names only, such as "params_ema.conv.weight"."""
    there = {key.partition(".")[0] for key in tensors}
    if not tensors or not there.issubset(_WRAPPERS):
        return tensors
    best = min(there, key=_WRAPPERS.index)
    _say(path, best, sorted(there - {best}))
    start = f"{best}."
    inner = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
    return unwrap_flat(path, inner)


def strip(key: str) -> str:
    """The key without what DataParallel and torch.compile put before it."""
    while prefix := next((p for p in _LEFT if key.startswith(p)), None):
        key = key.removeprefix(prefix)
    return key


def views(
    tensors: Mapping[str, np.ndarray], depth: int = 2
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """(name, state dict): what may be the net of a file, the likeliest first; named "" as it is.

    Averaged nets, the file as it is, its nets by their usual names, and what all keys lie under;
    of each of the latter, where it is none of ours, the same again.
    """
    there = {key.partition(".")[0]: None for key in tensors if "." in key}
    averaged = _named((*_AVERAGED_NETS, "model_ema", "ema"), there)
    nets = _named(_NETS, there)
    if len(there) == 1 and all("." in key for key in tensors):
        nets = nets or list(there)
    for name in averaged:
        yield name, _under(tensors, name)
    yield "", dict(tensors)
    for name in nets:
        inner = _under(tensors, name)
        yield name, inner
        if depth > 1:
            for within, state in views(inner, depth - 1):
                if within:
                    yield f"{name}.{within}", state


def _named(wanted: tuple[str, ...], there: Mapping[str, None]) -> list[str]:
    """Which of these nets are there, with or without "_state_dict" behind the name."""
    return [name for one in wanted for name in there if name.removesuffix("_state_dict") == one]


def say_view(path: Any, name: str, tensors: Mapping[str, np.ndarray]) -> None:
    """Logs which net of a file was taken, where that leaves others out."""
    outer = name.partition(".")[0]
    others = sorted({key.partition(".")[0] for key in tensors} - {outer})
    if name and others:
        _say(path, name, others)


def _say(path: Any, name: str, others: list[str]) -> None:
    if others:
        last = name.rpartition(".")[2].removesuffix("_state_dict")
        averaged = (*_AVERAGED, *_AVERAGED_NETS)
        what = "the averaged weights, " if last in averaged or name in averaged else ""
        log.warning("%s: takes %s%s; leaves out %s", path, what, name, ", ".join(others))


def _under(tensors: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    start = f"{name}."
    return {strip(k.removeprefix(start)): v for k, v in tensors.items() if k.startswith(start)}


def _inside(path: Any, content: Mapping, leaf: Callable[[Any], Any]) -> Mapping:
    """What lies in the best of the wrapping dicts."""
    for _ in range(_DEPTH):
        names = [n for n in _NESTED if n in content and _holds(content[n], leaf)]
        if not names:
            break
        best = names[0]
        if best in _AVERAGED:
            _say(path, best, names[1:])
        content = content[best]
    return content


def _holds(content: Any, leaf: Callable[[Any], Any]) -> bool:
    """Whether there is a tensor in the dicts within a dict."""
    level: list[Any] = [content]
    seen: set[int] = set()
    for _ in range(_DEPTH):
        # Each once: a dict may lie in many others.
        level = [c for c in level if isinstance(c, Mapping) and id(c) not in seen]
        values = [value for one in level for value in one.values()]
        if any(leaf(value) is not None for value in values):
            return True
        seen.update(map(id, level))
        level = list({id(value): value for value in values}.values())
    return False


def _tensors(content: Mapping, leaf: Callable[[Any], Any]) -> dict[str, Any]:
    found = ((str(key), leaf(value)) for key, value in content.items())
    return {key: value for key, value in found if value is not None}
