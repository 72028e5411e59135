"""SIGKILL at random moments: the run that is started again ends in the bits of an unbroken one."""

import random
import subprocess
import sys
import time

import pytest
from helpers import (
    REPOSITORY,
    TINY,
    assert_bitwise,
    checkpoint_arrays,
    process_environment,
    start_two_hosts,
    two_hosts,
)

from jaxgen.weights.checkpoints import complete_steps

EVERY = 3  # steps per checkpoint


def arguments(workdir, steps):
    """A run whose dropout, label and instance noise make its randomness matter."""
    return [
        "-m", "jaxgen.main", f"--config={TINY}", f"--workdir={workdir}",
        f"--config.train.steps={steps}", f"--config.train.checkpoint_every={EVERY}",
        "--config.train.keep=2", "--config.train.eval_every=-1", "--config.train.log_every=50",
        "--config.model.discriminator.dropout=0.3", "--config.model.loss.instance_noise=0.1",
        "--config.model.loss.instance_noise_steps=20",
        "--config.model.loss.label_smoothing_kind=uniform",
        # The rates must not depend on `train.steps`, which the last start sets.
        "--config.optimizer.g.schedule=constant", "--config.optimizer.d.schedule=constant",
        "--config.optimizer.pretrain.schedule=constant",
    ]  # fmt: skip


def newest(workdir) -> int:
    return max(complete_steps(workdir), default=0)


def start(hosts, workdir, logs, steps):
    if hosts == 2:
        return start_two_hosts(arguments(workdir, steps), logs)
    with open(logs / "log0", "w") as log:
        command = [sys.executable, *arguments(workdir, steps)]
        return [
            subprocess.Popen(
                command, cwd=REPOSITORY, env=process_environment(), stdout=log, stderr=log
            )
        ]


def finish(hosts, workdir, logs, steps):
    if hosts == 2:
        two_hosts(arguments(workdir, steps), logs)
        return
    (process,) = start(hosts, workdir, logs, steps)
    assert process.wait(timeout=300) == 0, (logs / "log0").read_text()


@pytest.mark.parametrize(
    ("hosts", "kills"),
    [
        (1, 2),
        pytest.param(1, 20, marks=pytest.mark.slow),
        pytest.param(2, 6, marks=pytest.mark.slow),
    ],
)
def test_killed_at_random_moments_ends_in_the_same_bits(hosts, kills, tmp_path):
    workdir, rng = tmp_path / "killed", random.Random(kills)
    for _ in range(kills):
        before = newest(workdir)
        processes = start(hosts, workdir, tmp_path, 100_000)
        # Most of a start's time goes to imports: moments count from the first new checkpoint on,
        # some while it is being resumed, compiled or deleted.
        goal, deadline = before + EVERY * rng.randrange(4), time.monotonic() + 600
        try:
            while newest(workdir) < goal:
                assert all(p.poll() is None for p in processes), (tmp_path / "log0").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 8) if goal == before else rng.uniform(0, 0.3))
        finally:  # nothing runs on when a test fails
            for process in processes:
                process.kill()
            for process in processes:
                process.wait()
        assert newest(workdir) >= goal  # nothing that was saved is lost
    steps = newest(workdir) + EVERY
    finish(hosts, workdir, tmp_path, steps)
    finish(hosts, tmp_path / "whole", tmp_path, steps)
    assert_bitwise(checkpoint_arrays(workdir, steps), checkpoint_arrays(tmp_path / "whole", steps))
