"""Jobs under a stand-in for Slurm: the warning before the time limit, saving, requeueing, resuming.

srun runs its command here, scancel signals it, scontrol writes down what it is asked.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import SCRIPTS, TINY, process_environment, script_environment

from jaxgen.weights.checkpoints import complete_steps, read_metrics

TOOLS = {
    "srun": """#!/bin/bash
while [[ $1 == -* ]]; do shift; done
# As a step of one task: JAX joins its cluster of one by these.
export SLURM_STEP_NODELIST=localhost SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0
export SLURM_STEP_NUM_TASKS=1
echo $$ > "$FAKE_SLURM/step"
exec "$@"
""",
    "scancel": """#!/bin/bash
echo "$@" >> "$FAKE_SLURM/scancel.log"
kill -s "${1#--signal=}" "$(cat "$FAKE_SLURM/step")"
""",
    "scontrol": """#!/bin/bash
echo "$@" >> "$FAKE_SLURM/scontrol.log"
""",
}


@pytest.fixture
def slurm(tmp_path: Path) -> Path:
    """The stand-in's folder."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in TOOLS.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def submit(slurm: Path, script: str, *args: str, **variables: str) -> subprocess.Popen:
    """Starts a job as Slurm does: from a copy of the script, with the job's variables."""
    environment = script_environment(
        {
            "FAKE_SLURM": str(slurm), "SLURM_JOB_ID": "421", "SLURM_NTASKS_PER_NODE": "1",
            "SLURM_GPUS_ON_NODE": "1", "SLURM_SUBMIT_DIR": str(SCRIPTS.parent), **variables,
        },
        slurm,
    )  # fmt: skip
    spooled = slurm / "slurm_script"
    spooled.write_text((SCRIPTS / script).read_text())
    return subprocess.Popen(
        ["bash", str(spooled), f"--python={sys.executable}", *args],
        env=process_environment(PATH=environment["PATH"]) | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def asked(slurm: Path, tool: str) -> list[str]:
    log = slurm / f"{tool}.log"
    return log.read_text().splitlines() if log.exists() else []


def wait_for(found, job: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not found():
        if job.poll() is not None or time.monotonic() > deadline:
            os.killpg(job.pid, signal.SIGKILL)
            pytest.fail(job.stderr.read())
        time.sleep(0.05)


def test_a_job_saves_before_its_time_limit_is_requeued_and_resumes(tmp_path, slurm):
    run = tmp_path / "run"
    endless = [
        f"--config={TINY}", f"--workdir={run}", "--", "--config.train.log_every=1",
        "--config.train.checkpoint_every=100000", "--config.model.pretrain_steps=100000",
        "--config.train.eval_every=-1",
    ]  # fmt: skip
    job = submit(slurm, "slurm.sbatch", *endless, "--config.train.steps=100000")
    wait_for(lambda: len(read_metrics(run)) >= 3, job)
    job.send_signal(signal.SIGUSR1)  # B: the batch script alone
    _, text = job.communicate(timeout=120)
    assert job.returncode == 0, text
    (saved,) = complete_steps(run)
    assert f"at step {saved}" in text
    assert asked(slurm, "scancel") == ["--signal=TERM 421"]
    assert asked(slurm, "scontrol") == ["requeue 421"]
    # Slurm starts the job again.
    job = submit(
        slurm,
        "slurm.sbatch",
        *endless,
        f"--config.train.steps={saved + 2}",
        SLURM_RESTART_COUNT="1",
    )
    _, text = job.communicate(timeout=120)
    assert job.returncode == 0, text
    assert f"resumed from checkpoint {saved}" in text
    assert complete_steps(run)[-1] == saved + 2
    assert len(asked(slurm, "scontrol")) == 1, "a job that came to its end is not requeued"


# ---- what the script does, by a trainer of a moment ----------------------------------------------


def with_trainer(
    tmp_path: Path, slurm: Path, body: str, script="slurm.sbatch", args=(), **variables
):
    """A job whose python is this piece of bash; it is up when it has made $FAKE_SLURM/up."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/bash\n{body}")
    python.chmod(0o755)
    args = args or ("--config=c.py",)
    job = submit(slurm, script, f"--python={python}", *args, **variables)
    wait_for((slurm / "up").exists, job)
    return job


SAVING = """trap 'sleep 0.5; : > "$FAKE_SLURM/saved"; exit {status}' TERM
: > "$FAKE_SLURM/up"; while :; do sleep 0.05; done"""


@pytest.mark.parametrize(("status", "requeued"), [(0, 1), (130, 1), (3, 0)])
def test_a_job_that_could_not_save_is_not_requeued(tmp_path, slurm, status, requeued):
    job = with_trainer(tmp_path, slurm, SAVING.format(status=status))
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=60) == (0 if requeued else status)
    assert (slurm / "saved").exists()
    assert len(asked(slurm, "scontrol")) == requeued


def test_a_preempted_job_waits_for_the_save_and_leaves_requeueing_to_slurm(tmp_path, slurm):
    job = with_trainer(tmp_path, slurm, SAVING.format(status=0))
    # Slurm signals the steps itself, and it may signal the script.
    job.send_signal(signal.SIGTERM)
    os.kill(int((slurm / "step").read_text()), signal.SIGTERM)
    assert job.wait(timeout=60) == 0
    assert (slurm / "saved").exists()
    assert asked(slurm, "scontrol") == []


@pytest.mark.parametrize("status", [0, 7])
def test_the_trainers_status_is_the_jobs(tmp_path, slurm, status):
    job = with_trainer(tmp_path, slurm, f': > "$FAKE_SLURM/up"; sleep 0.3; exit {status}')
    assert job.wait(timeout=60) == status
    assert asked(slurm, "scontrol") == []


def test_a_shard_that_runs_out_of_time_goes_back_into_the_queue(tmp_path, slurm):
    """`jaxgen upscale` dies of SIGTERM; its pictures are whole, the next start does the rest."""
    body = 'echo "$@" > "$FAKE_SLURM/args"; : > "$FAKE_SLURM/up"; exec sleep 60'
    job = with_trainer(
        tmp_path, slurm, body, "slurm_array.sbatch", ("--", "upscale", "photos", "-o", "out"),
        SLURM_ARRAY_TASK_ID="2", SLURM_ARRAY_TASK_COUNT="4", SLURM_ARRAY_TASK_MIN="1",
        SLURM_ARRAY_TASK_MAX="4",
    )  # fmt: skip
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=60) == 0
    assert (slurm / "args").read_text() == "-m jaxgen upscale photos -o out --shard=2/4\n"
    assert asked(slurm, "scontrol") == ["requeue 421"]
