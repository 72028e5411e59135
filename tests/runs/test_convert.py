"""`jaxgen convert`: what a file is, from its keys alone; to models of ours and back; its errors."""

import dataclasses
import json
import sys

import jax
import numpy as np
import pytest
from helpers import REPOSITORY
from support.conversion import assert_same_bits
from support.referees import pytorch

from jaxgen import config as configs
from jaxgen import weights
from jaxgen.encoders import convert as encoders
from jaxgen.errors import UserError
from jaxgen.runs import convert, layouts
from jaxgen.runs import model as run
from jaxgen.train import loop
from jaxgen.weights import keymap
from jaxgen.weights.nets import open_nets

# Small sizes of every known layout: what is converted in these tests.
SRGAN = {"features": 8, "blocks": 2, "edge_kernel": 9, "scale": 2}
RDN = {"features": 6, "growth": 4, "blocks": 2, "layers": 3, "up_features": 6, "scale": 2}
RRDB = {"scale": 2, "features": 8, "blocks": 2, "growth": 4}
COMPACT = {"scale": 2, "features": 8, "convs": 3}
STACK = {"size": 16, "features": 4, "z": 6, "condition": 3, "text": 5}
GPT = {"ids": 7, "codes": 7, "length": 5, "layers": 2, "heads": 1, "width": 8}
SIZES = {
    "Real-ESRGAN RRDBNet": RRDB,
    "ESRGAN RRDBNet": RRDB,
    "ESRGAN RRDBNet, old keys": RRDB,
    "Real-ESRGAN SRVGGNetCompact": COMPACT,
    "Real-ESRGAN SRVGGNetCompact with ReLU": COMPACT,
    "Real-ESRGAN SRVGGNetCompact with LeakyReLU": COMPACT,
    "ESRGAN VGG-style discriminator": {"size": 32, "features": 4, "hidden": 8},
    "Real-ESRGAN U-Net discriminator": {"features": 4},
    "leftthomas SRGAN": {**SRGAN, "trunk": "prelu", "bias": True},
    "goldhuang SRGAN-PyTorch": {**SRGAN, "trunk": "prelu", "bias": True},
    "Lornatang SRGAN-PyTorch": {**SRGAN, "trunk": "norm", "bias": False},
    "Lornatang SRGAN-PyTorch 2022": {**SRGAN, "trunk": "norm", "bias": False},
    "SRResNet": SRGAN,
    "BasicSR MSRResNet": {"features": 8, "blocks": 2, "scale": 3},
    "RDN-pytorch RDN": {**RDN, "value_range": 1.0},
    "MMEditing RDN": {**RDN, "value_range": 1.0},
    "EDSR-PyTorch RDN": {**RDN, "value_range": 255.0},
    "Swift-SRGAN generator": SRGAN,
    "Swift-SRGAN discriminator": {"features": 4, "hidden": 8, "pool": 6},
    "DF-GAN generator": {"size": 16, "features": 2, "z_size": 3, "text_width": 5},
    "DF-GAN discriminator": {"size": 64, "features": 2, "text_width": 5},
    "DF-GAN 2020 generator": {"size": 16, "features": 2, "z_size": 3, "text_width": 5},
    "DF-GAN 2020 discriminator": {"size": 64, "features": 2, "text_width": 5},
    "SSA-GAN generator": {
        "size": 16,
        "features": 2,
        "z_size": 3,
        "text_width": 5,
        "hidden": 4,
        "mask_features": 3,
    },
    "StackGAN-PyTorch stage I generator": STACK,
    "StackGAN-PyTorch stage I generator within stage II": STACK,
    "StackGAN-PyTorch stage II generator": {
        "factor": 2,
        "features": 4,
        "blocks": 2,
        "condition": 3,
        "text": 5,
    },
    "taming VQGAN": {
        "form": "vq",
        "codes": 6,
        "width": 4,
        "latent": 5,
        "channels": 3,
        "features": 32,
        "widths": (1, 2),
        "blocks": 1,
        "attention": (1,),
    },
    "taming VQGAN discriminator": {"features": 4, "layers": 2, "channels": 3},
    "MaskGIT tokenizer": {
        "codes": 6,
        "latent": 5,
        "channels": 3,
        "features": 32,
        "widths": (1, 2),
        "blocks": 1,
    },
    "taming Net2Net transformer": GPT,
    "taming minGPT": GPT,
    "MaskGIT transformer": {"ids": 9, "length": 5, "layers": 2, "heads": 2, "width": 8, "mlp": 12},
    "StackGAN-PyTorch stage I discriminator": {"size": 16, "features": 4, "condition": 3},
    "StackGAN-PyTorch stage II discriminator": {"size": 128, "features": 2, "condition": 3},
    "TIRG": {
        "compose": "tirg",
        "arch": "resnet18",
        "width": 0.125,
        "embed": 8,
        "words": 5,
        "vector": 6,
        "hidden": 7,
    },
    "CLIP4Cir Combiner": {"embed": 8, "projection": 16, "hidden": 12},
}


def random_tree(shapes, seed=0):
    """Random variables of these shapes, variances positive."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: np.abs(rng.standard_normal(a.shape)).astype(a.dtype), shapes)


def published(name, **changes):
    """(layout, random state dict of small sizes) of a layout."""
    _, layout = layouts.find_layout(name)
    sizes = {**SIZES[name], **changes}
    tree = random_tree(layout.expected(layout.config(sizes)))
    return layout, weights.to_torch(tree, layout.rules(sizes))


@pytest.fixture
def file(tmp_path):
    """A small leftthomas generator as a file whose name says nothing."""
    path = tmp_path / "weights_001.safetensors"
    weights.write_tensors(path, published("leftthomas SRGAN")[1])
    return path


# ------------------------------------------------------------------------------------ recognition


def test_names_are_unique():
    names = [one.name.lower() for _, one in layouts.layouts()]
    assert len(names) == len(set(names))
    assert layouts.find_layout("basicsr msrresnet")[0] == "srgan"
    with pytest.raises(UserError, match="did you mean 'leftthomas SRGAN'"):
        layouts.find_layout("leftthomas SRGN")


# Which of these a file is, its keys do not tell: tests/families/test_esrgan_forms.py.
ALIKE = [f"Real-ESRGAN SRVGGNetCompact with {name}" for name in ("ReLU", "LeakyReLU")]


# CLIP's keys do not tell all (encoders/test_clip.py), ldm's come together (test_sd_convert.py).
APART = ("clip", "ldm", "vae")


@pytest.mark.parametrize(
    "name", [one.name for of, one in layouts.layouts() if of not in APART and one.name not in ALIKE]
)
def test_every_layout_is_recognised_and_goes_back(name):
    """Among all layouts, with all sizes; and an unneeded key more doesn't change that."""
    assert name in SIZES, "give SIZES small sizes of this layout"
    _, tensors = published(name)
    _, found, sizes = convert.recognise(tensors)
    assert found.name == name
    assert dict(sizes) == SIZES[name]
    config = found.config(sizes)
    assert dict(found.read(config)) == SIZES[name]
    tree = weights.convert(tensors, found.rules(sizes), found.expected(config))
    assert_same_bits(weights.to_torch(tree, found.rules(sizes)), tensors)
    assert convert.recognise({**tensors, "step": np.zeros(1)})[1].name == name


def test_what_is_not_published_weights_is_explained(tmp_path):
    path = tmp_path / "w.safetensors"
    foreign = {f"encoder.{i}.weight": np.zeros((2, 2)) for i in range(9)}
    weights.write_tensors(path, foreign)
    with pytest.raises(UserError) as error:
        convert.convert(path)
    text = str(error.value)
    assert text.startswith(f"{path}: no known layout has these keys: encoder.0.weight, ")
    assert "(9 in all)" in text
    assert "leftthomas SRGAN" in text
    assert "\n" not in text
    # A telling key of another shape.
    weights.write_tensors(path, {**foreign, "conv_first.weight": np.zeros(3)})
    with pytest.raises(UserError, match="no known layout"):
        convert.convert(path)
    weights.write_safetensors(path, {"g": {"params": {"conv_in": {"kernel": np.zeros(1)}}}})
    with pytest.raises(UserError, match=r"file of jaxgen's own"):
        convert.convert(path)


def test_optimizer_state_is_no_model(tmp_path):
    torch = pytorch()
    optimizer = torch.optim.Adam(torch.nn.Linear(2, 2).parameters())
    torch.save(optimizer.state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match="has no tensors, only: state, param_groups"):
        convert.convert(tmp_path / "w.pth")


def test_of_several_layouts_the_best_fitting_is_taken(monkeypatch):
    layout, tensors = published("BasicSR MSRResNet")
    sizes = {**SIZES["BasicSR MSRResNet"]}  # claims every file, and knows no upconv1
    greedy = dataclasses.replace(
        layout,
        name="greedy",
        sizes=lambda _: sizes,
        rules=lambda s: [r for r in layout.rules(s) if "upconv1" not in r.source],
    )
    twin = dataclasses.replace(layout, name="twin")
    monkeypatch.setattr(layouts, "_listed", lambda _: (("srgan", greedy), ("srgan", layout)))
    assert convert.recognise(tensors)[1] is layout
    monkeypatch.setattr(layouts, "_listed", lambda _: (("srgan", twin), ("srgan", layout)))
    with pytest.raises(UserError, match=r"twin and BasicSR MSRResNet alike.*--layout"):
        convert.recognise(tensors)
    assert convert.recognise(tensors, "twin")[1] is twin


# ------------------------------------------------------------------------------------------ errors


def test_all_unfit_keys_are_in_one_error(file):
    _, tensors = published("leftthomas SRGAN")
    del tensors["block3.bn2.running_var"]
    tensors["block2.conv1.weight"] = np.zeros((8, 8, 5, 5), np.float32)
    tensors["netD.weight"] = np.zeros(1, np.float32)
    weights.write_tensors(file, tensors)
    with pytest.raises(UserError) as error:
        convert.convert(file)
    text = str(error.value)
    assert text.startswith(f"{file}: weights do not fit: 1 missing: block3.bn2.running_var")
    assert "1 extra: netD.weight" in text
    assert "1 misshapen: block2.conv1.weight (8, 8, 5, 5)" in text


def test_hundreds_of_keys_are_listed_by_pattern():
    keys = [f"body.{i}.rdb{j}.conv5.weight" for i in range(23) for j in (1, 2, 3)]
    assert keymap._grouped(keys) == ["body.{0..22}.rdb{1..3}.conv5.weight"]
    assert keymap._grouped([*keys, "last.bias"])[1:] == ["last.bias"]
    # Numbers that go together; gaps.
    pairs = [f"body.{2 * i}.w (for params/body_{2 * i}/kernel)" for i in range(21)]
    assert keymap._grouped(pairs)[0].startswith("body.{0,2,4,")
    assert keymap._grouped(pairs)[0].endswith(",38,40}/kernel)")
    # Not every combination: nothing is claimed that is not there.
    assert keymap._grouped(keys[1:]) == keys[1:]
    assert keymap._grouped(keys[:3]) == keys[:3]


def test_half_precision_becomes_float32(tmp_path):
    layout, tensors = published("BasicSR MSRResNet")
    halves = {key: value.astype(np.float16) for key, value in tensors.items()}
    weights.write_tensors(tmp_path / "w.safetensors", halves)
    converted = convert.convert(tmp_path / "w.safetensors")
    leaves = weights.flatten(converted.variables)
    assert {leaf.dtype for leaf in leaves.values()} == {np.dtype(np.float32)}
    back = weights.to_torch(converted.variables, layout.rules(converted.sizes))
    assert_same_bits(back, {k: v.astype(np.float32) for k, v in halves.items()})


# ------------------------------------------------------------------------------- files and folders


def test_file_to_folder_to_file(jaxgen_command, file, tmp_path):
    code, out, err = jaxgen_command("convert", file, "--to", "run")
    assert (code, err) == (0, "")
    assert "leftthomas SRGAN (bias True, blocks 2, edge_kernel 9, features 8, scale 2" in out
    card = (tmp_path / "run" / "README.md").read_text()
    assert "converted from weights_001.safetensors (leftthomas SRGAN: bias True, blocks 2" in card
    assert json.loads((tmp_path / "run" / "config.json").read_text())["origin"]["net"] == "g"

    model = run.load(tmp_path / "run")
    image = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    assert model.upscale(image).shape == (12, 10, 3)
    # What train.init_from.g reads.
    nets = open_nets(tmp_path / "run", ("g",)).nets
    assert_same_bits(weights.flatten(nets["g"]), weights.flatten(model.nets["g"]))

    assert jaxgen_command("convert", "run", "--to-torch", "back.safetensors")[0] == 0
    assert_same_bits(weights.read_tensors("back.safetensors"), weights.read_tensors(file))
    # An export of it still knows where it comes from.
    model.export(tmp_path / "again")
    assert "converted from weights_001" in (tmp_path / "again" / "README.md").read_text()


def test_a_wrapped_torch_file_and_back_without_pickled_code(jaxgen_command, tmp_path):
    torch = pytorch()
    _, tensors = published("Lornatang SRGAN-PyTorch")
    state = {f"module._orig_mod.{k}": torch.tensor(v) for k, v in tensors.items()}
    state["module._orig_mod.conv2.1.num_batches_tracked"] = torch.tensor(7)
    ema = {"module.n_averaged": torch.tensor(3), **state}
    other = {key: torch.zeros_like(value) for key, value in state.items()}
    torch.save({"epoch": 3, "state_dict": other, "ema_state_dict": ema}, "w.pth")
    assert jaxgen_command("convert", "w.pth", "--to", "run")[0] == 0
    assert jaxgen_command("convert", "run", "--to-torch", "back.pth")[0] == 0
    back = torch.load("back.pth", weights_only=True)
    assert_same_bits({k: v.numpy() for k, v in back.items()}, tensors)


def test_from_one_layout_to_another(jaxgen_command, file):
    """By name; networks that are the same under other names."""
    code, out, _ = jaxgen_command(
        "convert", file, "--to-torch", "g.safetensors", "--layout", "Goldhuang srgan-pytorch"
    )
    assert (code, out.split("  ")[1]) == (0, "goldhuang SRGAN-PyTorch, 37 tensors\n")
    ours, theirs = weights.read_tensors("g.safetensors"), weights.read_tensors(file)
    np.testing.assert_array_equal(ours["residual2.net.3.weight"], theirs["block3.conv2.weight"])
    for name, reason in (
        ("Lornatang SRGAN-PyTorch", "no published layout has the networks of"),
        ("Swift-SRGAN generator", "is a layout of swift_srgan; .* is of srgan"),
    ):
        with pytest.raises(UserError, match=reason):
            convert.to_torch(file, name)


def test_looking_writes_nothing(jaxgen_command, file, tmp_path):
    before = sorted(tmp_path.iterdir())
    code, out, _ = jaxgen_command("convert", file)
    assert code == 0
    assert out.startswith("leftthomas SRGAN (bias True, ")
    assert "family srgan, " in out
    assert sorted(tmp_path.iterdir()) == before
    code, out, _ = jaxgen_command("convert", "--list")
    assert code == 0
    assert "Swift-SRGAN discriminator" in out
    assert "torchvision VGG16 or VGG19" in out


def test_mistakes_of_the_command(jaxgen_command, file, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "note.txt").write_text("mine")
    (tmp_path / "there.safetensors").write_text("mine")
    for args, reason in (
        ((), "give a weight file"),
        ((file, "--to", "a", "--to-torch", "b.pth"), "exclude each other"),
        ((file, "--to", "there"), "exists and is not empty"),
        ((file, "--to", "there", "--overwrite"), "exists and is not empty"),
        ((file, "--to-torch", "there.safetensors"), "exists; choose another name"),
        ((file, "--to-torch", "a.txt"), "end in .safetensors, .pth or .pt"),
        (("none.pth", "--to", "a"), "does not exist"),
        (("no_such_run", "--to-torch", "a.pth"), "no model 'no_such_run'"),
        ((file, "--to", "a", "--layout", "nobody's"), "no layout"),
        ((file, "--to", "a", "--scale", "4"), "do not fit: 5 missing"),
    ):
        code, out, err = jaxgen_command("convert", *args)
        assert (code, out) == (2, ""), args
        assert reason in err, args
        assert err.count("\n") == 1, args
    assert (tmp_path / "there.safetensors").read_text() == "mine"
    assert not (tmp_path / "a").exists()


def test_torch_is_needed_for_nothing(jaxgen_command, file, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert jaxgen_command("convert", file, "--to", "run")[0] == 0
    for name in ("a.safetensors", "a.pth"):
        assert jaxgen_command("convert", "run", "--to-torch", name)[0] == 0
        assert_same_bits(weights.read_tensors(name), weights.read_tensors(file))


def test_networks_without_a_layout_say_so(jaxgen_command):
    code, _, err = jaxgen_command("convert", "srresnet_x4", "--to-torch", "a.safetensors")
    assert code == 2
    assert "no published layout has the networks of srresnet_x4 (net g); there are: leftth" in err


def test_a_discriminator_is_to_train_from(jaxgen_command, tmp_path):
    _, tensors = published("Swift-SRGAN discriminator")
    weights.write_tensors(tmp_path / "d.safetensors", tensors)
    assert "enlarges nothing" in jaxgen_command("convert", "d.safetensors", "--scale", 2)[2]
    code, out, _ = jaxgen_command("convert", "d.safetensors", "--to", "d")
    assert code == 0
    assert out.rstrip().endswith("parameters; for train.init_from.d")
    assert "`train.init_from.d`" in (tmp_path / "d" / "README.md").read_text()
    assert set(open_nets(tmp_path / "d", ("d",)).nets) == {"d"}
    with pytest.raises(UserError, match="does not upscale; it can: nothing"):
        run.load(tmp_path / "d").upscale(np.zeros((4, 4, 3), np.uint8))
    assert jaxgen_command("convert", "d", "--to-torch", "back.safetensors")[0] == 0
    assert_same_bits(weights.read_tensors("back.safetensors"), tensors)


def test_converted_nets_fit_the_task_that_starts_from_them(jaxgen_command, tmp_path):
    """`train.init_from.d` puts in what has the keys and shapes of the task's own net."""
    config = configs.load(f"{REPOSITORY}/configs/swift_srgan.py:tiny", {"train.init_from.d": "d"})
    _, layout = layouts.find_layout("Swift-SRGAN discriminator")
    _, tensors = published(layout.name, **layout.read(config))
    weights.write_tensors(tmp_path / "d.safetensors", tensors)
    assert jaxgen_command("convert", "d.safetensors", "--to", "d")[0] == 0
    size = config.data.hr_size
    sizes = {"lr": size // config.data.scale, "hr": size}
    batch = {k: jax.ShapeDtypeStruct((1, n, n, 3), np.uint8) for k, n in sizes.items()}
    params, mutable = jax.eval_shape(loop.load_task(config).init, jax.random.key(0), batch)
    wanted = weights.flatten({"params": params["d"], **mutable["d"]})
    found = weights.flatten(open_nets("d").nets["d"])
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in wanted.items()}


def test_the_guide_names_every_layout():
    text = (REPOSITORY / "docs" / "weights.md").read_text()
    known = [*(one for _, one in layouts.layouts()), *encoders.KINDS]
    assert not [one.name for one in known if one.name not in text]
