"""What a run's folder holds, for its readers: checkpoints, the best of them, the metrics' log.

`jaxgen.train.checkpoint` writes what is read here. Orbax and jax are imported where a checkpoint
is opened: asking which there are needs neither.
"""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxgen.errors import UserError
from jaxgen.log import log
from jaxgen.weights import digests
from jaxgen.weights.keymap import flatten
from jaxgen.weights.places import CHECKPOINTS

if TYPE_CHECKING:
    import orbax.checkpoint as ocp

BEST = "best.json"
METRICS = "metrics.jsonl"
EVALUATION = "eval.json"


def read_best(workdir: str | Path) -> dict[str, Any] | None:
    """{"step", "metric", "value"} of the best evaluation, None if none is recorded."""
    path = Path(workdir) / BEST
    try:
        best = json.loads(path.read_text(encoding="utf-8"))
        found = {
            "step": int(best["step"]),
            "metric": str(best["metric"]),
            "value": float(best["value"]),
        }
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, OverflowError):
        log.warning("%s is damaged: the best so far is not known", path)
        return None
    return found


def complete_steps(workdir: str | Path) -> list[int]:
    """Steps of the complete checkpoints in a run's folder, ascending; reads nothing else."""
    folder = Path(workdir) / CHECKPOINTS
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit() and p.is_dir())


def read_metrics(workdir: str | Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line cut off by a kill, and any damaged one, is left out.

    Each has `step`, an int, and `kind`, a str.
    """
    lines = []
    try:
        data = (Path(workdir) / METRICS).read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read {Path(workdir) / METRICS}: {error.strerror}") from error
    for line in data.splitlines():
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):  # of JSON and of UTF-8
            continue
        if (
            isinstance(values, dict)
            and isinstance(values.get("step"), int)
            and isinstance(values.get("kind"), str)
        ):
            lines.append(values)
    return lines


def read_evaluated(workdir: str | Path, until: int) -> tuple[int, dict[str, float]]:
    """(step, metrics) of training's last evaluation up to a step; (0, {}) if there was none."""
    for line in reversed(read_metrics(workdir)):
        if line["kind"] == "eval" and line["step"] <= until:
            return line["step"], {k: v for k, v in line.items() if isinstance(v, float)}
    return 0, {}


def read_evaluation(workdir: str | Path) -> dict[str, Any]:
    """Step and metrics of the last `--mode=eval`; {} if there was none, or its file is damaged."""
    try:
        found = json.loads((Path(workdir) / EVALUATION).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def no_damage(error: BaseException, folder: Path) -> UserError | None:
    """What kept a checkpoint from being read where that is no damage; None: it is.

    A checkpoint whose files have the digests that they were written with is whole, whatever its
    reader says of it.
    """
    text, code = str(error), getattr(error, "errno", None)
    denied = ("Permission denied", "PERMISSION_DENIED")
    if code in (errno.EACCES, errno.EPERM) or any(t in text for t in denied):
        return UserError(f"{folder} may not be read: give permission; nothing was moved")
    if code in (errno.EIO, errno.ESTALE) or "Input/output error" in text or "Stale file" in text:
        return UserError(f"the disk failed to read {folder}: check it; nothing was moved")
    if not folder.is_dir():
        return UserError(f"{folder} is gone: it must stay while it is read")
    try:
        whole = digests.check_digests(folder)
    except (UserError, OSError):
        return None
    if not whole:
        return None
    return UserError(
        f"{folder} is whole and can't be read here ({' '.join(text.split())[:160]}): use the "
        "versions of jaxgen and Orbax that wrote it; nothing was moved"
    )


def load_for_use(
    workdir: str | Path,
    step: int | None = None,
    best: bool = False,
    nets: tuple[str, ...] | None = None,
) -> tuple[dict[str, dict[str, Any]], int]:
    """Variables of a run's nets as NumPy arrays, averaged ones where there are, and their step.

    Reads only what it returns: no optimizer state, and no net that was not asked for.

    Args:
      step: which checkpoint; None: the newest, or the best evaluated one with `best=True`.
      nets: names of the nets; None: all.

    Raises:
      UserError: no such checkpoint, a net that it lacks, or it can't be read.
    """
    workdir = Path(workdir).absolute()
    steps = complete_steps(workdir)
    if not steps:
        raise UserError(f"{workdir} has no finished checkpoint yet; train it first")
    if best and step is None and (noted := read_best(workdir)):
        step = noted["step"]
    candidates = [step] if step is not None else list(reversed(steps))
    if candidates[0] not in steps:
        raise UserError(f"{workdir} has no checkpoint of step {step}; it has {steps}")
    for candidate in candidates:
        try:
            return _read_nets(folder := workdir / CHECKPOINTS / str(candidate), nets), candidate
        except digests.DamagedError as error:
            log.warning("checkpoint %d is damaged and not used: %s", candidate, error)
        except UserError:
            raise
        except Exception as error:
            if problem := no_damage(error, folder):
                raise problem from error
            log.warning("checkpoint %d is damaged and not used: %s", candidate, error)
    raise UserError(f"the checkpoints {candidates} in {workdir / CHECKPOINTS} can't be read")


def check_nets(place: Path, nets: tuple[str, ...] | None, have: list[str]) -> None:
    """Raises UserError if a net of `nets` (None: all that there are) is not among `have`."""
    if missing := [name for name in nets or () if name not in have]:
        raise UserError(f"{place} lacks the net '{missing[0]}'; it has {sorted(have)}")


def tree_metadata(reader: ocp.PyTreeCheckpointer, path: Path) -> Any:
    """The saved tree's structure with a shape and dtype at each leaf."""
    from absl import logging as absl_logging

    # Orbax warns that an item has no metadata of its own; it stands in the step's folder.
    before = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    try:
        meta = reader.metadata(path)
    finally:
        absl_logging.set_verbosity(before)
    return getattr(getattr(meta, "item_metadata", meta), "tree", meta)


def _read_nets(folder: Path, nets: tuple[str, ...] | None) -> dict[str, dict[str, Any]]:
    have = {p.name for p in folder.iterdir() if p.is_dir()}
    names = sorted(n.removeprefix("net_") for n in have if n.startswith("net_"))
    check_nets(folder, nets, names)
    chosen = names if nets is None else nets
    items = [f"ema_{name}" if f"ema_{name}" in have else f"net_{name}" for name in chosen]
    result = dict(zip(chosen, read_items(folder, items), strict=True))
    check_finite(result, folder)
    return result


def read_items(folder: Path, items: list[str]) -> list[dict[str, Any]]:
    """Trees of NumPy arrays: parts of a checkpoint by their names, their digests checked."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    digests.check_digests(folder, items)
    trees = []
    # Warnings of the reader about missing shardings don't concern NumPy arrays.
    with ocp.PyTreeCheckpointer() as reader:
        for item in items:
            tree = tree_metadata(reader, folder / item)
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            restore = ocp.args.PyTreeRestore(restore_args=as_numpy)
            trees.append(reader.restore(folder / item, args=restore))
    return trees


def check_finite(nets: dict[str, Any], place: Path) -> None:
    """Raises DamagedError if an array of a net has a number that is not finite."""
    import numpy as np

    for name, value in flatten(nets).items():
        array = np.asarray(value)
        if array.dtype.kind in "fV" and not np.isfinite(array).all():  # V: bfloat16
            raise digests.DamagedError(f"{place} has numbers that are not finite in {name}")
