"""Two processes over gloo equal one process: same weights, one log, evaluation shared."""

import json

from helpers import (
    STEADY,
    TINY,
    assert_close,
    checkpoint_arrays,
    run,
    tiny,
    two_hosts,
)

from jaxgen.weights.checkpoints import read_metrics

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
