"""Forms of ESRGAN's networks that only published files have: what is done with them, and not."""

import jax
import numpy as np
import pytest
from helpers import REPOSITORY
from support.conversion import assert_same_bits

from jaxgen import config as configs
from jaxgen import weights
from jaxgen.errors import UserError
from jaxgen.models import esrgan
from jaxgen.models.esrgan.convert import LAYOUTS
from jaxgen.models.esrgan.task import make_generator
from jaxgen.runs import convert
from jaxgen.runs import model as run

LAYOUT = {one.name: one for one in LAYOUTS}
OLD = LAYOUT["ESRGAN RRDBNet, old keys"]
ALIKE = [f"Real-ESRGAN SRVGGNetCompact with {name}" for name in ("ReLU", "LeakyReLU")]
X = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)


def written(path, layout, sizes):
    """A published file with random tensors."""
    shapes = layout.expected(layout.config(sizes))
    rng = np.random.default_rng(1)
    tree = jax.tree.map(lambda a: rng.normal(size=a.shape).astype("f4") * 0.1, shapes)
    last = tree["params"].get("conv_last")
    if last:
        last["bias"] += 0.5  # well within the range
    weights.write_tensors(path, weights.to_torch(tree, layout.rules(sizes)))
    return path


def exported(folder, channels, out_channels):
    """(model, its network, variables) of a published file with these channels."""
    sizes = {"scale": 2, "features": 4, "blocks": 1, "growth": 4, "unshuffle": 1}
    sizes |= {"channels": channels} if channels != 3 else {}
    sizes |= {"out_channels": out_channels} if out_channels != 3 else {}
    found = convert.convert(written(folder / "w.pth", OLD, sizes))
    assert dict(found.sizes) == sizes
    return run.load(found.export(folder / "model")), make_generator(found.config), found.variables


def rounded(y):
    return np.clip(np.round((np.asarray(y)[0] + 1) * 127.5), 0, 255)


def scaled(x):
    return x[None].astype(np.float32) / 127.5 - 1


@pytest.mark.parametrize(("channels", "out_channels"), [(4, 4), (3, 1), (1, 3), (4, 3)])
def test_colour_and_gray_pictures(tmp_path, channels, out_channels):
    model, net, variables = exported(tmp_path, channels, out_channels)
    luma = np.array([0.299, 0.587, 0.114], np.float32)
    x = scaled(X)
    if channels == 4:
        x = np.concatenate([x, np.ones_like(x[..., :1])], axis=-1)
    elif channels == 1:
        x = (x * luma).sum(axis=-1, keepdims=True)
    y = np.asarray(jax.jit(net.apply)(variables, x))
    y = np.repeat(y, 3, axis=-1) if out_channels == 1 else y[..., :3]
    large = model.upscale(X)
    assert large.shape == (12, 10, 3)
    assert np.abs(large - rounded(y)).max() <= 1
    assert 20 < large.min() < large.max() < 235
    gray = model.upscale(X[..., 0])
    same = model.upscale(np.repeat(X[..., :1], 3, axis=-1))
    assert gray.shape == (12, 10)
    assert np.abs(gray - same @ luma).max() <= 1


def test_channels_that_no_picture_has(tmp_path, jaxgen_command):
    """Converted, exported, and back, with nothing to upscale."""
    model, _, _ = exported(tmp_path, 5, 2)
    assert not model.verbs
    code, out, err = jaxgen_command("convert", "w.pth")
    assert (code, err) == (0, "")
    assert "channels 5" in out
    assert out.rstrip().endswith("for train.init_from.g")
    assert jaxgen_command("convert", "model", "--to-torch", "back.pth")[0] == 0
    assert_same_bits(weights.read_tensors("back.pth"), weights.read_tensors("w.pth"))


@pytest.mark.parametrize("name", ALIKE)
def test_what_keys_do_not_tell_is_asked_for(jaxgen_command, tmp_path, name):
    path = written(tmp_path / "w.pth", LAYOUT[name], {"scale": 2, "features": 8, "convs": 3})
    code, _, err = jaxgen_command("convert", path, "--to", "model")
    assert code == 2
    assert f"{ALIKE[0]} and {ALIKE[1]} alike; say which it is with --layout" in err
    assert jaxgen_command("convert", path, "--to", "model", "--layout", name)[0] == 0
    found, back = convert.to_torch(tmp_path / "model")
    assert found is LAYOUT[name]
    assert_same_bits(back, weights.read_tensors(path))
    kind = "relu" if name == ALIKE[0] else "leaky_relu"
    assert run.load(tmp_path / "model").config.model.generator.activation == kind


@pytest.mark.parametrize(("scale", "found"), [(None, 2), (3, 3)])
def test_x3_is_said(jaxgen_command, tmp_path, scale, found):
    sizes = {"scale": 2, "features": 4, "blocks": 1, "growth": 4, "unshuffle": 1}
    path = written(tmp_path / "w.pth", OLD, sizes)
    said = () if scale is None else ("--scale", scale)
    assert jaxgen_command("convert", path, "--to", "model", *said)[0] == 0
    assert run.load(tmp_path / "model").upscale(X).shape == (6 * found, 5 * found, 3)
    assert_same_bits(convert.to_torch(tmp_path / "model")[1], weights.read_tensors(path))


@pytest.mark.parametrize(
    ("form", "changes", "message"),
    [
        (
            "rrdb",
            {"channels": 4, "skip": True},
            r"skip adds the input to the output: .*channels=4 must",
        ),
        ("srvgg", {"channels": 2, "features": 4}, "form=srvgg adds the input"),
        ("rrdb", {"unshuffle": 3}, r"8 or 16, less by model\.generator\.unshuffle=3"),
        ("rrdb", {"channels": 4, "out_channels": 4}, "trained on colour pictures, which have 3"),
        ("srvgg", {"channels": 1, "out_channels": 1}, "trained on colour pictures, which have 3"),
    ],
)
def test_settings_of_published_forms_that_do_not_fit(form, changes, message):
    config = configs.load(f"{REPOSITORY}/configs/esrgan.py:tiny")
    config.model.generator = {"form": form, **changes}
    with pytest.raises(UserError, match=message):
        esrgan.make_task(config)
