"""Files of what configs/sd15.py learns: LoRA and words, ours, others' and in other models."""

import numpy as np
import pytest
from support.referees import pytorch
from support.tiny_sd import tokenizer, with_change

import jaxgen
from jaxgen import weights
from jaxgen.errors import UserError
from jaxgen.models.ldm.change import CHANGE
from jaxgen.runs import convert
from jaxgen.weights.keymap import flatten


def nets_of(folder):
    whole = convert.gathered(folder)
    own = {net: flatten(tree) for net, tree in whole.nets.items()}
    return own | {name: flatten(part.nets) for name, part in whole.parts.items()}


def assert_near(ours, theirs, most=1e-6):
    assert ours.keys() == theirs.keys()
    for net, arrays in ours.items():
        assert arrays.keys() == theirs[net].keys(), net
        for key, value in arrays.items():
            np.testing.assert_allclose(value, theirs[net][key], atol=most, err_msg=f"{net} {key}")


@pytest.mark.parametrize("layout", ["kohya LoRA", "diffusers LoRA"])
def test_a_lora_file_added_to_the_base_is_the_run(started, base, tmp_path, layout):
    """With another alpha than the rank; of the text tower, whose q, k and v are one layer here."""
    changes = {"model__change__text_rank": 2, "model__change__alpha": 3.0}
    own = with_change(started, tmp_path / "run", **changes)
    file = tmp_path / "lora.safetensors"
    assert convert.write_torch(own, file, layout).startswith(layout)
    convert.write_own(base, tmp_path / "again", loras=[(file, 1.0)])
    convert.write_own(own, tmp_path / "merged")
    merged = nets_of(tmp_path / "merged")
    assert merged.keys() == {"g", "first_stage", "text"}
    assert_near(nets_of(tmp_path / "again"), merged)
    before, name = nets_of(base), "params/down_0_attn_0/block_0/attn1/to_q/kernel"
    assert np.abs(merged["g"][name] - before["g"][name]).max() > 0.01
    name = "text/params/transformer/block_0/qkv/kernel"
    assert np.abs(merged["text"][name] - before["text"][name]).max() > 0.01


def test_diffusers_takes_both_files(started, base, tmp_path):
    """The UNet and the text tower with either file loaded are those of the merged model."""
    torch = pytorch()
    pytest.importorskip("peft", reason="diffusers reads LoRA by it")
    diffusers = pytest.importorskip("diffusers", reason="the referee")
    from transformers import CLIPTextModel

    changes = {"model__change__text_rank": 2, "model__change__alpha": 3.0}
    own = with_change(started, tmp_path / "run", **changes)
    convert.write_torch(own, tmp_path / "merged")
    convert.write_torch(base, tmp_path / "base")
    x, ids = torch.ones(1, 4, 8, 8), torch.arange(16)[None]

    def opened(folder):
        plain = {"low_cpu_mem_usage": False}
        # diffusers' UNet has a transformer in its middle where nobody says other.
        about = {"mid_block_type": "UNetMidBlock2D", **plain}
        unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet", **about)
        return unet.eval(), CLIPTextModel.from_pretrained(folder / "text_encoder", **plain).eval()

    def said(unet, text):
        with torch.no_grad():
            return unet(x, torch.tensor([7]), text(ids)[0]).sample.numpy()

    wanted = said(*opened(tmp_path / "merged"))
    pipeline = diffusers.StableDiffusionPipeline
    for layout in ("kohya LoRA", "diffusers LoRA"):
        file = tmp_path / f"{layout[:5]}.safetensors"
        convert.write_torch(own, file, layout)
        unet, text = opened(tmp_path / "base")
        assert np.abs(said(unet, text) - wanted).max() > 0.01 * np.abs(wanted).max()
        tensors, alphas = pipeline.lora_state_dict(str(file))[:2]
        more = {"network_alphas": alphas, "low_cpu_mem_usage": False}
        pipeline.load_lora_into_unet(tensors, unet=unet, **more)
        pipeline.load_lora_into_text_encoder(
            tensors, text_encoder=text, prefix="text_encoder", **more
        )
        np.testing.assert_allclose(said(unet, text), wanted, atol=1e-5 * np.abs(wanted).max())


def test_the_run_draws_what_its_lora_file_draws(started, base, tmp_path):
    own = with_change(started, tmp_path / "run")
    convert.write_torch(own, tmp_path / "lora.safetensors", "kohya LoRA")
    file = (tmp_path / "lora.safetensors", 1.0)
    convert.write_own(base, tmp_path / "again", loras=[file])
    asked = {"seed": 3, "steps": 2, "guidance": 2.0}
    folders = (own, tmp_path / "again")
    a, b = (jaxgen.load(f).generate("a red cat", **asked)[0].astype(int) for f in folders)
    assert np.abs(a - b).max() <= 1


def test_a_run_with_changes_goes_to_others_whole(started, base, tmp_path):
    own = with_change(started, tmp_path / "run")
    convert.write_torch(own, tmp_path / "sd.safetensors")
    convert.write_own(own, tmp_path / "merged")
    convert.write_torch(tmp_path / "merged", tmp_path / "again.safetensors")
    a, b = (weights.read_tensors(tmp_path / f"{n}.safetensors") for n in ("sd", "again"))
    assert a.keys() == b.keys()
    for key, value in a.items():
        np.testing.assert_array_equal(value, b[key], err_msg=key)


def test_words_go_to_a_file_and_into_another_model(started, base, tmp_path):
    words = ("<cat-toy>", "<cat-toy>", "<style>")
    begin = {"model__change__words": words, "model__change__begin": ("toy", "cat", "red")}
    own = with_change(started, tmp_path / "run", model__change__rank=0, **begin)
    file = tmp_path / "learned_embeds.safetensors"
    assert convert.write_torch(own, file, "learned embeddings") == "learned embeddings, 2 tensors"
    tensors = weights.read_tensors(file)
    assert {word: value.shape for word, value in tensors.items()} == {
        "<cat-toy>": (2, 16), "<style>": (16,),
    }  # fmt: skip
    convert.write_own(base, tmp_path / "again", words=[file])
    convert.write_own(own, tmp_path / "merged")
    found = nets_of(tmp_path / "again")
    assert_near(found, nets_of(tmp_path / "merged"))
    table = nets_of(base)["text"]["text/params/tokens"]
    np.testing.assert_array_equal(found["text"]["text/params/tokens"], table)
    ids = [i for word in ("toy", "cat", "red") for i in tokenizer().ids(word)]
    moved = convert.gathered(own).nets[CHANGE]["params"]["words"]
    np.testing.assert_allclose(found[CHANGE]["params/words"], table[ids] + moved, atol=1e-6)
    with pytest.raises(UserError, match="have no place in this form"):
        convert.write_torch(own, tmp_path / "sd.safetensors")
    with pytest.raises(UserError, match="the model has the word <cat-toy> already"):
        convert.write_own(tmp_path / "again", tmp_path / "twice", words=[file])


def test_a_new_word_is_drawn(base, tmp_path):
    """AUTOMATIC1111's layout too, whose word is the file's name."""
    rows = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)
    weights.write_tensors(tmp_path / "mytoy.safetensors", {"emb_params": rows})
    convert.write_own(base, tmp_path / "own", words=[tmp_path / "mytoy.safetensors"])
    model = jaxgen.load(tmp_path / "own")
    assert model.config.model.change.words == ("mytoy", "mytoy")
    a, b = (model.generate(text, seed=1, steps=1)[0] for text in ("a mytoy", "a toy"))
    assert np.abs(a.astype(int) - b).max() > 0


def test_published_files_of_words(base, tmp_path):
    """As torch saves them: diffusers' dict, and AUTOMATIC1111's with a trainer's numbers beside."""
    torch = pytorch()
    one, two = torch.randn(16), torch.randn(2, 16)
    torch.save({"<cat-toy>": one}, tmp_path / "learned_embeds.bin")
    beside = {"string_to_token": {"*": 265}, "name": "x", "step": 9, "sd_checkpoint": None}
    torch.save({**beside, "string_to_param": {"*": two}}, tmp_path / "mytoy.pt")
    files = [tmp_path / "learned_embeds.bin", tmp_path / "mytoy.pt"]
    convert.write_own(base, tmp_path / "own", words=files)
    whole = convert.gathered(tmp_path / "own")
    assert whole.config.model.change.words == ("<cat-toy>", "mytoy", "mytoy")
    rows = whole.nets[CHANGE]["params"]["words"]
    np.testing.assert_array_equal(rows, np.concatenate([one[None], two]))


def test_files_that_do_not_fit(base, tmp_path):
    path = tmp_path / "toy.safetensors"
    for tensors, said in (
        ({"<toy>": np.zeros(8, np.float32)}, "it is of another base model"),
        ({"unet.x.lora_A.weight": np.zeros((2, 2), np.float32)}, "no file of textual inversion"),
        ({"cat": np.zeros(16, np.float32)}, "cat is a word of the text encoder already"),
    ):
        weights.write_tensors(path, tensors)
        with pytest.raises(UserError, match=said):
            convert.write_own(base, tmp_path / "own", words=[path])
    for layout, said in (
        ("kohya LoRA", "there is no LoRA"),
        ("learned embeddings", "no new words"),
    ):
        with pytest.raises(UserError, match=said):
            convert.write_torch(base, tmp_path / "x.safetensors", layout)
    with pytest.raises(UserError, match="is no model that has a kohya LoRA"):
        convert.write_torch("srgan_x4", tmp_path / "x.safetensors", "kohya LoRA")
