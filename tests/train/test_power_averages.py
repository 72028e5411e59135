"""A run with averages of any length: kept, resumed, read again, exported."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import assert_bitwise, checkpoint_arrays, run, tiny

from jaxgen.errors import UserError
from jaxgen.runs.model import load
from jaxgen.weights.averages import gamma_of, read_average
from jaxgen.weights.keymap import flatten

STEPS = 6
KEPT = {
    "train__power_ema": True,
    "train__keep_every": 1,
    "train__checkpoint_every": 1,
    # A schedule that does not depend on how long the run is to be.
    "optimizer__g__schedule": "multistep",
    "optimizer__g__milestones": (2,),
    "optimizer__pretrain__schedule": "constant",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("power") / "run"
    run(tiny(train__steps=3, **KEPT), folder)
    run(tiny(train__steps=STEPS, **KEPT), folder)
    return folder


def weights_of(folder, step):
    found = checkpoint_arrays(folder, step)
    return {k.removeprefix("net_g/"): v for k, v in found.items() if k.startswith("net_g/")}


def direct(folder, width):
    """By definition: the weights at each step, by the integral of tau^gamma over it."""
    shares = np.diff((np.arange(STEPS + 1) / STEPS) ** (gamma_of(width) + 1))
    steps = [weights_of(folder, s) for s in range(1, STEPS + 1)]
    return {k: np.tensordot(shares, np.stack([w[k] for w in steps]), 1) for k in steps[0]}


@pytest.mark.parametrize("width", [0.05, 0.1, 0.08])
def test_any_width_is_the_average_by_definition(trained, width):
    nets, step = read_average(trained, width, nets=("g",))
    ours, truth, last = flatten(nets["g"]), direct(trained, width), weights_of(trained, STEPS)
    assert step == STEPS
    assert ours.keys() == truth.keys()
    # What there is to get wrong is how far the average is from the last weights.
    moved = max(np.abs(last[k] - truth[k]).max() for k in truth)
    worst = max(np.abs(ours[k] - truth[k]).max() for k in truth)
    # The widths that are kept are exact but for float32; six snapshots give others roughly.
    assert worst < (0.2 * moved if width == 0.08 else 5e-8), (worst, moved)
    assert all(ours[k].dtype == last[k].dtype for k in ours)


def test_resumed_equals_uninterrupted(trained, tmp_path):
    run(tiny(train__steps=STEPS, **KEPT), tmp_path)
    assert_bitwise(checkpoint_arrays(trained, STEPS), checkpoint_arrays(tmp_path, STEPS))


def test_export_by_width(trained, tmp_path, jaxgen_command):
    code, _, err = jaxgen_command(
        "export", str(trained), "--out", str(tmp_path / "e"), "--width", "0.08"
    )
    assert code == 0, err
    exported = load(tmp_path / "e")
    ours = flatten(exported.nets["g"])
    wanted = flatten(read_average(trained, 0.08, nets=("g",))[0]["g"])
    for name, array in wanted.items():
        np.testing.assert_allclose(ours[name], array, atol=1e-6)
    with pytest.raises(UserError, match="only a run keeps averages"):
        load(tmp_path / "e", width=0.1)
    with pytest.raises(UserError, match="relative width"):
        load(trained, width=0.5)


def test_a_run_without_says_what_to_do(tmp_path):
    run(tiny(train__steps=1), tmp_path)
    with pytest.raises(UserError, match=r"train\.power_ema=True and train\.keep_every"):
        load(tmp_path, width=0.1)
    with pytest.raises(UserError, match=r"power_ema"):
        run(tiny(train__steps=2, train__power_ema=True), tmp_path)
