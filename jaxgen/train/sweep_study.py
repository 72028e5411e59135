"""The study that a sweep's processes share: where it is kept, whose trials run, which are left.

The engine is Optuna's: a database by its URL (with heartbeats: a process that dies anywhere is
noticed), or a journal file, which needs no locks of the file system but has no heartbeats.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
import re
import socket
import time
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxgen.errors import UserError, pip_install
from jaxgen.log import log

STUDY = "study.db"
NAME = "jaxgen"  # of the study in a folder's own file
STARTUP_TRIALS = 4  # before pruning begins: the median of few says little
# Seconds between a running trial's heartbeats in a database, and without one until it is taken for
# dead: a save or a compilation may hold a process up for minutes.
HEARTBEAT, GRACE = 30, 300
OPENINGS = 20  # of a database in which other processes make the tables at the same moment
DEATHS = 5  # of processes that worked at a trial, before it is given up
# Attributes of a trial.
FOLDER, OWNER, SURPLUS, DIED = "folder", "owner", "surplus", "deaths"


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What a sweep is: the config, the space, what counts, and where it is kept.

    config: FILE.py or FILE.py:variant. space: see `jaxgen.train.sweep`. metric: name of an
    evaluation's metric. mode: "max" or "min". folder: the trials' runs, the table and the plot.
    storage: a database's URL or a journal file, for a study that several processes share; its name
    there is the folder's. "": a SQLite file in the folder.
    """

    config: str
    space: Mapping[str, Mapping[str, Any]]
    metric: str
    mode: str
    folder: Path
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    storage: str = ""


def load_optuna() -> Any:
    """The package. UserError if it is not installed."""
    try:
        import optuna
    except ModuleNotFoundError:
        raise UserError(f"a sweep needs Optuna: {pip_install('sweep')}") from None
    # A failed trial's warning is a traceback; the sweep says it in a line of its own.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


class SharedStudy:
    """An Optuna study, and which of its trials live.

    Attributes:
      study: Optuna's.

    Raises:
      UserError: the storage can't be opened, or holds another sweep by this name.
    """

    def __init__(self, sweep: Sweep, seed: int):
        self._optuna = optuna = load_optuna()
        self.where = _shown(sweep.storage) or str(sweep.folder)
        try:
            sweep.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"can't make {sweep.folder}: {error.strerror}") from None
        try:
            for attempt in range(OPENINGS):
                try:
                    self._open_study(sweep)
                    break
                except Exception as error:
                    if attempt == OPENINGS - 1 or not _made_by_another(error):
                        raise
                    time.sleep(0.1)
            self._check_same(sweep)
            begun = len(self.study.trials)
        except UserError:
            raise
        except Exception as error:  # of SQLAlchemy, of a driver, of the journal's reader
            raise UserError(f"{self.where} can't hold the study: {_cause(error)}") from None
        # A process that goes on or joins must not draw the values again that the first one began
        # with.
        who = f"{seed} {begun} {_me() if sweep.storage else ''}"
        drawn = int.from_bytes(hashlib.sha256(who.encode()).digest()[:4])
        self.study.sampler = optuna.samplers.TPESampler(
            seed=drawn if begun or sweep.storage else seed, constant_liar=bool(sweep.storage)
        )

    def _open_study(self, sweep: Sweep) -> None:
        storage, self._heartbeats = self._open(sweep)
        self.study = self._optuna.create_study(
            storage=storage,
            study_name=sweep.folder.absolute().name if sweep.storage else NAME,
            direction="maximize" if sweep.mode == "max" else "minimize",
            pruner=self._optuna.pruners.MedianPruner(STARTUP_TRIALS),
            load_if_exists=True,
        )

    def _open(self, sweep: Sweep) -> tuple[Any, bool]:
        """(storage, whether it has heartbeats)."""
        storages = self._optuna.storages
        url = sweep.storage or f"sqlite:///{sweep.folder.absolute() / STUDY}"
        if "://" not in url:
            if re.match(r"\w+:", url):
                raise UserError(
                    f"--storage {url} is no URL such as postgresql+psycopg://USER@HOST/DATABASE, "
                    "and no journal file's path"
                )
            path = Path(url).expanduser().absolute()
            path.parent.mkdir(parents=True, exist_ok=True)
            backend = storages.journal.JournalFileBackend(str(path))
            return storages.JournalStorage(backend), False
        # SQLite's writers wait for each other; five seconds are few on a busy disk.
        options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
        storage = storages.RDBStorage(
            url,
            engine_kwargs=options,
            heartbeat_interval=HEARTBEAT,
            grace_period=GRACE,
            heartbeat_stale_trial_callback=lambda _, trial: self.again(trial, died=True),
        )
        return storage, True

    def _check_same(self, sweep: Sweep) -> None:
        about = {
            "config": sweep.config,
            "space": json.loads(json.dumps(dict(sweep.space))),
            "metric": sweep.metric,
            "mode": sweep.mode,
            "overrides": json.loads(json.dumps(dict(sweep.overrides))),
        }
        if self.study.user_attrs.get("about") is None:
            self.study.set_user_attr("about", about)
        # Read again: another process may have begun another sweep in this moment.
        before = self.study.user_attrs["about"]
        if before != about:
            changed = [key for key in about if about[key] != before.get(key)]
            raise UserError(
                f"{self.where} holds a sweep with another {', '.join(changed)}; "
                "use the same to go on with it, or another --out"
            )

    # ---- whose trials ----------------------------------------------------------------------------

    def claim(self, trial: Any) -> None:
        """Writes down that this process works at the trial."""
        trial.set_user_attr(OWNER, _me())

    def finished(self) -> int:
        """How many trials ended or were pruned, whoever ran them."""
        return sum(t.state in self._finished for t in self.study.get_trials(deepcopy=False))

    def finished_with(self, params: Mapping[str, Any]) -> Any:
        """A trial of these values that came to its end; None if there is none."""
        ended = self.study.get_trials(states=(self._optuna.trial.TrialState.COMPLETE,))
        return next((t for t in ended if t.params == params and FOLDER in t.user_attrs), None)

    def running_elsewhere(self) -> int:
        """How many trials other processes are known to work at."""
        return len([t for t in self._running() if self._lives(t)])

    def is_surplus(self, number: int, wanted: int) -> bool:
        """Whether `wanted` trials come before this one: two processes asked at the same moment."""
        trials = self.study.get_trials(deepcopy=False)
        before = [t for t in trials if t.number < number]
        finished = sum(t.state in self._finished for t in before)
        running = [t for t in before if t.state == self._optuna.trial.TrialState.RUNNING]
        return finished + sum(map(self._lives, running)) >= wanted

    def free_dead(self) -> None:
        """Trials whose process is gone are asked for again, in the same folder."""
        if self._heartbeats:
            self._optuna.storages.fail_stale_trials(self.study)
        for trial in self._running():
            if not self._known_dead(trial):
                continue
            try:
                self.study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
            except (ValueError, RuntimeError):  # another process was quicker
                continue
            self.again(trial, died=True)

    def again(self, trial: Any, died: bool = False) -> None:
        """Asks for a trial once more, with the same values in the same folder."""
        deaths = trial.user_attrs.get(DIED, 0) + died
        if deaths > DEATHS:
            log.warning("trial %d: its process died %d times; it is left", trial.number, deaths)
            return
        kept = {FOLDER: trial.user_attrs[FOLDER]} if FOLDER in trial.user_attrs else {}
        self.study.enqueue_trial(trial.params, user_attrs={**kept, DIED: deaths})
        log.info("trial %d was not finished: it goes on", trial.number)

    @property
    def _finished(self) -> tuple[Any, ...]:
        states = self._optuna.trial.TrialState
        return states.COMPLETE, states.PRUNED

    def _running(self) -> list[Any]:
        return self.study.get_trials(states=(self._optuna.trial.TrialState.RUNNING,))

    def _lives(self, trial: Any) -> bool:
        """False also where nobody can know: such a trial is not waited for."""
        owner = trial.user_attrs.get(OWNER)
        if owner is None or owner["machine"] == _me()["machine"]:
            return not self._known_dead(trial)
        return self._heartbeats

    def _known_dead(self, trial: Any) -> bool:
        owner = trial.user_attrs.get(OWNER)
        if owner is None:  # asked for a moment ago, or its process died in that moment
            begun = trial.datetime_start or datetime.datetime.now()
            return (datetime.datetime.now() - begun).total_seconds() > GRACE
        me = _me()
        if owner["machine"] != me["machine"]:
            return False
        # Called between trials: one of this process is left from before.
        return owner == me or owner["begun"] != _begun(owner["process"])


def _me() -> dict[str, Any]:
    """This process, so that others on its machine can tell whether it lives."""
    return {"machine": _machine(), "process": os.getpid(), "begun": _begun(os.getpid())}


def _machine(root: Path = Path("/proc")) -> str:
    """One boot of one machine, and where its process numbers count (containers have their own)."""
    marks = [socket.gethostname()]
    try:
        marks.append((root / "sys/kernel/random/boot_id").read_text().strip())
        marks.append(os.readlink(root / "self/ns/pid"))
    except OSError:  # no Linux
        pass
    return " ".join(marks)


def _begun(process: int) -> str:
    """When a process began, in the kernel's count; "" if there is none, "?" where none can say."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except ProcessLookupError:
        return ""
    except (OSError, IndexError):
        return "?"


# ---- what goes wrong -----------------------------------------------------------------------------


def _shown(url: str) -> str:
    """Without the password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)


def _made_by_another(error: Exception) -> bool:
    """Whether a database's tables were made by another process while this one was about to.

    Optuna looks for each table and then makes it, in two steps; looked at again, it is there.
    """
    import sqlalchemy.exc

    return isinstance(error, sqlalchemy.exc.IntegrityError) or (
        isinstance(error, sqlalchemy.exc.DBAPIError) and "already exists" in str(error.orig)
    )


def storage_failure(error: BaseException) -> str | None:
    """What a storage failed of, in a line; None if the error is of something else.

    Optuna (5.0) meets a lost storage with an error of its own, in whose context the cause is. Of a
    journal that may be of any kind.
    """
    import optuna
    import sqlalchemy.exc

    kinds = optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, kinds) or _within(seen, "optuna.storages"):
            return _cause(seen)
        seen = seen.__cause__ or seen.__context__
    return None


def _within(error: BaseException, package: str) -> bool:
    """Whether the code that raised it, or what that was called by, is of a package."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(frame.f_globals.get("__name__", "").startswith(package) for frame in frames)


def _cause(error: BaseException) -> str:
    """One line, and what to do where a driver is missing."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    text = next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    if isinstance(error, ImportError):
        return (
            f"{text}; install the database's driver (PostgreSQL: pip install "
            '"psycopg[binary]", and postgresql+psycopg://USER@HOST/DATABASE)'
        )
    return f"{type(cause).__name__}: {_shown(text)}"
