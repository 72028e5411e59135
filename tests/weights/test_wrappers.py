"""Where training scripts put weights: each is found, the average before the raw ones."""

import numpy as np
import pytest
from helpers import conv_tensors
from support.pickled import torch_file, whole

from jaxgen import weights
from jaxgen.weights import wrappers

GOOD, OTHER = np.arange(4, dtype=np.float32), np.zeros(4, np.float32)


def net(key="0", prefix=""):
    return {f"{prefix}conv.weight": whole(key, GOOD if key == "0" else OTHER)}


SAVED = {
    "bare": net(),
    "module.": net(prefix="module."),
    "compiled": net(prefix="_orig_mod.module."),
    **{name: {name: net(), "epoch": 3} for name in ("params", "state_dict", "model", "net")},
    "model_state_dict": {"model_state_dict": net(), "optimizer_state_dict": {"lr": 1}},
    "network": {"network": net(prefix="module.")},
    "twice": {"state_dict": {"params_ema": net()}},
    "averaged": {"params": net("1"), "params_ema": net()},
    "averaged with a dash": {"params": net("1"), "params-ema": net()},
    "of timm": {"state_dict": net("1"), "state_dict_ema": net(prefix="module.")},
    "model_ema": {"model": net("1"), "model_ema": net(), "args": {}},
    "ema": {"ema": net(), "model": net("1")},
    "an empty average": {"ema": {}, "params_ema": {"decay": 0.9}, "model": net()},
    "of Swa": net(prefix="module.") | {"n_averaged": whole("1", OTHER)},
}


@pytest.mark.parametrize("name", SAVED)
def test_wrapping_dicts(tmp_path, caplog, name):
    path = torch_file(tmp_path / "w.pth", SAVED[name], {"0": GOOD, "1": OTHER})
    read = weights.read_tensors(path)
    assert list(read) == ["conv.weight"]
    np.testing.assert_array_equal(read["conv.weight"], GOOD)
    both = name.startswith("averaged") or name in ("of timm", "model_ema", "ema")
    assert ("takes the averaged weights, " in caplog.text) == both


def found(names):
    """The view that has the key "conv.weight", as `jaxgen convert` finds it."""
    tensors = {name: np.zeros(1) for name in names}
    return next((n for n, state in wrappers.views(tensors) if "conv.weight" in state), None)


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        (["conv.weight"], ""),
        (["generator.conv.weight", "discriminator.fc.weight", "step_counter"], "generator"),
        (["netG.conv.weight", "netD.conv.weight"], "netG"),
        (["net_g.module.conv.weight"], "net_g"),
        (["generator_state_dict.conv.weight", "d.conv.weight"], "generator_state_dict"),
        (["model.conv.weight"], "model"),
        (["model.net.conv.weight", "loss.weight"], "model.net"),
        (["anything.conv.weight"], "anything"),
        (["generator.conv.weight", "generator_ema.conv.weight"], "generator_ema"),
        (["model.net.conv.weight", "model.ema.conv.weight"], "model.ema"),
        (["ema_model.conv.weight", "online_model.conv.weight", "initted"], "ema_model"),
        (["model.a.b.c.conv.weight"], None),
        (["one.conv.weight", "two.conv.weight"], None),
    ],
)
def test_prefixes(keys, name):
    assert found(keys) == name


def test_flat_names_are_of_layers_where_not_all_are_wrapped(tmp_path):
    tensors = {f"net.{key}": value for key, value in conv_tensors().items()}
    weights.write_safetensors(tmp_path / "w", tensors)
    assert weights.read_tensors(tmp_path / "w").keys() == tensors.keys()
