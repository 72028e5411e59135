"""SIGTERM saves and exits 0, Ctrl-C saves and exits 130; the next start resumes."""

import signal
import subprocess
import sys
import time

import pytest
from helpers import REPOSITORY, TINY, process_environment

from jaxgen.weights.checkpoints import complete_steps, read_metrics


def start(workdir, *overrides):
    return subprocess.Popen(
        [sys.executable, "-m", "jaxgen.main", f"--config={TINY}", f"--workdir={workdir}",
         "--config.train.log_every=1", "--config.train.checkpoint_every=100000", *overrides],
        cwd=REPOSITORY, env=process_environment(), stderr=subprocess.PIPE, text=True,
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
    [(signal.SIGTERM, 0), (signal.SIGUSR1, 0), (signal.SIGINT, 130)],
    ids=["SIGTERM", "SIGUSR1", "Ctrl-C"],
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
    again = start(tmp_path, f"--config.train.steps={saved + 2}", endless[1])
    _, text = again.communicate(timeout=120)
    assert again.returncode == 0, text
    assert f"resumed from checkpoint {saved}" in text
    assert complete_steps(tmp_path)[-1] == saved + 2
