"""`jaxgen convert` of real weights: their published numbers, and the same bits back."""

import json

import pytest
from support.conversion import assert_same_bits

from jaxgen import weights


def measured(jaxgen_command, model, data, tmp_path):
    """Mean PSNR of `jaxgen eval`, gray originals as RGB, on the set's own LR pictures."""
    report = tmp_path / "report.json"
    args = ("--model", model, "--data", data, "--gray", "replicate", "--json", report)
    assert jaxgen_command("eval", *args)[0] == 0
    return json.loads(report.read_text())["mean"]["model"]["psnr_y"]


@pytest.fixture
def leftthomas(jaxgen_command, data_dir, tmp_path):
    """The published x4 generator, converted by the command."""
    assert (
        jaxgen_command("convert", data_dir / "weights/leftthomas_netG_x4.pth", "--to", "lt")[0] == 0
    )
    return tmp_path / "lt"


@pytest.mark.parametrize(
    ("benchmark", "psnr"),
    [
        ("Set5", 30.657),
        pytest.param("Set14", 27.690, marks=pytest.mark.slow),
        pytest.param("BSD100", 26.994, marks=pytest.mark.slow),
    ],
)
def test_leftthomas_gives_its_numbers(
    benchmark, psnr, leftthomas, jaxgen_command, data_dir, tmp_path
):
    found = measured(jaxgen_command, leftthomas, data_dir / "sr" / benchmark / "x4", tmp_path)
    assert abs(found - psnr) < 0.01


def test_leftthomas_goes_back_to_the_same_bits(leftthomas, data_dir, jaxgen_command):
    assert jaxgen_command("convert", leftthomas, "--to-torch", "back.pth")[0] == 0
    path = data_dir / "weights/leftthomas_netG_x4.pth"
    original = weights.read_tensors(path)
    assert len(original) == 79
    assert_same_bits(weights.read_tensors("back.pth"), original)


@pytest.mark.slow
def test_srvgg_gives_its_numbers(jaxgen_command, data_dir, tmp_path):
    path = data_dir / "weights/realesr-animevideov3-x4.srvgg.npz"
    assert jaxgen_command("convert", path, "--to", "srvgg")[0] == 0
    found = measured(jaxgen_command, tmp_path / "srvgg", data_dir / "sr/Set5/x4", tmp_path)
    assert abs(found - 28.250) < 0.01
