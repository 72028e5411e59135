"""Stable Diffusion's published forms, whole: diffusers' folder, CompVis's file, LoRA files."""

import json
import shutil

import jax
import numpy as np
import pytest
from support.diffusion import assert_near, golden, nhwc, state_dict
from support.referees import pytorch

import jaxgen
from jaxgen import weights
from jaxgen.data.text.clip_bpe import read_tokenizer
from jaxgen.errors import UserError
from jaxgen.models.clip.text import HF_TEXT, OPEN_TEXT
from jaxgen.models.ldm.compvis import UNET, to_compvis, to_diffusers
from jaxgen.models.ldm.unet import UNet
from jaxgen.models.ldm.unet_layout import COMPVIS, DIFFUSERS, unet_of
from jaxgen.models.vae import convert as vae
from jaxgen.runs import convert
from jaxgen.weights.keymap import flatten, source_of
from jaxgen.weights.parts import filled

EMA = "model_ema."


@pytest.fixture(scope="module")
def nets(fixtures_dir):
    """{folder: state dict} of a tiny Stable Diffusion 1."""
    names = {"unet": "sd1_unet_tiny", "vae": "sd_vae_tiny", "text_encoder": "sd_clip_text_tiny"}
    return {net: state_dict(golden(fixtures_dir, name)) for net, name in names.items()}


@pytest.fixture(scope="module")
def folder(nets, tmp_path_factory):
    """As diffusers writes it."""
    home = tmp_path_factory.mktemp("published") / "sd"
    stems = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model",
             "text_encoder": "model"}  # fmt: skip
    for net, tensors in nets.items():
        (home / net).mkdir(parents=True)
        weights.write_tensors(home / net / f"{stems[net]}.safetensors", tensors)
    about = {
        "unet": {"_class_name": "UNet2DConditionModel", "attention_head_dim": 8,
                 "sample_size": 16},
        "vae": {"_class_name": "AutoencoderKL", "scaling_factor": 0.18215},
        "text_encoder": {"architectures": ["CLIPTextModel"], "num_attention_heads": 4,
                         "hidden_act": "quick_gelu"},
    }  # fmt: skip
    for net, said in about.items():
        (home / net / "config.json").write_text(json.dumps(said))
    (home / "scheduler").mkdir()
    said = {"prediction_type": "epsilon", "beta_start": 0.00085, "beta_end": 0.012,
            "beta_schedule": "scaled_linear"}  # fmt: skip
    (home / "scheduler" / "scheduler_config.json").write_text(json.dumps(said))
    return home


@pytest.fixture(scope="module")
def own(folder, tmp_path_factory):
    """The folder converted to a model of ours."""
    home = tmp_path_factory.mktemp("own") / "sd"
    text = convert.write_own(folder, home)
    assert "predicts eps" in text
    return home


def compvis_of(nets, ema=False):
    """One file's tensors."""
    result = {UNET + key: value for key, value in to_compvis(nets["unet"]).items()}
    if ema:
        for key in list(result):
            result[EMA + key.removeprefix("model.").replace(".", "")] = result[key]
            result[key] = result[key] + 1.0
        result[f"{EMA}decay"] = np.float32(0.9999)
    first = vae.join_diffusers(nets["vae"])
    result |= {f"first_stage_model.{key}": value for key, value in first.items()}
    tower = "cond_stage_model.transformer.text_model."
    result |= {tower + key: value for key, value in nets["text_encoder"].items()}
    result[f"{tower}embeddings.position_ids"] = np.arange(77)[None]
    return result | {"betas": np.zeros(1000, np.float32)}


def nets_of(home):
    """All arrays of a model of ours, without opening its verbs."""
    whole = convert.gathered(home)
    nets = {**whole.nets, **{name: part.nets for name, part in whole.parts.items()}}
    return {name: flatten(tree) for name, tree in nets.items()}


def same(a, b):
    assert a.keys() == b.keys()
    for net, arrays in a.items():
        assert arrays.keys() == b[net].keys()
        for key, value in arrays.items():
            np.testing.assert_array_equal(value, b[net][key], err_msg=key)


def test_the_folder_becomes_a_model(own, fixtures_dir):
    whole = convert.gathered(own)
    assert (whole.config.model.target, whole.config.data.size) == ("eps", 128)
    assert {name: list(part.nets) for name, part in whole.parts.items()} == {
        "first_stage": ["g"], "text": ["text"],
    }  # fmt: skip
    file = golden(fixtures_dir, "sd1_unet_tiny")
    unet = unet_of(filled(whole.config, whole.parts))
    y = jax.jit(unet.apply)(
        whole.nets["g"], nhwc(file["x"]), file["t"].astype(np.float32), file["context"]
    )
    assert_near(y, nhwc(file["y"]), max(1e-5, 10 * float(file["f64_rel"])))


def test_it_draws_what_was_asked(folder, data_dir, tmp_path):
    """With CLIP's vocabulary beside the weights, which travels along, there and back."""
    home = tmp_path / "sd"
    shutil.copytree(folder, home)
    (home / "tokenizer").mkdir()
    small = UNet(channels=(32,), blocks=1, attention=(0,), context=32)  # a quick one
    tree = jax.tree.map(
        lambda leaf: 0.1 * np.random.default_rng(0).normal(size=leaf.shape).astype(np.float32),
        shapes_of(small),
    )
    tensors = weights.to_torch(tree, DIFFUSERS.rules({"linear": False}))
    weights.write_tensors(home / "unet" / "diffusion_pytorch_model.safetensors", tensors)
    name = "bpe_simple_vocab_16e6.txt.gz"
    shutil.copy(data_dir / "weights" / name, home / "tokenizer" / name)
    convert.write_own(home, tmp_path / "own")
    model = jaxgen.load(tmp_path / "own")
    assert sorted(model.nets) == ["first_stage/g", "g", "text"]
    a, b = (model.generate(text, seed=1, steps=1)[0] for text in ("a red cat", "a blue dog"))
    assert a.shape == (128, 128, 3)
    assert np.abs(a.astype(int) - b).max() > 0
    convert.write_torch(tmp_path / "own", tmp_path / "back")
    again = read_tokenizer(tmp_path / "back" / "tokenizer")
    wanted = read_tokenizer(data_dir / "weights" / name)
    for text in ("a red cat", "Ünïcode, it's 3 cats!", ""):
        assert again.ids(text) == wanted.ids(text)


def test_a_checkpoint_of_training(nets, own, tmp_path):
    """`.ckpt`: the state dict beside a trainer's numbers."""
    torch = pytorch()
    tensors = {key: torch.tensor(value) for key, value in compvis_of(nets).items()}
    torch.save({"global_step": 7, "state_dict": tensors}, tmp_path / "sd.ckpt")
    convert.write_own(tmp_path / "sd.ckpt", tmp_path / "own")
    same(nets_of(tmp_path / "own"), nets_of(own))


@pytest.mark.parametrize("ema", [False, True], ids=["plain", "with averages"])
def test_compvis_s_file_is_the_same_model(nets, own, tmp_path, ema):
    """Its sizes are SD 1's but for the tower's heads, which only a config tells."""
    weights.write_tensors(tmp_path / "sd.safetensors", compvis_of(nets, ema))
    convert.write_own(tmp_path / "sd.safetensors", tmp_path / "own")
    same(nets_of(tmp_path / "own"), nets_of(own))


def test_back_to_both_forms(nets, own, tmp_path):
    assert "whole" in convert.write_torch(own, tmp_path / "diffusers")
    for net, tensors in nets.items():
        [file] = (tmp_path / "diffusers" / net).glob("*.safetensors")
        back = weights.read_tensors(file)
        bare = {key.removeprefix("text_model."): value for key, value in back.items()}
        assert bare.keys() == tensors.keys()
        for key, value in tensors.items():
            np.testing.assert_array_equal(bare[key], value, err_msg=key)
    convert.write_own(tmp_path / "diffusers", tmp_path / "again")
    same(nets_of(tmp_path / "again"), nets_of(own))
    convert.write_torch(own, tmp_path / "sd.safetensors")
    file = weights.read_tensors(tmp_path / "sd.safetensors")
    wanted = compvis_of(nets)
    lacking = {"betas", "cond_stage_model.transformer.text_model.embeddings.position_ids"}
    names = {key.replace("transformer.text_model.", "transformer.") for key in wanted}
    found = {key.replace("transformer.text_model.", "transformer.") for key in file}
    assert found == names - {n.replace("transformer.text_model.", "transformer.") for n in lacking}


def test_published_key_lists_fit(fixtures_dir):
    """Of SD 1: all 686 names of the UNet both ways, by shapes alone."""
    names = json.loads((fixtures_dir / "sd1_compvis_to_diffusers.json").read_text())["unet"]
    shapes = DIFFUSERS.expected(DIFFUSERS.config(sizes_of_sd1()))
    flat = flatten(shapes)
    rules = DIFFUSERS.rules(sizes_of_sd1())
    ours = {source_of(path, rules) for path in flat}
    assert ours == names.keys()
    assert {UNET + key for key in to_compvis(dict.fromkeys(names))} == set(names.values())
    bare = {name.removeprefix(UNET): name for name in names.values()}
    assert to_diffusers(bare).keys() == names.keys()
    tower = HF_TEXT.config(
        {"ids": 49408, "context": 77, "width": 768, "layers": 12, "heads": 12, "mlp": 3072,
         "activation": "quick_gelu", "pad": 49407, "skip": 0}
    )  # fmt: skip
    text = {source_of(path, HF_TEXT.rules({})) for path in flatten(HF_TEXT.expected(tower))}
    split = sum(3 if ".qkv_proj." in key else 1 for key in text)
    assert split == 196


def sizes_of_sd1():
    return {
        "out": 4, "channels": (320, 640, 1280, 1280), "blocks": 2, "attention": (0, 1, 2),
        "middle_attention": True, "depth": 1, "heads": 8, "head_width": 0, "linear": False,
        "groups": 32, "context": 768,
    }  # fmt: skip


def shapes_of(net):
    return jax.eval_shape(
        net.init, jax.random.key(0), np.zeros((1, 8, 8, 4), np.float32),
        np.zeros(1, np.float32), np.zeros((1, 2, net.context), np.float32),
    )  # fmt: skip


def test_other_forms_of_a_unet():
    """One level, one block: names count differently."""
    for net in (
        UNet(channels=(32, 32, 64), blocks=1, attention=(1,), context=8),
        UNet(channels=(32,), blocks=2, attention=(), context=8),
        UNet(channels=(32, 64), blocks=3, attention=(0,), middle_attention=False, context=8),
    ):
        rules = DIFFUSERS.rules({"linear": False})
        tree = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes_of(net))
        tensors = weights.to_torch(tree, rules)
        again = to_diffusers(to_compvis(tensors))
        assert again.keys() == tensors.keys()
        sizes = COMPVIS.sizes(again)
        assert (sizes["blocks"], sizes["attention"]) == (net.blocks, net.attention)
        assert sizes["middle_attention"] == net.middle_attention


@pytest.mark.parametrize("prefix", ["", "text_model."])
def test_a_text_tower_alone_with_and_without_its_prefix(nets, tmp_path, prefix):
    tensors = {prefix + key: value for key, value in nets["text_encoder"].items()}
    weights.write_tensors(tmp_path / "text.safetensors", tensors)
    found = convert.convert(tmp_path / "text.safetensors")
    assert (found.family, found.layout.net, found.layout) == ("clip", "text", HF_TEXT)


def test_sd2_says_what_it_predicts(fixtures_dir, nets, tmp_path):
    """open_clip's tower; and no guess of the prediction."""
    unet = state_dict(golden(fixtures_dir, "sd2_unet_tiny"))
    width = 48
    rng = np.random.default_rng(0)
    config = OPEN_TEXT.config(
        {"ids": 100, "context": 77, "width": width, "layers": 2, "heads": 1, "mlp": 4 * width,
         "activation": "gelu", "pad": 0, "skip": 1}
    )  # fmt: skip
    tree = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), OPEN_TEXT.expected(config)
    )
    tower = weights.to_torch(tree, OPEN_TEXT.rules({}))
    tower |= {"text_projection": np.zeros((width, width), np.float32),
              "logit_scale": np.float32(1.0)}  # fmt: skip
    tensors = {key: value for key, value in compvis_of(nets).items() if "cond_stage" not in key}
    tensors = {key: value for key, value in tensors.items() if not key.startswith(UNET)}
    tensors |= {UNET + key: value for key, value in to_compvis(unet).items()}
    tensors |= {f"cond_stage_model.model.{key}": value for key, value in tower.items()}
    path = tmp_path / "sd2.safetensors"
    weights.write_tensors(path, tensors)
    with pytest.raises(UserError, match=r"--prediction eps .* or v"):
        convert.write_own(path, tmp_path / "own")
    # Heads of 64 do not fit the tiny one, which is said by its own check.
    with pytest.raises(UserError, match="head_width=64"):
        convert.write_own(path, tmp_path / "own", prediction="v")


def test_bad_files_are_one_line(folder, nets, tmp_path):
    broken = tmp_path / "sd"
    for net in ("unet", "vae"):
        (broken / net).mkdir(parents=True)
        [file] = (folder / net).glob("*.safetensors")
        (broken / net / file.name).symlink_to(file)
    (broken / "text_encoder").mkdir()
    with pytest.raises(UserError, match=r"has no model.safetensors"):
        convert.write_own(broken, tmp_path / "own")
    lacking = compvis_of(nets)
    lacking.pop(f"{UNET}out.2.bias")
    lacking[f"{UNET}more.weight"] = np.zeros(3, np.float32)
    weights.write_tensors(tmp_path / "lacking.safetensors", lacking)
    with pytest.raises(UserError, match=r"1 missing: conv_out.bias .*1 extra: more.weight"):
        convert.write_own(tmp_path / "lacking.safetensors", tmp_path / "own")
    inpainting = compvis_of(nets)
    inpainting[f"{UNET}input_blocks.0.0.weight"] = np.zeros((32, 9, 3, 3), np.float32)
    weights.write_tensors(tmp_path / "inpainting.safetensors", inpainting)
    with pytest.raises(UserError, match="inpainting"):
        convert.write_own(tmp_path / "inpainting.safetensors", tmp_path / "own")


# ------------------------------------------------------------------------------------------- LoRA

ATTN = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
SELF = "encoder.layers.1.self_attn"


def matrices(shapes, rank=2):
    rng = np.random.default_rng(1)
    return {
        name: (
            rng.normal(size=(rank, into)).astype(np.float32),
            rng.normal(size=(out, rank)).astype(np.float32),
        )
        for name, (out, into) in shapes.items()
    }


CHANGES = matrices(
    {f"{ATTN}.to_q": (32, 32), f"{ATTN}.to_out.0": (32, 32), f"{SELF}.k_proj": (32, 32)}
)


def kohya(alpha):
    tensors = {}
    for name, (down, up) in CHANGES.items():
        flat = name.replace(".", "_")
        key = f"lora_te_text_model_{flat}" if "self_attn" in name else f"lora_unet_{flat}"
        tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up,
                    f"{key}.alpha": np.float32(alpha)}  # fmt: skip
    return tensors


def diffusers(old):
    tensors = {}
    for name, (down, up) in CHANGES.items():
        text = "self_attn" in name
        key = f"text_encoder.text_model.{name}" if text else f"unet.{name}"
        names = ("lora_A.weight", "lora_B.weight")
        if old and text:
            names = ("lora_linear_layer.down.weight", "lora_linear_layer.up.weight")
        elif old:
            key = key.replace("attn1.to_", "attn1.processor.to_").removesuffix(".0") + "_lora"
            names = ("down.weight", "up.weight")
        tensors |= {f"{key}.{names[0]}": down, f"{key}.{names[1]}": up}
    return tensors


@pytest.mark.parametrize(
    ("made", "scale"),
    [(kohya(1.0), 0.5), (diffusers(False), 1.0), (diffusers(True), 1.0)],
    ids=["kohya", "diffusers", "older diffusers"],
)
def test_loras_are_added(nets, own, folder, tmp_path, made, scale):
    weights.write_tensors(tmp_path / "lora.safetensors", made)
    source = own if scale == 1.0 else folder
    convert.write_own(source, tmp_path / "new", loras=[(tmp_path / "lora.safetensors", 0.8)])
    convert.write_torch(tmp_path / "new", tmp_path / "back")
    back = {}
    for net in ("unet", "text_encoder"):
        [file] = (tmp_path / "back" / net).glob("*.safetensors")
        tensors = weights.read_tensors(file)
        back |= {key.removeprefix("text_model."): value for key, value in tensors.items()}
    before = nets["unet"] | nets["text_encoder"]
    for key, value in before.items():
        change = 0.0
        if key.removesuffix(".weight") in CHANGES:
            down, up = CHANGES[key.removesuffix(".weight")]
            change = 0.8 * scale * up @ down
        np.testing.assert_allclose(back[key], value + change, rtol=1e-5, atol=1e-6, err_msg=key)


def test_a_lora_of_another_model_is_refused(own, tmp_path):
    wrong = {key.replace("attn1", "attn9"): value for key, value in kohya(1.0).items()}
    weights.write_tensors(tmp_path / "wrong.safetensors", wrong)
    with pytest.raises(UserError, match="keys are of no layer of this model"):
        convert.write_own(own, tmp_path / "new", loras=[(tmp_path / "wrong.safetensors", 1.0)])
    half = {key: value for key, value in kohya(1.0).items() if "to_q.lora_up" not in key}
    weights.write_tensors(tmp_path / "half.safetensors", half)
    with pytest.raises(UserError, match="only alpha, down is there"):
        convert.write_own(own, tmp_path / "new", loras=[(tmp_path / "half.safetensors", 1.0)])


def test_the_command(jaxgen_command, folder, tmp_path):
    code, out, err = jaxgen_command("convert", str(folder), "-o", "own")
    assert code == 0, err
    assert "predicts eps" in out
    code, _, err = jaxgen_command("convert", "own", "--to-torch", "sd.safetensors")
    assert code == 0, err
    code, out, err = jaxgen_command("convert", "sd.safetensors")
    assert code == 0, err
    assert "CompVis Stable Diffusion" in out
