"""Gradient accumulation equals the large batch (nets without BatchNorm)."""

import pytest
from helpers import assert_close, checkpoint_arrays, run, tiny


@pytest.mark.parametrize(("accumulate", "devices"), [(4, 1), (2, 4)])
def test_micro_batches_equal_one_batch(tmp_path, accumulate, devices):
    # Pre-training only: G has no BatchNorm there. SGD, whose step is linear in the gradient, so
    # that the comparison is of gradients and not of Adam's signs.
    changes = {
        "train__steps": 3,
        "optimizer__pretrain__name": "sgd",
        "optimizer__pretrain__lr": 0.1,
    }
    run(tiny(**changes), tmp_path / "whole", devices)
    run(tiny(**changes, train__accumulate=accumulate), tmp_path / "parts", devices)
    whole, parts = (checkpoint_arrays(tmp_path / n, 3) for n in ("whole", "parts"))
    start = tmp_path / "start"
    run(tiny(**{**changes, "train__steps": 1, "optimizer__pretrain__lr": 0.0}), start, devices)
    moved = [
        k
        for k, v in checkpoint_arrays(start, 1).items()
        if k.startswith("net_g/") and abs(v - whole[k]).max() > 1e-4
    ]
    assert "net_g/params/conv_out/kernel" in moved
    assert_close({k: whole[k] for k in moved}, {k: parts[k] for k in moved}, 1e-6)
