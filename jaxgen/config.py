"""Configs: the sections they share, loading, JSON, and comparing two of them.

A config is a Python file with `get_config(arg="") -> ConfigDict` that holds values only. It starts
from `base()`, which has every key of the shared sections with its default, so an unknown key or
override is an error and not a silent no-op.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxgen import keys, shipped, user_file
from jaxgen.errors import NO_JSON, UserError, near, one_line, shown
from jaxgen.keys import Key, Named, Table, share, weight, whole

# Keys that a resumed run may change, since no step depends on them; `train.steps`: to train on.
FREE_ON_RESUME = (
    "train.steps",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "train.keep",
    "train.keep_every",
    "train.digests",
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


TRAIN: Table = {
    "steps": whole(1000, "steps of the run, all phases together; more later continue it"),
    "batch_size": whole(16, "**global** batch, over all devices and hosts", most=2**16),
    "accumulate": whole(1, "micro-batches that a step's gradient is averaged over"),
    "seed": whole(0, "of initial values, data order, augmentation, noise", 0, most=2**32 - 1),
    "dtype": Key(
        "float32",
        "of activations; parameters and losses are always float32",
        choices=("float32", "bfloat16"),
    ),
    "log_every": whole(50, "steps per line of `metrics.jsonl`; NaN is looked for as often"),
    "eval_every": whole(
        500,
        "steps per evaluation with sample grid and `curves.png`; 0: only at the end; -1: never",
        -1,
    ),
    "checkpoint_every": whole(500, "steps per checkpoint"),
    "keep": whole(3, "newest checkpoints kept"),
    "keep_every": whole(0, "and every multiple of this, forever; 0: none", 0),
    "power_ema": Key(
        False,
        "two averages more of the averaged nets, from which any length is made afterwards",
        needed=False,
    ),
    "digests": Key(True, "checkpoints with a digest of each file, checked on resume", needed=False),
    "best_metric": Key("", "and the best by this metric of the evaluations"),
    "best_mode": Key("max", "whether more or less of it is better", choices=("max", "min")),
    "max_skips": whole(
        0, "updates with a NaN that may be left out per log interval before the run stops", 0
    ),
    "init_from": Named(
        Key("", "net to start from: a run's folder, an exported folder, or a weights file")
    ),
    "profile_start": whole(0, "first step of the profiler's window; 0: no profile", 0),
    "profile_steps": whole(5, "steps in that window"),
    "compilation_cache": Key(True, "keep compiled programs in the user's cache directory"),
    "tensorboard": Key(True, "TensorBoard events beside `metrics.jsonl`"),
}
_AXIS = Key("", choices=("data", "fsdp", "model", None))
MESH: Table = {
    "data": whole(-1, "devices that share the batch; -1: those that other axes leave", also=(-1,)),
    "fsdp": whole(1, "devices that share the batch and the large parameters", also=(-1,)),
    "model": whole(1, "devices that share parameters by `rules`", also=(-1,)),
    "fsdp_min_size": whole(2**18, "parameters with fewer elements are replicated", 0),
    "rules": Key(
        (),
        "((regex, (axis or None per dimension)), ...), first match wins",
        each=Key((), items=(Key("", pattern=True), Key((), each=_AXIS))),
    ),
}
PART = Key("", "a run's folder, an exported folder, a bundled model's name, or a weights file")
OPTIMIZER: Table = {
    "name": Key(
        "adam",
        "the update rule; `sgd` has momentum `b1`, `rmsprop` decay `b2`",
        choices=("adam", "adamw", "sgd", "rmsprop"),
    ),
    "lr": weight(0.0, "peak learning rate", most=1000),
    "b1": Key(0.9, "decay of the mean of gradients", least=0, below=1),
    "b2": Key(0.999, "decay of the mean of their squares", least=0, below=1),
    "eps": Key(1e-8, "added to the root of that mean", above=0, most=1),
    "weight_decay": weight(
        0.0, "of adamw; of sgd it is added to the gradient, as PyTorch does", most=1000
    ),
    "decays": Key(
        "all",
        "adamw: what decays, all parameters or the kernels of layers alone: no biases, norms or "
        "embeddings",
        choices=("all", "kernels"),
        needed=False,
    ),
    "clip_norm": weight(0.0, "largest global norm of the phase's gradients; 0: no clipping"),
    "schedule": Key(
        "constant",
        "`cosine` to `final` x `lr` at the phase's end; `multistep` times `gamma` at `milestones`",
        choices=("constant", "cosine", "multistep"),
    ),
    "warmup": whole(0, "updates of linear rise from 0, under any schedule", 0),
    "final": share(0.0, "where cosine ends, as a share of lr"),
    "milestones": Key(
        (), "multistep: updates at which lr is multiplied by gamma", each=whole(1), rising=True
    ),
    "gamma": Key(0.5, "multistep: the factor", above=0, most=1000),
    "factors": Key(
        (),
        "((regex, factor), ...) of lr for parameters whose path holds it; first match wins",
        each=Key((), items=(Key("", pattern=True), weight(1.0, most=1000))),
        needed=False,
    ),
}

# The sections that a family says the keys of (`jaxgen.train.family.check`).
OWN = ("model", "data", "eval")
# The sections of one form whatever the family.
SHARED: Table = {
    "parts": Named(PART),
    "optimizer": Named(OPTIMIZER),
    "train": TRAIN,
    "mesh": MESH,
}


def base(family: str) -> ConfigDict:
    """The sections that every config has, with their defaults; `family` names the model folder."""
    return ConfigDict(
        {
            "family": family,
            "model": {},  # the family's own
            "data": {},
            "parts": {},  # name -> trained model that this one is made of; see jaxgen.weights.parts
            "optimizer": {},  # one `optimizer(...)` per phase
            "train": keys.defaults(TRAIN),
            "mesh": keys.defaults(MESH),
            "eval": {},
        }
    )


def optimizer(lr: float, **changes: Any) -> ConfigDict:
    """Settings of one phase's optimizer: the keys of `OPTIMIZER`."""
    return keys.changed(OPTIMIZER, "optimizer", {"lr": lr, **changes})


def train_briefly(config: ConfigDict, steps: int) -> None:
    """The training of a variant `tiny`: seconds, with checkpoints at its middle and end."""
    config.train.update(
        steps=steps, batch_size=8, log_every=2, eval_every=0, checkpoint_every=steps // 2
    )
    config.train.tensorboard = False


def variant(arg: str, known: Iterable[str]) -> str:
    """`arg` if it is "" or known, else a UserError that lists the variants."""
    known = list(known)
    if arg and arg not in known:
        listed = ", ".join(":" + k for k in known if k)
        raise UserError(f"unknown variant ':{arg}'; this config has {listed}{near(arg, known)}")
    return arg


def load(path: str | Path, overrides: Mapping[str, Any] | None = None) -> ConfigDict:
    """Loads `FILE.py` or `FILE.py:variant` and sets dotted keys, as the command line does.

    Raises:
      UserError: no such file, one that does not work (with the line at fault), no such variant, or
        an unknown key.
    """
    file, arg = split_name(path)
    get_config = user_file.run(file, "config").get("get_config")
    if not callable(get_config):
        raise UserError(f'{file} has no function get_config(arg="") that returns the config')
    with user_file.explained(file):
        config = get_config(arg)
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"{file}: get_config must return a ConfigDict, not {shown(config)}; start from "
            "jaxgen.config.base(family)"
        )
    config.lock()
    for key, value in (overrides or {}).items():
        set_key(config, key, value)
    return config


def split_name(path: str | Path) -> tuple[str, str]:
    """(file, variant) of `FILE.py:VARIANT`, or of `NAME:VARIANT` for a config of this name."""
    file, _, arg = str(path).partition(":")
    return shipped.find(file), arg


def get_key(config: ConfigDict, key: str) -> Any:
    """The value of a dotted key; a UserError with the nearest name if there is none."""
    node: Any = config
    for name in key.split("."):
        if not isinstance(node, ConfigDict) or name not in node:
            raise UserError(f"the config has no key {key}{near(key, flatten(config))}")
        node = node[name]
    return node


def set_key(config: ConfigDict, key: str, value: Any) -> None:
    """Sets a dotted key that exists; anything else is a UserError with the nearest name.

    What `model`, `data` and `eval` may hold the family alone knows, since a network's keys follow
    from its form: there a new key is taken, and `jaxgen.train.family.check` refuses it if need be.

    Args: value: or a text of the command line, read as what the key holds.
    """
    *above, last = key.split(".")
    section: Any = config
    for name in above:
        section = section.get(name) if isinstance(section, ConfigDict) else None
    new = isinstance(section, ConfigDict) and last not in section
    if new and above and above[0] in OWN:
        with section.unlocked():
            section[last] = keys.guessed(value) if isinstance(value, str) else value
        return
    now = get_key(config, key)
    if isinstance(now, ConfigDict) and not isinstance(value, Mapping):
        raise UserError(f"config key {key} is a section; set one of its keys")
    if isinstance(value, str) and not isinstance(now, str):
        value = keys.from_text(key, value, now)
    try:
        section[last] = value
    except (TypeError, ValueError, OverflowError):
        kind = type(now).__name__
        raise UserError(f"{key} must be of the type {kind}, not {shown(value)}") from None


def check(config: ConfigDict) -> None:
    """Refuses unknown keys in the shared sections and impossible values.

    The family's own sections are checked where the family is loaded: `jaxgen.train.family`.

    Raises:
      UserError: naming the key.
    """
    known = base("")
    for key in config:
        if key not in known:
            raise UserError(
                f"unknown config section '{key}'{near(key, known)}; the sections are "
                f"{', '.join(known)}"
            )
    if missing := [key for key in known if key not in config and key != "parts"]:
        raise UserError(
            f"the config has no section '{missing[0]}'; start from jaxgen.config.base(family)"
        )
    keys.check_value("family", config.family, Key(""))
    for section in OWN:
        if not isinstance(config[section], ConfigDict):
            raise UserError(f"config key {section} must be a section, not {shown(config[section])}")
    for section, table in SHARED.items():
        if section in config:  # configs of before parts have no such section
            keys.check(config[section], table, section, start="jaxgen.config.base(family)")
    train = config.train
    if train.batch_size % train.accumulate:
        raise UserError(
            f"train.batch_size={train.batch_size} can't be cut into "
            f"train.accumulate={train.accumulate} equal micro-batches"
        )
    for phase, settings in config.optimizer.items():
        _check_schedule(f"optimizer.{phase}", settings)


def _check_schedule(name: str, settings: ConfigDict) -> None:
    if settings.schedule == "multistep" and not settings.milestones:
        raise UserError(f"{name}.schedule=multistep needs {name}.milestones")
    if settings.weight_decay and settings.name not in ("adamw", "sgd"):
        raise UserError(
            f"{name}.weight_decay={settings.weight_decay} has no effect with "
            f"{name}.name={settings.name}; use adamw or sgd, or 0"
        )


def to_json(config: ConfigDict) -> str:
    """The resolved config as JSON text, keys sorted."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"


def from_json(path: str | Path) -> ConfigDict:
    """Reads a `config.json`; lists become tuples, as in the Python file.

    Raises:
      UserError: the file is missing, can't be read, or holds no config.
    """
    try:
        tree = json.loads(Path(path).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{Path(path).parent} is not a run: it has no {Path(path).name}") from None
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror})") from None
    except NO_JSON as error:
        raise UserError(f"{path} is not readable as JSON ({one_line(error)})") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("family"), str):
        raise UserError(f"{path} is no config: it names no family, as a run's config.json does")
    try:
        return ConfigDict(_tuples(tree))
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is no config ({one_line(error)})") from None


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
