"""SIGTERM saves and exits 0, Ctrl-C saves and exits 130; the next start resumes."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest
from helpers import REPOSITORY, TINY, process_environment, run, tiny

from jaxgen.train import loop
from jaxgen.train.signals import StopSignal
from jaxgen.weights.checkpoints import complete_steps, read_metrics


def start(workdir, *overrides, new_session=False):
    return subprocess.Popen(
        [sys.executable, "-m", "jaxgen.main", f"--config={TINY}", f"--workdir={workdir}",
         "--config.train.log_every=1", "--config.train.checkpoint_every=100000", *overrides],
        cwd=REPOSITORY, env=process_environment(), stderr=subprocess.PIPE, text=True,
        start_new_session=new_session,
    )  # fmt: skip


def wait_for_steps(workdir, process, count=3, timeout=120):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if len(read_metrics(workdir)) >= count:
            return
        if process.poll() is not None:
            pytest.fail(process.stderr.read())
        time.sleep(0.05)
    process.kill()
    pytest.fail("the run did not get going")


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGUSR1, 0), (signal.SIGINT, 130)],
    ids=["SIGTERM", "SIGHUP", "SIGUSR1", "Ctrl-C"],
)
def test_signal_saves_and_the_next_start_resumes(tmp_path, number, status):
    endless = ("--config.train.steps=100000", "--config.model.pretrain_steps=100000")
    process = start(tmp_path, *endless)
    wait_for_steps(tmp_path, process)
    process.send_signal(number)
    _, text = process.communicate(timeout=120)
    assert process.returncode == status, text
    (saved,) = complete_steps(tmp_path)
    assert f"at step {saved}" in text
    assert f"{number.name}: saving after this step" in text
    again = start(tmp_path, f"--config.train.steps={saved + 2}", endless[1])
    _, text = again.communicate(timeout=120)
    assert again.returncode == 0, text
    assert f"resumed from checkpoint {saved}" in text
    assert complete_steps(tmp_path)[-1] == saved + 2


def test_an_evaluation_that_is_due_is_left_out(tmp_path, monkeypatch):
    """Who asks a run to stop does not wait for pictures."""
    monkeypatch.setattr(loop, "run_evaluation", lambda *_: pytest.fail("it was evaluated"))
    monkeypatch.setattr(StopSignal, "asked", lambda stop: True)
    ended = run(tiny(train__steps=4, train__eval_every=1), tmp_path)
    assert (ended.stopped, ended.step) == ("preempted", 1)
    assert complete_steps(tmp_path) == [1]


def test_ctrl_c_reaches_no_data_worker(tmp_path):
    process = start(
        tmp_path, "--config.train.steps=100000", "--config.data.workers=2",
        "--config.train.eval_every=-1", new_session=True,
    )  # fmt: skip
    wait_for_steps(tmp_path, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, text = process.communicate(timeout=120)
    assert process.returncode == 130, text
    assert "Traceback" not in text
    assert len(complete_steps(tmp_path)) == 1


def test_two_quick_ctrl_c_end_in_one_line(tmp_path):
    process = start(tmp_path, "--config.train.steps=100000")
    wait_for_steps(tmp_path, process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=120)
    assert process.returncode == 130, text
    assert "Traceback" not in text


def test_ctrl_c_at_start_is_one_line(tmp_path):
    process = start(tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / ".lock").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=120)
    assert process.returncode == 130, text
    assert "Traceback" not in text
