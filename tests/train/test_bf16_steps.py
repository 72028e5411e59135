"""5,000 steps in bfloat16 without a number that is not finite: minutes long, so marked slow."""

import os
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import REPOSITORY, checkpoint_arrays

from jaxgen import config as configs
from jaxgen.train import loop
from jaxgen.weights.checkpoints import read_metrics

COLUMNS = (
    "d/loss", "g/loss", "d/real", "d/fake", "d/magp", "d/input_norm/p10", "d/input_norm/p50",
    "d/input_norm/p90", "d/grad_norm/d", "g/grad_norm/g", "skipped_updates",
)  # fmt: skip


def train_in_bfloat16(workdir: Path, steps: int) -> str:
    """DF-GAN with dense blocks and MA-GP at every step, 32 px; returns the log as a table."""
    changes = {
        "train.dtype": "bfloat16",
        "train.steps": steps,
        "train.batch_size": 8,
        "train.log_every": min(100, steps),
        "train.eval_every": -1,
        "train.tensorboard": False,
        "data.size": 32,
        "data.count": 2000,
        "model.text.width": 16,
        "model.text.embedding": 16,
        "model.generator.block": "rdb",
        "model.generator.features": 8,
        "model.generator.z_size": 16,
        "model.discriminator.features": 8,
        "model.damsm_steps": 0,
        "model.text.kind": "lstm",
        "model.text.trained_by": "d",
        "model.loss.damsm": 0.0,
        "model.loss.magp": 2.0,
        "model.loss.penalty_every": 1,
    }
    config = configs.load(f"{REPOSITORY}/configs/dfgan.py", changes)
    began = time.monotonic()
    # train.max_skips is 0: the first number that is not finite ends the run with an error.
    loop.train(config, workdir, devices=jax.devices()[:1])
    seconds = time.monotonic() - began
    lines = [line for line in read_metrics(workdir) if line["kind"] == "train"]
    rows = [["step", *COLUMNS]]
    for line in lines:
        values = [line.get(key, 0.0) for key in COLUMNS]
        assert np.isfinite(values).all()
        rows.append([str(line["step"]), *(f"{value:.4g}" for value in values)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    table = ["  ".join(x.rjust(w) for x, w in zip(row, widths, strict=True)) for row in rows]
    settings = [f"  {key}={value}" for key, value in changes.items()]
    head = (
        f"{steps} steps on {jax.devices()[0].device_kind} in {seconds:.0f} s, jax {jax.__version__}"
    )
    return "\n".join([head, "configs/dfgan.py with", *settings, "", *table, ""])


@pytest.mark.slow
def test_five_thousand_bfloat16_steps_without_a_number_that_is_not_finite(tmp_path):
    """The log goes to the file that JAXGEN_BF16_LOG names; docs/bf16_5000_steps.txt is one."""
    log = train_in_bfloat16(tmp_path, 5000)
    Path(os.environ.get("JAXGEN_BF16_LOG", tmp_path / "log.txt")).write_text(log)
    lines = [line for line in read_metrics(tmp_path) if line["kind"] == "train"]
    assert lines[-1]["step"] == 5000
    assert sum(line.get("skipped_updates", 0.0) for line in lines) == 0
    assert all(line["d/magp"] > 0 for line in lines)
    arrays = checkpoint_arrays(tmp_path, 5000)
    assert all(np.isfinite(v).all() for v in arrays.values())
    assert {v.dtype for k, v in arrays.items() if k.startswith("net_")} == {np.dtype("float32")}
