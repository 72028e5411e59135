"""Every ESRGAN-family file that spandrel loads: the same form and output as by spandrel."""

import jax
import numpy as np
import pytest
from support.referees import pytorch, torchvision_or_none
from support.upscaling import upscale_float

from jaxgen import weights
from jaxgen.errors import UserError
from jaxgen.models.esrgan.convert import LAYOUTS
from jaxgen.models.esrgan.task import make_generator, verbs
from jaxgen.runs import convert

LAYOUT = {one.name: one for one in LAYOUTS}
OLD, NEW, BASICSR = "ESRGAN RRDBNet, old keys", "ESRGAN RRDBNet", "Real-ESRGAN RRDBNet"
COMPACT = "Real-ESRGAN SRVGGNetCompact"


@pytest.fixture(scope="module")
def spandrel():
    pytorch()
    with torchvision_or_none():  # other networks of spandrel's want it; ours make no use
        yield pytest.importorskip("spandrel", reason="the referee")


def original(spandrel, kind, **settings):
    """A network of spandrel's with random weights, and its state dict as arrays."""
    import torch
    from spandrel.architectures.Compact import Compact
    from spandrel.architectures.ESRGAN import ESRGAN

    torch.manual_seed(0)
    if kind == "compact":
        net = Compact(num_feat=8, num_conv=2, **settings).eval()
    else:
        net = ESRGAN(num_filters=8, num_blocks=1, **settings).eval()
    return net, {key: value.numpy() for key, value in net.state_dict().items()}


def compare(net, config, variables, channels, size=(6, 8)):
    """Outputs of both for a random picture, within 1e-5 of the largest value."""
    import torch

    x = np.random.default_rng(0).uniform(size=(1, *size, channels)).astype(np.float32)
    with torch.no_grad():
        theirs = net(torch.tensor(x.transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)
    ours = (jax.jit(make_generator(config).apply)(variables, 2 * x - 1) + 1) / 2
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max(), rtol=0)


def recognised(tensors, layout=None):
    """(layout's name, sizes, config, variables) of a state dict among all layouts."""
    _, found, sizes = convert.recognise(tensors, layout)
    config = found.config(sizes)
    variables = weights.convert(tensors, found.rules(sizes), found.expected(config))
    assert found.read(config) == sizes
    back = weights.to_torch(variables, found.rules(found.read(config)))
    assert back.keys() == tensors.keys()
    assert not [key for key in back if back[key].tobytes() != tensors[key].tobytes()]
    return found.name, sizes, config, variables


RRDB = {
    "x1": {"scale": 1},
    "x2": {"scale": 2},
    "x4": {"scale": 4},
    "x8": {"scale": 8},
    "x16": {"scale": 16},
    "plus": {"scale": 4, "plus": True},
    "gray": {"scale": 2, "in_nc": 1, "out_nc": 1},
    "alpha": {"scale": 4, "in_nc": 4, "out_nc": 4},
    "to one": {"scale": 1, "in_nc": 3, "out_nc": 1},
    "five to two": {"scale": 2, "in_nc": 5, "out_nc": 2},
    "Real-ESRGAN x2": {"scale": 4, "in_nc": 12, "shuffle_factor": 2},
    "Real-ESRGAN x1": {"scale": 4, "in_nc": 48, "shuffle_factor": 4},
    "unshuffle, one up": {"scale": 2, "in_nc": 12, "shuffle_factor": 2},
    "unshuffle, three ups": {"scale": 8, "in_nc": 12, "shuffle_factor": 2},
    "unshuffle by 4, three ups": {"scale": 8, "in_nc": 48, "shuffle_factor": 4},
    "gray unshuffle": {"scale": 4, "in_nc": 4, "out_nc": 1, "shuffle_factor": 2},
}


@pytest.mark.parametrize("name", RRDB)
def test_rrdbnet_of_every_form(spandrel, name):
    settings = RRDB[name]
    net, tensors = original(spandrel, "rrdb", **settings)
    theirs = spandrel.ModelLoader().load_from_state_dict(net.state_dict())
    layout, sizes, config, variables = recognised(tensors)
    assert layout == OLD
    channels = sizes.get("channels", 3)
    assert (sizes["scale"], channels) == (theirs.scale, theirs.input_channels)
    assert sizes.get("out_channels", 3) == theirs.output_channels
    assert sizes.get("plus", False) == settings.get("plus", False)
    compare(net, config, variables, channels, size=(8, 4))
    # The newer names of the same tensors, scale and form from them alone.
    for other in (BASICSR, NEW):
        renamed = weights.to_torch(variables, LAYOUT[other].rules(sizes))
        assert spandrel_takes(spandrel, renamed, theirs, settings)
        fits = {one.name: one.sizes(renamed) for one in LAYOUTS}
        assert {name: found for name, found in fits.items() if found} == {other: sizes}


def spandrel_takes(spandrel, tensors, theirs, settings):
    """Whether it loads them, too, as the same; of ESRGAN+ it has no newer names."""
    import torch

    if settings.get("plus"):
        return True
    found = spandrel.ModelLoader().load_from_state_dict(
        {key: torch.tensor(value) for key, value in tensors.items()}
    )
    return (found.scale, found.input_channels) == (theirs.scale, theirs.input_channels)


@pytest.mark.parametrize("layout", [OLD, BASICSR, NEW])
def test_x3_is_said_by_the_user(spandrel, layout, tmp_path):
    """Its keys and shapes are those of x2."""
    net, tensors = original(spandrel, "rrdb", scale=3)
    _, sizes, _, variables = recognised(tensors)
    renamed = weights.to_torch(variables, LAYOUT[layout].rules(sizes))
    weights.write_tensors(tmp_path / "w.safetensors", renamed)
    assert convert.convert(tmp_path / "w.safetensors").sizes["scale"] == 2
    found = convert.convert(tmp_path / "w.safetensors", scale=3)
    compare(net, found.config, found.variables, 3)
    back = convert.to_torch(found.export(tmp_path / "model"), layout)[1]
    assert not [key for key in back if back[key].tobytes() != renamed[key].tobytes()]
    with pytest.raises(UserError, match=r"missing: .*params/conv_up2"):
        convert.convert(tmp_path / "w.safetensors", scale=4)


COMPACTS = {
    "x1": {"upscale": 1},
    "x3": {"upscale": 3},
    "gray": {"upscale": 4, "num_in_ch": 1, "num_out_ch": 1},
    "five": {"upscale": 2, "num_in_ch": 5, "num_out_ch": 5},
}


@pytest.mark.parametrize("name", COMPACTS)
def test_compact_of_every_form(spandrel, name):
    net, tensors = original(spandrel, "compact", **COMPACTS[name])
    theirs = spandrel.ModelLoader().load_from_state_dict(net.state_dict())
    layout, sizes, config, variables = recognised(tensors)
    assert layout == COMPACT
    channels = sizes.get("channels", 3)
    assert (sizes["scale"], channels) == (theirs.scale, theirs.input_channels)
    compare(net, config, variables, channels)


@pytest.mark.parametrize(("kind", "name"), [("relu", "ReLU"), ("leakyrelu", "LeakyReLU")])
def test_compact_without_slopes(spandrel, kind, name):
    net, tensors = original(spandrel, "compact", act_type=kind)
    with pytest.raises(UserError, match=r"with ReLU and .* with LeakyReLU alike; say which it is"):
        convert.recognise(tensors)
    _, sizes, config, variables = recognised(tensors, f"{COMPACT} with {name}")
    assert sizes["scale"] == 4
    compare(net, config, variables, 3)


@pytest.mark.parametrize(("name", "size"), [("Real-ESRGAN x2", (7, 5)), ("Real-ESRGAN x1", (5, 6))])
def test_odd_sizes_are_mirrored_as_the_original_has_it(spandrel, name, size):
    import torch

    net, tensors = original(spandrel, "rrdb", **RRDB[name])
    _, _, config, variables = recognised(tensors)
    x = np.random.default_rng(0).uniform(size=(*size, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = net(torch.tensor(x.transpose(2, 0, 1)[None])).numpy()[0].transpose(1, 2, 0)
    ours = upscale_float(verbs(config)["upscale"], {"g": variables}, 2 * x - 1)
    np.testing.assert_allclose((ours + 1) / 2, theirs, atol=1e-5 * np.abs(theirs).max(), rtol=0)
