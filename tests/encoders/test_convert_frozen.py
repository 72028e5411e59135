"""Published weights of frozen networks become files of ours that losses and metrics read."""

import jax
import numpy as np
import pytest
from support.conversion import assert_same_bits

from jaxgen import weights
from jaxgen.encoders import alexnet, inception_resnet_v2, lpips, resnet, squeezenet, vgg
from jaxgen.encoders import convert as encoders
from jaxgen.errors import UserError

# Name in our files -> (expected tree, rules) of small or whole networks.
FROZEN = {
    "squeezenet1_1": lambda: (squeezenet.expected_params(), squeezenet.torch_rules()),
    "resnet34": lambda: (resnet.expected_params("resnet34", 5, 0.125), resnet.torch_rules()),
    "inception_resnet_v2": lambda: (
        inception_resnet_v2.expected_params(0.125),
        inception_resnet_v2.torch_rules(),
    ),
    "lpips_squeeze": lambda: (lpips.expected_heads("squeeze"), lpips.head_rules()),
    "vgg16": lambda: (vgg.expected_params("vgg16"), vgg.torch_rules("vgg16")),
    "vgg19": lambda: (vgg.expected_params("vgg19"), vgg.torch_rules("vgg19")),
}


def frozen(arch):
    """(tree, state dict) of a frozen network."""
    expected, rules = FROZEN[arch]()
    tree = jax.tree.map(lambda a: np.full(a.shape, 0.5, np.float32), expected)
    return tree, weights.to_torch(tree, rules)


@pytest.mark.parametrize("arch", list(FROZEN))
def test_frozen_networks_become_trees_of_ours_and_go_back(arch):
    tree, tensors = frozen(arch)
    _, own = encoders.to_own(tensors)
    assert_same_bits(weights.flatten(own), weights.flatten({arch: tree}))
    _, back = encoders.to_published(weights.flatten(own))
    assert_same_bits(back, tensors)


def test_frozen_networks_become_files_of_ours_and_go_back(jaxgen_command):
    _, tensors = frozen("resnet34")
    weights.write_tensors("w.safetensors", tensors)
    code, out, err = jaxgen_command("convert", "w.safetensors", "--to", "own.safetensors")
    assert (code, err) == (0, "")
    assert out.startswith("own.safetensors  torchvision ResNet: resnet34, ")
    assert all(key.startswith("resnet34/") for key in weights.read_tensors("own.safetensors"))
    assert jaxgen_command("convert", "own.safetensors", "--to-torch", "back.safetensors")[0] == 0
    assert_same_bits(weights.read_tensors("back.safetensors"), tensors)
    code, _, err = jaxgen_command("convert", "w.safetensors", "--to", "folder")
    assert (code, "give one ending in .safetensors" in err) == (2, True)
    code, _, err = jaxgen_command("convert", "w.safetensors", "--to", "own.safetensors")
    assert (code, "own.safetensors exists" in err) == (2, True)


def test_losses_and_metrics_read_the_converted_files(jaxgen_command, tmp_path):
    trunk = jax.tree.map(lambda a: np.full(a.shape, 0.25, np.float32), alexnet.expected_params())
    heads = {k: np.full(v.shape, 0.5, np.float32) for k, v in lpips.expected_heads("alex").items()}
    for name, tree, rules in (
        ("trunk", trunk, alexnet.torch_rules()),
        ("heads", heads, lpips.head_rules()),
    ):
        weights.write_tensors("w.safetensors", weights.to_torch(tree, rules))
        args = ("--to", f"{name}.safetensors")
        assert jaxgen_command("convert", "w.safetensors", *args)[0] == 0
    loaded = lpips.load("trunk.safetensors", "heads.safetensors")
    assert_same_bits(weights.flatten(loaded["trunk"]), weights.flatten(trunk))
    assert_same_bits(loaded["heads"], heads)


def test_frozen_networks_are_told_apart():
    assert encoders.kind_of({"conv.weight": np.zeros(1)}) is None
    # A VGG with BatchNorm, and a discriminator of VGG's kind, are none of ours.
    second = {"features.2.weight": np.zeros((4, 4, 3, 3)), "features.3.weight": np.zeros(4)}
    assert encoders.kind_of(second) is None
    wrong = {f"lin{i}.model.1.weight": np.ones((1, 5, 1, 1)) for i in range(5)}
    with pytest.raises(UserError, match="5 misshapen"):
        encoders.to_own(wrong)
