"""One study of several processes: what is counted, whose trial it is, who died, bad storages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import REPOSITORY, process_environment
from support import sweep_process

from jaxgen.errors import UserError
from jaxgen.train import loop, sweep_results, sweep_study
from jaxgen.train import sweep as sweeps

TRIALS = 6


def start(folder: Path, storage: str, *more: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, REPOSITORY / "tests/support/sweep_process.py", folder, storage, *more],
        env=process_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(found, process: subprocess.Popen, what: str) -> None:
    deadline = time.monotonic() + 120
    while not found():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"{what}: {process.stderr.read()}")
        time.sleep(0.05)


def two_processes(tmp_path: Path, storage: str) -> None:
    """Both train, in folders of their own, together exactly `TRIALS` times."""
    folders = [tmp_path / name / "sweep" for name in "ab"]  # the study's name is the folder's
    processes = [start(folder, storage, str(TRIALS)) for folder in folders]
    for folder, process in zip(folders, processes, strict=True):
        wait_for((folder / "ready").exists, process, "not ready")
        (folder.parent / "go").touch()
    said = [process.communicate(timeout=120) for process in processes]
    assert [p.returncode for p in processes] == [0, 0], said
    runs = [{run.name for run in folder.glob("trial_*")} for folder in folders]
    assert runs[0], said
    assert runs[1], said
    assert not runs[0] & runs[1]
    sweep = sweep_process.of(folders[0], storage)
    study = sweep_study.SharedStudy(sweep, 0).study
    rows = sweep_results.rows(sweep, study)
    assert [row["state"] for row in rows] == ["complete"] * TRIALS
    assert {row["folder"] for row in rows} == runs[0] | runs[1]
    # A common seed must not make both draw the same values.
    assert len({row["optimizer.pretrain.lr"] for row in rows}) == TRIALS
    best = sweep_results.best_values(sweep, study)
    assert best["score"] == max(row["score"] for row in rows)


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_two_processes_share_a_file(tmp_path, kind):
    file = tmp_path / "study"
    two_processes(tmp_path, f"sqlite:///{file}" if kind == "sqlite" else str(file))


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory):
    """The URL of a server that is started for the test."""
    pytest.importorskip("psycopg", reason="PostgreSQL's driver is not installed: psycopg")
    if os.environ.get("JAXGEN_POSTGRESQL"):
        yield os.environ["JAXGEN_POSTGRESQL"]
        return
    pg_ctl, initdb = shutil.which("pg_ctl"), shutil.which("initdb")
    if not pg_ctl or not initdb or os.getuid() == 0:
        pytest.skip("no PostgreSQL server that this user may start; JAXGEN_POSTGRESQL names one")
    folder = tmp_path_factory.mktemp("pg")
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run([initdb, "-D", folder / "db", "-U", "jaxgen", "-A", "trust"], **quiet)
    options = f"-k {folder} -c listen_addresses="
    subprocess.run([pg_ctl, "-D", folder / "db", "-w", "-o", options, "start"], **quiet)
    yield f"postgresql+psycopg://jaxgen@/postgres?host={folder}"
    subprocess.run([pg_ctl, "-D", folder / "db", "-m", "immediate", "stop"], **quiet)


def test_tables_that_another_process_makes_meanwhile_are_taken(tmp_path, monkeypatch):
    """Optuna looks for its tables, then makes them: here another process does in between."""
    import sqlalchemy

    make = sqlalchemy.MetaData.create_all
    begun = []

    def too_late(tables, engine):
        make(tables, engine)
        if not begun:
            begun.append(engine)
            make(tables, engine, checkfirst=False)

    monkeypatch.setattr(sqlalchemy.MetaData, "create_all", too_late)
    sweep = sweep_process.of(tmp_path / "sweep", f"sqlite:///{tmp_path}/study")
    assert sweep_study.SharedStudy(sweep, 0).study.trials == []
    assert begun


def test_two_processes_share_a_database(tmp_path, postgresql):
    two_processes(tmp_path, postgresql)


@pytest.mark.parametrize("kind", ["", "sqlite", "journal"])
def test_a_killed_process_trial_goes_on_in_its_folder(tmp_path, monkeypatch, kind):
    folder, file = tmp_path / "sweep", tmp_path / "study"
    storage = {"": "", "sqlite": f"sqlite:///{file}", "journal": str(file)}[kind]
    process = start(folder, storage, "1", "hang")
    wait_for(lambda: list(folder.glob("trial_*/hangs")), process, "no trial")
    process.kill()
    process.communicate()
    seen = []

    def train(config, workdir, watch=None, **_):
        seen.append((Path(workdir), float(config.optimizer.pretrain.lr)))
        return loop.Result(1, {"score": 1.0})

    monkeypatch.setattr(loop, "train", train)
    study = sweeps.run(sweep_process.of(folder, storage), 1, say=lambda line: None)
    died, again = study.trials
    assert seen == [(folder / "trial_0000", died.params["optimizer.pretrain.lr"])]
    assert (died.state.name, again.state.name) == ("FAIL", "COMPLETE")


def test_a_trial_of_a_machine_that_died_is_taken_over(tmp_path, monkeypatch):
    """Only its heartbeats can tell; until they stop, it is waited for."""
    monkeypatch.setattr(sweep_study, "HEARTBEAT", 1)
    monkeypatch.setattr(sweep_study, "GRACE", 3)
    monkeypatch.setattr(sweeps, "POLL", 0.2)
    sweep = sweep_process.of(tmp_path / "sweep", f"sqlite:///{tmp_path}/study")
    process = start(sweep.folder, sweep.storage, "1", "hang")
    wait_for(lambda: list(sweep.folder.glob("trial_*/hangs")), process, "no trial")
    process.kill()
    process.communicate()
    monkeypatch.setattr(sweep_study, "_machine", lambda: "another machine")
    monkeypatch.setattr(loop, "train", lambda *_, watch, **__: loop.Result(1, {"score": 1.0}))
    said = []
    began = time.monotonic()
    study = sweeps.run(sweep, 1, say=said.append)
    assert said[0] == "waiting for 1 trials of other processes"
    assert time.monotonic() - began < 30
    assert [t.state.name for t in study.trials] == ["FAIL", "COMPLETE"]
    assert study.trials[1].user_attrs["folder"] == "trial_0000"


def test_without_heartbeats_another_machine_is_not_waited_for(tmp_path, monkeypatch):
    sweep = sweep_process.of(tmp_path / "sweep", str(tmp_path / "journal"))
    shared = sweep_study.SharedStudy(sweep, 0)
    shared.claim(shared.study.ask())
    monkeypatch.setattr(sweep_study, "_machine", lambda: "another machine")
    monkeypatch.setattr(loop, "train", lambda *_, watch, **__: loop.Result(1, {"score": 1.0}))
    study = sweeps.run(sweep, 1, say=lambda line: None)
    assert [t.state.name for t in study.trials] == ["RUNNING", "COMPLETE"]


def test_of_two_that_ask_for_the_last_trial_one_withdraws(tmp_path, monkeypatch):
    sweep = sweep_process.of(tmp_path / "sweep", f"sqlite:///{tmp_path}/study")
    monkeypatch.setattr(loop, "train", lambda *_, watch, **__: loop.Result(1, {"score": 1.0}))
    other = sweep_study.SharedStudy(sweep, 0)
    monkeypatch.setattr(sweeps, "POLL", 0)
    counted = iter([0])

    def running(shared):
        if next(counted, None) is not None:
            # In the moment after the count another process asks for the last trial.
            with pytest.warns(UserWarning, match="Heartbeat"):
                trial = other.study.ask()
            trial.set_user_attr("owner", {"machine": "far", "process": 1, "begun": "1"})
            return 0
        other.study.tell(0, 0.5)
        return 1

    monkeypatch.setattr(sweep_study.SharedStudy, "running_elsewhere", running)
    study = sweeps.run(sweep, 1, say=lambda line: None)
    assert [t.state.name for t in study.trials] == ["COMPLETE", "FAIL"]
    assert [row["trial"] for row in sweep_results.rows(sweep, study)] == [0]


def test_values_that_came_before_are_not_trained_again(tmp_path, monkeypatch):
    calls = []

    def train(config, workdir, watch=None, **_):
        calls.append(workdir)
        return loop.Result(1, {"score": 2.0})

    monkeypatch.setattr(loop, "train", train)
    sweep = sweep_process.of(tmp_path / "sweep", "")
    study = sweep_study.SharedStudy(sweep, 0).study
    for _ in range(2):
        study.enqueue_trial({"optimizer.pretrain.lr": 1e-3})
    said = []
    sweeps.run(sweep, 2, say=said.append)
    assert len(calls) == 1
    assert said[1].endswith("as trial 0")
    assert {t.user_attrs["folder"] for t in study.trials} == {"trial_0000"}


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("nonsense://x", "nonsense"),
        ("sqlite:////no/such/folder/study", "unable to open database file"),
        ("postgresql+nodriver://u@h/d", "nodriver"),
        ("mysql://u:secret@h/d", "install the database's driver"),
        ("postgresql:host", "is no URL such as postgresql"),
        ("{folder}", "Is a directory"),
        ("{file}", "can't hold the study"),
    ],
)
def test_bad_storages_get_one_line(tmp_path, storage, message):
    (tmp_path / "file").write_text("not a journal\nat all\n")
    storage = storage.format(folder=tmp_path, file=tmp_path / "file")
    with pytest.raises(UserError, match=message) as caught:
        sweeps.run(sweep_process.of(tmp_path / "sweep", storage), 1)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("storage", ["sqlite:///{}", "{}"], ids=["sqlite", "journal"])
def test_a_storage_that_is_lost_gets_one_line(tmp_path, monkeypatch, storage):
    """Optuna itself ends in an UnboundLocalError then."""
    file = tmp_path / "study"

    def train(config, workdir, watch=None, **_):
        file.unlink()
        file.mkdir()
        return loop.Result(1, {"score": 1.0})

    monkeypatch.setattr(loop, "train", train)
    with pytest.raises(
        UserError, match=r"study does not answer \(.*; the same command goes on"
    ) as e:
        sweeps.run(sweep_process.of(tmp_path / "sweep", storage.format(file)), 2)
    assert "\n" not in str(e.value)


def test_an_error_of_the_training_stays_what_it_is(tmp_path, monkeypatch):
    def train(config, workdir, watch=None, **_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(loop, "train", train)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        sweeps.run(sweep_process.of(tmp_path / "sweep", ""), 1)


def test_a_password_is_not_shown(tmp_path):
    shown = sweep_study._shown("postgresql+psycopg://me:secret@host:5432/db")
    assert shown == "postgresql+psycopg://me:***@host:5432/db"
