"""The same seed twice gives the same run, to the last bit; another seed gives another."""

import pytest
from helpers import assert_bitwise, checkpoint_arrays, run, tiny


@pytest.mark.parametrize("devices", [1, 8])
def test_same_seed_same_bits(tmp_path, devices):
    config = tiny(train__steps=6)
    run(config, tmp_path / "a", devices)
    run(config, tmp_path / "b", devices)
    assert_bitwise(checkpoint_arrays(tmp_path / "a", 6), checkpoint_arrays(tmp_path / "b", 6))


def test_other_seed_other_weights(tmp_path):
    run(tiny(train__steps=1), tmp_path / "a")
    run(tiny(train__steps=1, train__seed=1), tmp_path / "b")
    a, b = checkpoint_arrays(tmp_path / "a", 1), checkpoint_arrays(tmp_path / "b", 1)
    assert (a["net_g/params/conv_in/kernel"] != b["net_g/params/conv_in/kernel"]).any()
