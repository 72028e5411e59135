"""One owner of a run's folder: a lock that the system frees at the owner's end, however it ends."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from filelock import FileLock, Timeout

from jaxgen.errors import UserError

LOCK, OWNER = ".lock", ".owner.json"


@contextlib.contextmanager
def owned(workdir: Path) -> Iterator[None]:
    """Holds the run's folder, by the first host for all of them; the folder must be there.

    The lock is the file system's (`flock`, on NFS a lock of its server), so that none is left by a
    process that was killed, on whatever host. `.owner.json` beside it says whose it is: opening a
    lock file empties it. Where the file system has no locks, this note alone decides, and one of
    another host stays until it is removed.

    Raises:
      UserError: another run has it.
    """
    lock = FileLock(workdir / LOCK, timeout=0)
    problem = None
    if jax.process_index() == 0:
        try:
            _take(workdir, lock)
        except UserError as error:
            problem = error
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        refused = multihost_utils.broadcast_one_to_all(np.asarray(int(problem is not None)))
        if problem is None and int(refused):
            problem = UserError(f"{workdir} is not free, as the first host found")
    if problem is not None:
        raise problem
    try:
        yield
    finally:
        if jax.process_index() == 0:
            with contextlib.suppress(OSError):
                (workdir / OWNER).unlink()
            with contextlib.suppress(OSError):
                lock.release()


def _take(workdir: Path, lock: FileLock) -> None:
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"{workdir} is in use by {_said(workdir)}: wait for it, stop it, or use another "
            "--workdir"
        ) from None
    except PermissionError as error:
        raise UserError(
            f"can't write {workdir}: {error.strerror}; choose another --workdir"
        ) from None
    except (OSError, NotImplementedError):  # a file system without locks
        if _alive(workdir):
            raise UserError(
                f"{workdir} is in use by {_said(workdir)}; if that has ended, remove "
                f"{workdir / OWNER}"
            ) from None
    note = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    with contextlib.suppress(OSError):  # a full disk: the lock holds without the note
        (workdir / OWNER).write_text(json.dumps(note) + "\n")


def _note(workdir: Path) -> dict[str, object]:
    try:
        note = json.loads((workdir / OWNER).read_text())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _said(workdir: Path) -> str:
    note = _note(workdir)
    if not note:
        return "another run"
    return f"process {note.get('pid')} on {note.get('host')} since {note.get('since')}"


def _alive(workdir: Path) -> bool:
    """Whether the noted owner may be running: on this host it is asked, of others it is assumed."""
    note = _note(workdir)
    pid = note.get("pid")
    if not note or note.get("host") != socket.gethostname() or not isinstance(pid, int):
        return bool(note)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
