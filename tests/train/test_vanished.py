"""A run's folder that is gone, or can't be written, ends the run in one line and status 2."""

import shutil
import subprocess
import sys
import time

import pytest
from helpers import REPOSITORY, TINY, process_environment

from jaxgen.errors import UserError
from jaxgen.task import Evaluation
from jaxgen.train.plan import Pace, Stage
from jaxgen.train.writers import Writer
from jaxgen.weights.checkpoints import read_metrics

PACE = Pace([Stage(0, 10, ("g",))])


@pytest.mark.parametrize("every", ["log_every", "eval_every", "checkpoint_every"])
def test_folder_that_vanishes_while_running(every, tmp_path):
    workdir = tmp_path / "run"
    numbers = {"log_every": 100_000, "eval_every": -1, "checkpoint_every": 100_000, every: 5}
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxgen.main", f"--config={TINY}", f"--workdir={workdir}",
         "--config.train.steps=100000", "--config.eval.images=1",
         "--config.model.pretrain_steps=100000",
         *(f"--config.train.{key}={value}" for key, value in numbers.items())],
        cwd=REPOSITORY, env=process_environment(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 200
        while not (read_metrics(workdir) or list(workdir.glob("checkpoints/[0-9]*"))):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        workdir.rename(tmp_path / "elsewhere")
        _, text = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 2, text
    assert "Traceback" not in text
    last = text.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "is gone: it must stay while the run lasts" in last


def test_each_write_of_a_log_whose_folder_is_gone(tmp_path):
    (tmp_path / "run").mkdir()
    writer = Writer(tmp_path / "run", 0, PACE, tensorboard=True)
    writer.scalars(1, "train", {"loss": 1.0})
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(UserError, match="is gone"):
        writer.scalars(2, "train", {"loss": 1.0})
    with pytest.raises(UserError, match="is gone"):
        writer.evaluation(2, Evaluation(metrics={"psnr": 1.0}))
    writer.close()


def test_full_disk_below_the_log(tmp_path):
    writer = Writer(tmp_path, 0, PACE, tensorboard=False)
    writer.file.close()
    with open("/dev/full", "w", buffering=1) as writer.file:
        with pytest.raises(UserError, match="No space left on device; the same command resumes"):
            writer.scalars(1, "train", {"loss": 1.0})
        writer.close()
