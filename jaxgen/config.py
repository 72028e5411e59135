"""Configs: the sections they share, loading, JSON, and comparing two of them.

A config is a Python file with `get_config(arg="") -> ConfigDict` that holds values only. It starts
from `base()`, which has every key of the shared sections with its default, so an unknown key or
override is an error and not a silent no-op.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxgen.errors import UserError

# Keys that a resumed run may change: they don't alter what a step computes. `train.steps` is here
# so that a finished run can be continued.
FREE_ON_RESUME = (
    "train.steps",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "train.keep",
    "train.keep_every",
    "train.best_metric",
    "train.best_mode",
    "train.max_skips",
    "train.profile_start",
    "train.profile_steps",
    "train.compilation_cache",
    "train.tensorboard",
    "mesh",
    "eval",
    "data.workers",
    "data.threads",
    "data.cache_mb",
)


def base(family: str) -> ConfigDict:
    """The sections that every config has, with their defaults; `family` names the model folder."""
    return ConfigDict(
        {
            "family": family,
            "model": {},  # the family's own
            "data": {},
            "parts": {},  # name -> trained model that this one is made of; see jaxgen.weights.parts
            "optimizer": {},  # one `optimizer(...)` per phase
            "train": {
                "steps": 1000,
                "batch_size": 16,  # global: over all devices and hosts
                "accumulate": 1,  # micro-batches per step
                "seed": 0,
                "dtype": "float32",  # of activations; parameters and losses are always float32
                "log_every": 50,
                "eval_every": 500,  # 0: only at the end; -1: never
                "checkpoint_every": 500,
                "keep": 3,  # latest checkpoints kept
                "keep_every": 0,  # and every multiple of this, forever; 0: none
                "best_metric": "",  # and the best by this metric of the evaluations
                "best_mode": "max",
                "max_skips": 0,  # non-finite updates skipped per log interval before the run stops
                "init_from": {},  # net -> run, exported folder or weights file
                "profile_start": 0,  # first step of the profiler's window; 0: no profile
                "profile_steps": 5,
                "compilation_cache": True,
                "tensorboard": True,
            },
            "mesh": {
                "data": -1,  # -1: the devices that the other axes leave
                "fsdp": 1,
                "model": 1,
                "fsdp_min_size": 2**18,  # parameters with fewer elements are replicated
                "rules": (),  # ((regex, (axis or None per dimension)), ...), first match wins
            },
            "eval": {},
        }
    )


def optimizer(lr: float, **changes: Any) -> ConfigDict:
    """Settings of one phase's optimizer; see `jaxgen.train.optimizer` for their meaning."""
    settings = ConfigDict(
        {
            "name": "adam",
            "lr": lr,
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-8,
            "weight_decay": 0.0,  # adamw only
            "clip_norm": 0.0,  # global norm of the phase's gradients; 0: no clipping
            "schedule": "constant",  # constant | cosine | multistep
            "warmup": 0,  # updates of linear rise from 0, under any schedule
            "final": 0.0,  # cosine ends at final * lr
            "milestones": (),  # multistep: updates at which lr is multiplied by gamma
            "gamma": 0.5,
        }
    )
    with settings.unlocked():
        unknown = set(changes) - set(settings)
        if unknown:
            raise UserError(f"optimizer has no setting {sorted(unknown)}; it has {list(settings)}")
        settings.update(changes)
    return settings


def variant(arg: str, known: Iterable[str]) -> str:
    """`arg` if it is "" or known, else a UserError that lists the variants."""
    known = list(known)
    if arg and arg not in known:
        raise UserError(
            f"unknown variant ':{arg}'; this config has {', '.join(':' + k for k in known)}"
        )
    return arg


def load(path: str | Path, overrides: Mapping[str, Any] | None = None) -> ConfigDict:
    """Loads `FILE.py` or `FILE.py:variant` and sets dotted keys, as the command line does.

    Raises:
      UserError: no such file, no such variant, or an unknown key.
    """
    file, _, arg = str(path).partition(":")
    if not Path(file).is_file():
        raise UserError(
            f"no config file at {file}; configs/ in the repository has the shipped ones"
        )
    spec = importlib.util.spec_from_file_location(f"jaxgen_config_{Path(file).stem}", file)
    assert spec is not None  # of a .py file there is one
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(arg)
    config.lock()
    for key, value in (overrides or {}).items():
        set_key(config, key, value)
    return config


def set_key(config: ConfigDict, key: str, value: Any) -> None:
    """Sets a dotted key that exists; anything else is a UserError with the nearest name."""
    *path, last = key.split(".")
    node = config
    for name in path:
        node = node.get(name) if isinstance(node, ConfigDict) else None
    if not isinstance(node, ConfigDict) or last not in node:
        known = list(flatten(config))
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"the config has no key {key}{hint}")
    try:
        node[last] = value
    except TypeError as error:
        raise UserError(f"config key {key}: {error}") from None


def check(config: ConfigDict) -> None:
    """Refuses unknown keys in the shared sections and impossible values.

    Raises:
      UserError: naming the key.
    """
    known = base("")
    for key in config:
        if key not in known:
            raise UserError(f"unknown config section '{key}'; the sections are {', '.join(known)}")
    for section in ("train", "mesh"):
        for key in config[section]:
            if key not in known[section]:
                near = difflib.get_close_matches(key, list(known[section]), n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise UserError(f"unknown config key {section}.{key}{hint}")
    for name, source in config.get("parts", {}).items():
        if not isinstance(source, str):
            raise UserError(f"parts.{name} must name a run, a model or a file, not {source!r}")
    train = config.train
    for key in ("steps", "batch_size", "accumulate", "log_every", "checkpoint_every", "keep"):
        if train[key] < 1:
            raise UserError(f"train.{key} must be at least 1, not {train[key]}")
    if train.batch_size % train.accumulate:
        raise UserError(
            f"train.batch_size={train.batch_size} can't be cut into "
            f"train.accumulate={train.accumulate} equal micro-batches"
        )
    if train.dtype not in ("float32", "bfloat16"):
        raise UserError(f"train.dtype must be float32 or bfloat16, not {train.dtype!r}")
    if train.best_mode not in ("max", "min"):
        raise UserError(f"train.best_mode must be max or min, not {train.best_mode!r}")


def to_json(config: ConfigDict) -> str:
    """The resolved config as JSON text, keys sorted."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"


def from_json(path: str | Path) -> ConfigDict:
    """Reads a `config.json`; lists become tuples, as in the Python file.

    Raises:
      UserError: the file is missing or is not JSON.
    """
    try:
        tree = json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"{Path(path).parent} is not a run: it has no {Path(path).name}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not readable as JSON ({error})") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds no config: put it back as it was")
    return ConfigDict(_tuples(tree))


def _tuples(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _tuples(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return tuple(_tuples(value) for value in tree)
    return tree


def flatten(config: ConfigDict) -> dict[str, Any]:
    """Dotted key -> value, of the leaves."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            flat.update({f"{key}.{k}": v for k, v in flatten(value).items()})
        else:
            flat[key] = value
    return flat


def differences(
    old: ConfigDict, new: ConfigDict, free: Iterable[str] = FREE_ON_RESUME
) -> list[str]:
    """`key: old -> new` for each leaf that differs and is not below a key in `free`.

    Leaves that only the new config has are not among them; see `added`.
    """
    free = tuple(free)
    a, b = _leaves(old), _leaves(new)
    return [
        f"{key}: {value!r} -> {b.get(key, '(absent)')!r}"
        for key, value in sorted(a.items())
        if value != b.get(key, ...) and not any(key == f or key.startswith(f + ".") for f in free)
    ]


def added(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Keys that only the new config has: a later jaxgen brought them."""
    return sorted(_leaves(new).keys() - _leaves(old).keys())


def _leaves(config: ConfigDict) -> dict[str, Any]:
    # Through JSON, so that 1e-4 and a list read back compare equal to what was written.
    return flatten(ConfigDict(_tuples(json.loads(to_json(config)))))
