"""Checkpoints: Orbax, asynchronous, restorable on another topology, one item per net.

`<workdir>/checkpoints/<step>/` holds `net_<name>` (parameters and mutable collections),
`ema_<name>` (averages), `opt` (all phases) and `meta`. A model is used from `ema_<name>` alone.
Orbax writes into a temporary folder and renames it, so that a save cut off at any moment leaves
the earlier checkpoints as they were. All that depends on Orbax's interface stands in this file and,
for readers, in `jaxgen.weights.checkpoints`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import serialization
from orbax.checkpoint.path import atomicity

from jaxgen.errors import UserError
from jaxgen.log import interrupted, log
from jaxgen.train.state import TrainState
from jaxgen.weights import digests
from jaxgen.weights.averages import ITEM
from jaxgen.weights.checkpoints import (
    BEST,
    complete_steps,
    no_damage,
    read_best,
    tree_metadata,
)
from jaxgen.weights.places import CHECKPOINTS

_LOOP_CLOSED = "Event loop is closed"  # asyncio's words
DAMAGED = "damaged"
_DELETING = ".deleting-"


class _WithDigests(atomicity.AtomicRenameTemporaryPath):
    """Orbax's temporary folder, which gets its digests before it becomes the checkpoint.

    The first host alone gets here, when every host's files are there.
    """

    async def finalize(self) -> None:
        await asyncio.to_thread(digests.write_digests, str(self.get()))
        await super().finalize()
        await asyncio.to_thread(digests.add_last_digests, str(self.get_final()))


class Checkpoints:
    """Saves and restores TrainStates under `<workdir>/checkpoints`."""

    def __init__(
        self,
        workdir: str | Path,
        *,
        keep: int = 3,
        keep_every: int = 0,
        with_digests: bool = True,
    ):
        self.with_digests = with_digests and not digests.skipped()
        self.workdir = Path(workdir).absolute()
        self.folder = self.workdir / CHECKPOINTS
        self.keep, self.keep_every = keep, keep_every
        with _storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        if jax.process_index() == 0:  # of runs that were killed while deleting
            for left in self.workdir.glob(f"{_DELETING}*"):
                shutil.rmtree(left, ignore_errors=True)
        if not isinstance(sys.unraisablehook, _WithoutLateWrites):
            sys.unraisablehook = _WithoutLateWrites(sys.unraisablehook)
        options = ocp.CheckpointManagerOptions(
            # What to keep is decided below: Orbax's policies differ between the versions we serve.
            max_to_keep=None,
            enable_async_checkpointing=True,
            cleanup_tmp_directories=True,
            temporary_path_class=_WithDigests if self.with_digests else None,
        )
        self.manager = ocp.CheckpointManager(self.folder, options=options)
        # Read once, here: hosts that read it while the first one writes would disagree.
        self.best = read_best(self.workdir)

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending."""
        # From the folder: the manager also counts a step whose save has just failed.
        return complete_steps(self.workdir)

    def save(self, step: int, state: TrainState) -> None:
        """Starts saving; returns when the device arrays are copied, not when the files are there.

        Raises:
          UserError: this save's or the previous one's files can't be written, or the state is not
            finite. Checkpoints that were there before stay.
        """
        if step in self.steps():
            return
        if bad := _not_finite(state):
            kept = f"checkpoints {self.steps()} stay" if self.steps() else "none was saved before"
            raise UserError(
                f"not saved at step {step}: {bad[0]} has numbers that are not finite ({kept}); "
                "look at model.ema and the learning rates"
            )
        with _storage_errors(self.folder, self.steps()):
            _check_room(self.folder, state)
            items = {k: ocp.args.StandardSave(v) for k, v in _items(state).items()}
            meta = ocp.args.JsonSave({"step": step, "nets": sorted(state.params)})
            self.manager.save(step, args=ocp.args.Composite(meta=meta, **items), force=True)
        self._delete_old()

    def wait(self) -> None:
        """Waits until the last save's files are complete."""
        with _storage_errors(self.folder, self.steps()):
            self.manager.wait_until_finished()

    def close(self) -> None:
        """Waits, tidies and frees the background threads."""
        self.wait()
        self._delete_old()
        self.manager.close()

    def reached_preemption(self, step: int) -> bool:
        """True if the cluster asked every host to stop (multi-host only; SIGTERM is ours)."""
        return jax.process_count() > 1 and self.manager.reached_preemption(step)

    def restore_latest(self, like: TrainState) -> tuple[TrainState, int] | None:
        """The newest checkpoint that can be read, with the shardings of `like`; None if none is.

        Damaged ones are named in the log. Once an older one is read they are moved to
        `<workdir>/damaged/<step>`; where there is none, nothing is moved, so that the next start
        refuses as well.

        Raises:
          UserError: there are checkpoints, and none can be read; or one is whole and holds other
            arrays than `like`, may not be read, is on a failing disk, or of a later version (it
            stays where it is).
        """
        steps = self.steps()
        bad: list[int] = []
        for step in reversed(steps):
            folder = self.folder / str(step)
            try:
                checked = self._check_digests(folder)
                state = self._restore(step, like)
                self._check_finite(state, folder)
            except digests.DamagedError as error:
                log.warning("checkpoint %d is damaged and not used: %s", step, error)
            except UserError:
                raise
            except Exception as error:  # tensorstore, JSON, OS, Orbax: any shape of damage
                if interrupted():
                    raise KeyboardInterrupt from error
                if problem := no_damage(error, folder):
                    raise problem from error
                log.warning("checkpoint %d is damaged and not used: %s", step, _first_line(error))
            else:
                if not checked:
                    log.info("checkpoint %d has no digests, or they are not checked", step)
                for other in bad:
                    self._set_aside(other)
                return state, step
            bad.append(step)
        aside = self.workdir / DAMAGED
        if steps or (aside.is_dir() and any(aside.iterdir())):
            what = f"none of the checkpoints {steps} in {self.folder} can be read"
            if not steps:
                what = f"{self.folder} is empty, and {aside} holds damaged checkpoints"
            raise UserError(
                f"{what}: put a good copy back, use a new --workdir, or, to begin again at step 0, "
                f"remove {self.folder if steps else aside}"
            )
        return None

    def _check_digests(self, folder: Path) -> bool:
        """As `digests.check_digests`, by the first host for all: one reading, one answer."""
        if not self.with_digests:
            return False
        if jax.process_count() == 1:
            return digests.check_digests(folder)
        from jax.experimental import multihost_utils

        failure, checked = None, False
        if jax.process_index() == 0:
            try:
                checked = digests.check_digests(folder)
            except Exception as error:  # told to the others before it is raised
                failure = error
        kind = 0 if failure is None else 1 if isinstance(failure, digests.DamagedError) else 2
        told = int(multihost_utils.broadcast_one_to_all(np.asarray(kind)))
        if failure is not None:
            raise failure
        if told == 1:
            raise digests.DamagedError(f"{folder} is damaged, as the first host found")
        if told == 2:
            raise UserError(f"{folder} can't be read by the first host, which says why")
        return checked

    def _check_finite(self, state: TrainState, folder: Path) -> None:
        if bad := _not_finite(state):
            raise digests.DamagedError(f"{folder} has numbers that are not finite in {bad[0]}")

    def note_best(self, step: int, metric: str, value: float, mode: str) -> bool:
        """Records `step` as the best if it is; returns whether it is. Its checkpoint is kept."""
        best = self.best
        better = best is None or (value > best["value"] if mode == "max" else value < best["value"])
        if better:
            self.best = {"step": step, "metric": metric, "value": value}
        if better and jax.process_index() == 0:
            with _storage_errors(self.folder, self.steps()):
                partial = self.workdir / (BEST + ".tmp")
                partial.write_text(json.dumps(self.best))
                partial.replace(self.workdir / BEST)
        return better

    def _restore(self, step: int, like: TrainState) -> TrainState:
        wanted = {
            key: jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree
            )
            for key, tree in _items(like).items()
        }
        self._check_fits(step, wanted)
        args = {key: ocp.args.StandardRestore(tree) for key, tree in wanted.items()}
        found = self.manager.restore(step, args=ocp.args.Composite(**args))
        return _from_items(like, {key: found[key] for key in wanted}, step)

    def _check_fits(self, step: int, wanted: dict[str, Any]) -> None:
        """Tells a checkpoint of another model from a damaged one, before anything is moved."""
        folder = self.folder / str(step)
        with ocp.PyTreeCheckpointer() as reader:
            for key, tree in wanted.items():
                if key.startswith(ITEM) and not (folder / key).is_dir():
                    raise UserError(
                        f"{self.workdir} began without train.power_ema: leave it out, or begin anew"
                    )
                if not (folder / key).is_dir():
                    raise FileNotFoundError(f"{folder / key} is missing")
                have, want = _shapes(tree_metadata(reader, folder / key)), _shapes(tree)
                odd = sorted(k for k in have.keys() | want.keys() if have.get(k) != want.get(k))
                if odd:
                    raise UserError(
                        f"checkpoint {step} in {self.folder} is of another model: {key} differs in "
                        f"{', '.join(odd[:4])}{' ...' if len(odd) > 4 else ''}; use the version of "
                        "jaxgen that wrote it, or another --workdir"
                    )

    def _set_aside(self, step: int) -> None:
        if jax.process_index() == 0:
            target = self.workdir / DAMAGED / str(step)
            target.parent.mkdir(exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            shutil.move(str(self.folder / str(step)), str(target))
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices(f"set aside {step}")
        self.manager.reload()

    def _delete_old(self) -> None:
        """Keeps the newest `keep`, the multiples of `keep_every`, and the best.

        The first host does it alone: Orbax's deletion waits for all hosts, which may see the folder
        at different moments and disagree on what is old.
        """
        if jax.process_index() != 0:
            return
        done = self.steps()
        keep = set(done[-self.keep :]) | ({self.best["step"]} if self.best else set())
        keep |= {s for s in done if self.keep_every and s % self.keep_every == 0}
        for step in done:
            if step not in keep:
                # Renamed first: a deletion cut short leaves no half checkpoint.
                doomed = self.workdir / f"{_DELETING}{step}"
                shutil.rmtree(doomed, ignore_errors=True)  # of a deletion cut short
                with _storage_errors(self.folder, sorted(keep)):
                    (self.folder / str(step)).rename(doomed)
                shutil.rmtree(doomed, ignore_errors=True)


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in leaves
    }


@jax.jit
def _all_finite(arrays: list[jax.Array]) -> jax.Array:
    return jnp.stack([jnp.isfinite(x).all() for x in arrays])


def _not_finite(state: TrainState) -> list[str]:
    """Names of the nets' arrays, averages included, with numbers that are not finite."""
    nets = {key: tree for key, tree in _items(state).items() if key != "opt"}
    leaves = [
        (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(nets)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    if not leaves:
        return []
    with jax.debug_nans(False), jax.disable_jit(False):
        good = np.asarray(_all_finite([leaf for _, leaf in leaves]))
    return [name for (name, _), fine in zip(leaves, good, strict=True) if not fine]


def _items(state: TrainState) -> dict[str, Any]:
    """The state as named trees of plain dicts (optimizer states are named tuples otherwise)."""
    nets = {f"net_{n}": {"params": p, **state.mutable.get(n, {})} for n, p in state.params.items()}
    ema = {f"ema_{n}": dict(tree) for n, tree in state.ema.items()}
    power = {f"{ITEM}{n}": dict(tree) for n, tree in state.power.items()}
    return {**nets, **ema, **power, "opt": serialization.to_state_dict(state.opt)}


def _from_items(like: TrainState, items: dict[str, Any], step: int) -> TrainState:
    params = {n: items[f"net_{n}"]["params"] for n in like.params}
    mutable = {n: {k: items[f"net_{n}"][k] for k in tree} for n, tree in like.mutable.items()}
    ema = {n: items[f"ema_{n}"] for n in like.ema}
    power = {n: items[f"{ITEM}{n}"] for n in like.power}
    opt = serialization.from_state_dict(like.opt, items["opt"])
    at = jax.device_put(np.asarray(step, np.int32), like.step.sharding)
    return TrainState(step=at, params=params, mutable=mutable, opt=opt, ema=ema, power=power)


def _check_room(folder: Path, state: TrainState) -> None:
    """Refuses a save that can't fit, before a byte of it is written."""
    need = sum(
        x.dtype.itemsize * int(np.prod(x.sharding.shard_shape(x.shape))) * len(x.addressable_shards)
        if not x.sharding.is_fully_replicated
        else x.nbytes
        for x in jax.tree.leaves(state)
    )
    free = shutil.disk_usage(folder).free
    if free < need:
        raise OSError(errno.ENOSPC, f"{need / 2**20:.0f} MiB needed, {free / 2**20:.0f} MiB free")


class _WithoutLateWrites:
    """An unraisable hook that leaves out what the other writes of a failed save report.

    Orbax closes its event loop at the first write that fails. Those that end later can't tell the
    loop, and each prints a traceback from a thread of its own: hundreds, around the one message.
    """

    def __init__(self, otherwise: Callable[[sys.UnraisableHookArgs], object]):
        self.otherwise = otherwise

    def __call__(self, args: sys.UnraisableHookArgs, /) -> None:
        if isinstance(args.exc_value, RuntimeError) and str(args.exc_value) == _LOOP_CLOSED:
            return
        self.otherwise(args)


@contextlib.contextmanager
def _storage_errors(folder: Path, kept: list[int] | None = None) -> Iterator[None]:
    """Turns what a full or read-only disk raises into one line that says what to do."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        problem = _storage_problem(error)
        if problem is None:
            raise
        safe = f"; checkpoints {kept} are safe, the same command resumes" if kept else ""
        raise UserError(
            f"{problem} while writing to {folder} ({_first_line(error)}){safe}"
        ) from error


def _storage_problem(error: BaseException) -> str | None:
    text, code = str(error), getattr(error, "errno", None)
    full = ("No space left", "File too large", "ENOSPC", "EFBIG", "EDQUOT", "Disk quota")
    denied = ("Permission denied", "PERMISSION_DENIED", "Read-only file system")
    if code in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT) or any(t in text for t in full):
        return "the disk is full: free some space or choose another --workdir;"
    if code in (errno.EACCES, errno.EPERM, errno.EROFS) or any(t in text for t in denied):
        return "no permission: choose a --workdir that you can write;"
    if code == errno.ENOENT or "NOT_FOUND" in text or "No such file" in text:
        return "the run's folder or a checkpoint in it is gone: it must stay while the run lasts;"
    if code in (errno.ENOTDIR, errno.EEXIST):
        return "a file is in the way: choose another --workdir;"
    return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else repr(error)
