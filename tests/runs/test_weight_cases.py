"""Weight files that failed once (the benchmark data's `cases`): read, with the right output."""

import shutil
import sys

import jax
import numpy as np
import pytest
from support.benchmark_data import held
from support.conversion import assert_same_bits

from jaxgen import weights
from jaxgen.models.esrgan.task import make_generator
from jaxgen.runs import convert
from jaxgen.runs import model as run


@pytest.fixture(autouse=True)
def no_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)


@pytest.fixture(scope="module")
def cases(data_dir):
    return held(data_dir, "cases")


CASES = {
    "old_x1": ("ESRGAN RRDBNet, old keys", {"scale": 1, "unshuffle": 1}),
    "old_x2": ("ESRGAN RRDBNet, old keys", {"scale": 2, "unshuffle": 1}),
    "old_x8": ("ESRGAN RRDBNet, old keys", {"scale": 8}),
    "old_plus_x4": ("ESRGAN RRDBNet, old keys", {"scale": 4, "plus": True}),
    "bsr_plain_x2": ("Real-ESRGAN RRDBNet", {"scale": 2, "unshuffle": 1}),
    "old_gray_x4": ("ESRGAN RRDBNet, old keys", {"scale": 4, "channels": 1, "out_channels": 1}),
    "compact_gray_x4": (
        "Real-ESRGAN SRVGGNetCompact",
        {"scale": 4, "channels": 1, "out_channels": 1},
    ),
    "w_net": ("Real-ESRGAN RRDBNet", {"scale": 4}),
    "w_params-ema_both": ("Real-ESRGAN RRDBNet", {"scale": 4}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_output_is_the_original_s(cases, name):
    found = convert.convert(cases / f"{name}.pth")
    layout, sizes = CASES[name]
    rest = {"features", "blocks", "growth", "convs"}
    assert found.layout.name == layout
    assert {key: value for key, value in found.sizes.items() if key not in rest} == sizes
    with np.load(cases / f"{name}.golden.npz") as file:
        x, y = (file[key].transpose(0, 2, 3, 1) for key in ("x", "y"))
        assert file["scale"] == sizes["scale"]
    apply = jax.jit(make_generator(found.config).apply)
    ours = (apply(found.variables, 2 * x - 1) + 1) / 2
    np.testing.assert_allclose(ours, y, atol=1e-5 * np.abs(y).max(), rtol=0)


@pytest.mark.parametrize(
    ("name", "reads", "says"),
    [
        ("w_params-ema_both.pth", "params-ema", "takes the averaged weights, params-ema; leaves"),
        ("w_generator_prefix_mmedit.pth", "generator.", "takes generator; leaves out discriminat"),
        ("ckpt_lightning.ckpt", "model.", ""),
        ("w_npscalar.pth", "", ""),
        ("w_net.pth", "", ""),
        ("swift_x4_model.pth.tar", "", ""),
    ],
)
def test_wrappers_and_names(cases, caplog, name, reads, says):
    found = convert.convert(cases / name)
    assert found.sizes["scale"] == 4
    assert says in caplog.text
    assert bool(says) == bool(caplog.text)
    back = weights.to_torch(found.variables, found.layout.rules(found.sizes))
    theirs = weights.read_tensors(cases / name)
    if f"{reads}conv_first.weight" in theirs:
        theirs = {k.removeprefix(reads): v for k, v in theirs.items() if k.startswith(reads)}
    theirs = {k: v for k, v in theirs.items() if not k.endswith("num_batches_tracked")}
    assert_same_bits(back, theirs)
    assert any(np.any(tensor) for tensor in back.values())


def test_the_average_before_others_side_by_side(tmp_path, caplog, cases):
    tensors = weights.read_tensors(cases / "w_net.pth")
    nets = {f"generator_ema.{k}": v for k, v in tensors.items()}
    nets |= {f"generator.{k}": np.zeros_like(v) for k, v in tensors.items()}
    weights.write_tensors(tmp_path / "w.safetensors", nets)
    found = convert.convert(tmp_path / "w.safetensors")
    assert "takes the averaged weights, generator_ema; leaves out generator" in caplog.text
    back = weights.to_torch(found.variables, found.layout.rules(found.sizes))
    assert_same_bits(back, tensors)


@pytest.mark.parametrize("name", ["w.PTH", "w.ckpt", "w.bin", "w.pt", "w.pth.tar", "w", "w.npz"])
def test_what_it_is_its_bytes_say(cases, tmp_path, name):
    shutil.copy(cases / "compact_gray_x4.pth", tmp_path / name)
    assert convert.convert(tmp_path / name).sizes["channels"] == 1


def test_gray_photos_go_into_a_gray_net_as_gray(cases, tmp_path, jaxgen_command):
    path = cases / "compact_gray_x4.pth"
    assert jaxgen_command("convert", path, "--to", "gray")[0] == 0
    model = run.load(tmp_path / "gray")
    assert (model.upscale.verb.channels, model.upscale.scale) == (1, 4)
    with np.load(cases / "compact_gray_x4.golden.npz") as file:
        x = np.round(255 * file["x"][0, 0]).astype(np.uint8)
    found = convert.convert(path)
    net = make_generator(found.config)
    y = jax.jit(net.apply)(found.variables, x[None, ..., None] / np.float32(127.5) - 1)
    expected = np.clip(np.round((np.asarray(y)[0, ..., 0] + 1) * 127.5), 0, 255)
    gray = model.upscale(x)
    assert gray.shape == (96, 80)
    assert np.abs(gray - expected).max() <= 1
    # Of a colour picture each channel by itself, also in tiles.
    colour = np.stack([x, 255 - x, x[::-1]], axis=-1)
    large = model.upscale(colour)
    for channel in range(3):
        np.testing.assert_array_equal(large[..., channel], model.upscale(colour[..., channel]))
    tiled = model.upscale(colour, tile=8)
    assert np.abs(tiled.astype(int) - large).max() <= 1


def test_every_weight_file_of_the_cases_is_here(cases):
    names = {p.name for p in cases.iterdir() if {".pth", ".ckpt"}.intersection(p.suffixes)}
    tested = {f"{name}.pth" for name in CASES}
    tested |= {"w_generator_prefix_mmedit.pth", "ckpt_lightning.ckpt", "w_npscalar.pth"}
    assert names == tested | {"swift_x4_model.pth.tar"}
