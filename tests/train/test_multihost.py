"""Two processes over gloo equal one process: same weights, one log, evaluation shared."""

import json
import re
import signal
import time

import pytest
from helpers import (
    STEADY,
    TINY,
    assert_close,
    checkpoint_arrays,
    run,
    start_two_hosts,
    tiny,
    two_hosts,
)

from jaxgen.weights.checkpoints import complete_steps, read_metrics

CHANGES = {
    **STEADY,
    "train__steps": 6,
    "train__eval_every": 2,
    # Saving, deleting and the choice of the best are decisions that the hosts must share.
    "train__checkpoint_every": 1,
    "train__keep": 1,
    "train__best_metric": "psnr_y",
    "eval__images": 2,
    "mesh__fsdp": 2,
    "mesh__fsdp_min_size": 64,
}
OVERRIDES = [f"--config.{key.replace('__', '.')}={value}" for key, value in CHANGES.items()]


def test_two_processes_equal_one(tmp_path):
    text, _ = two_hosts(
        ["-m", "jaxgen.main", f"--config={TINY}", f"--workdir={tmp_path / 'two'}", *OVERRIDES],
        tmp_path,
        devices=2,
    )
    assert "process 0 of 2" in text

    config = tiny(**CHANGES)
    run(config, tmp_path / "one", devices=4)
    one, two = (checkpoint_arrays(tmp_path / n, 6) for n in ("one", "two"))
    assert_close(one, two, 1e-5)

    # One log, written by one host, and the evaluation is over both hosts' pictures.
    lines = {n: read_metrics(tmp_path / n) for n in ("one", "two")}
    assert [x["step"] for x in lines["one"]] == [x["step"] for x in lines["two"]]
    a, b = (x[-1] for x in lines.values())
    assert a["kind"] == "eval"
    assert abs(a["psnr_y"] - b["psnr_y"]) < 1e-3
    about = json.loads((tmp_path / "two" / "environment.json").read_text())
    assert about["processes"] == 2


@pytest.mark.parametrize(
    "number", [signal.SIGUSR1, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)]
)
def test_signal_to_one_host_saves_on_all_at_the_same_step(number, tmp_path):
    processes = start_two_hosts(
        ["-m", "jaxgen.main", f"--config={TINY}", f"--workdir={tmp_path / 'run'}",
         "--config.train.steps=100000", "--config.train.log_every=1",
         "--config.train.checkpoint_every=100000", "--config.train.eval_every=-1"],
        tmp_path,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 200
        while len(read_metrics(tmp_path / "run")) < 3:
            assert all(p.poll() is None for p in processes), (tmp_path / "log1").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        processes[1].send_signal(number)  # not the one that writes
        assert [process.wait(timeout=200) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    said = [(tmp_path / f"log{index}").read_text() for index in range(2)]
    (saved,) = complete_steps(tmp_path / "run")
    assert not any("Traceback" in text for text in said)
    # A checkpoint is complete when each host has written its part of the same step.
    assert re.findall(r"preempted at step (\d+)", said[0]) == [str(saved)]
