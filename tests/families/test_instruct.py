"""InstructPix2Pix against diffusers' pipeline with random weights, both forms of its files."""

import json

import diffusers
import jax
import numpy as np
import pytest
import transformers
from PIL import Image
from support.diffusion import assert_near, nhwc
from support.referees import pytorch
from support.tiny_ldm import tiny_ldm, tiny_ldm_config

import jaxgen
from jaxgen import weights
from jaxgen.diffusion.sampling import first_noise, noise_of
from jaxgen.errors import UserError
from jaxgen.models.ldm.compvis import UNET
from jaxgen.models.ldm.task import make_task
from jaxgen.models.ldm.unet_layout import COMPVIS
from jaxgen.runs import convert
from jaxgen.verbs import settings
from jaxgen.verbs.edit.contract import Request
from jaxgen.weights.keymap import flatten

torch = pytorch()
STEPS, SIDE = 10, 32


def made(cls, **settings):
    """A model of diffusers' with all its weights random, its zeros too."""
    torch.manual_seed(0)
    model = cls(**settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A whole model of random weights, as diffusers writes it."""
    home = tmp_path_factory.mktemp("published") / "theirs"
    made(
        diffusers.UNet2DConditionModel, in_channels=8, out_channels=4, cross_attention_dim=16,
        attention_head_dim=2, block_out_channels=(16,), layers_per_block=1, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",),
        sample_size=SIDE // 8,
    ).save_pretrained(home / "unet")  # fmt: skip
    made(
        diffusers.AutoencoderKL, block_out_channels=(32, 32, 32, 32), layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    ).save_pretrained(home / "vae")  # fmt: skip
    text = transformers.CLIPTextConfig(
        vocab_size=60, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, bos_token_id=58, eos_token_id=59, pad_token_id=59,
    )  # fmt: skip
    made(transformers.CLIPTextModel, config=text).save_pretrained(home / "text_encoder")
    diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
    ).save_pretrained(home / "scheduler")
    said = {"_class_name": "StableDiffusionInstructPix2PixPipeline"}
    (home / "model_index.json").write_text(json.dumps(said))
    return home


@pytest.fixture(scope="module")
def model(own):
    return jaxgen.load(own)


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def prepared(model, picture, options, seed=3):
    """(method, shared, each) with tokens, as the tiny tower has no words of its own."""
    method = model.edit.method()
    whole = settings(method.options, options, "it")
    shared, each, _ = method.prepare(Request("", ("",), picture, seed=seed), whole)
    tokens = np.stack([each["tokens"][0], (np.arange(77) % 58).astype(np.int32)])
    tokens[1, 40:] = 59
    each = each | {"tokens": tokens, "mask": np.ones_like(tokens, bool)}
    return method, shared, jax.tree.map(lambda a: np.asarray(a)[None], each)


@pytest.mark.parametrize("sampler", ["ddim", "euler-a"])
def test_an_edit_equals_the_pipeline_s(home, model, picture, sampler, monkeypatch):
    options = {"steps": STEPS, "sampler": sampler, "guidance": 3.0, "image_guidance": 1.4}
    method, shared, each = prepared(model, picture, options)
    ours = jax.jit(method.run)(model.nets, shared, each)["edits"][0]
    key = jax.random.fold_in(jax.random.key(3), int(each["noise"][0, 1]))
    keys = jax.random.fold_in(key, 0)[None]
    shape = (SIDE // 8, SIDE // 8, 4)
    begun = np.asarray(first_noise(keys, shape)).transpose(0, 3, 1, 2)
    draws = [noise_of(keys, shape)(i) for i in range(STEPS)]
    given = iter([torch.tensor(np.asarray(x).transpose(0, 3, 1, 2)) for x in draws])
    if sampler == "euler-a":
        module = diffusers.schedulers.scheduling_euler_ancestral_discrete
        monkeypatch.setattr(module, "randn_tensor", lambda *a, **k: next(given))
        said = {"timestep_spacing": "linspace"}
        kind = diffusers.EulerAncestralDiscreteScheduler
    else:
        said = {"steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False}
        kind = diffusers.DDIMScheduler
    first = diffusers.AutoencoderKL.from_pretrained(home / "vae")
    tower = transformers.CLIPTextModel.from_pretrained(home / "text_encoder")
    pipeline = diffusers.StableDiffusionInstructPix2PixPipeline(
        first, tower, None, diffusers.UNet2DConditionModel.from_pretrained(home / "unet"),
        kind.from_pretrained(home / "scheduler", **said), None, None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    with torch.no_grad():
        free, asked = (
            tower(torch.tensor(np.asarray(ids, np.int64))[None]).last_hidden_state
            for ids in each["tokens"][0]
        )
        theirs = pipeline(
            prompt_embeds=asked, negative_prompt_embeds=free, num_inference_steps=STEPS,
            guidance_scale=3.0, image_guidance_scale=1.4, output_type="latent",
            image=torch.tensor(np.float32(picture / 255).transpose(2, 0, 1)[None]),
            latents=torch.tensor(begun),
        ).images  # fmt: skip
        drawn = first.decode(theirs / first.config.scaling_factor).sample.numpy()
    assert_near(ours, nhwc(drawn), 1e-4)


def test_masks_and_other_guidances(model, picture):
    """Outside the picture stays; another guidance compiles nothing."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[:8, :16] = True
    use, plain = model.edit, {"steps": 2, "sampler": "ddim"}
    found = model.edit(picture, "", mask=mask, **plain)
    assert found.reconstruction is None
    before = use.method().program._cache_size()
    other = model.edit(picture, "", mask=mask, guidance=2.0, image_guidance=3.0, **plain)
    assert use.method().program._cache_size() == before
    a, b = found.pictures[0], other.pictures[0]
    np.testing.assert_array_equal(a[~mask], picture[~mask])
    assert np.abs(a[mask].astype(int) - picture[mask]).max() > 0
    assert np.abs(a.astype(int) - b).max() > 0


def nets_of(home):
    """All arrays of a model of ours."""
    whole = convert.gathered(home)
    nets = {**whole.nets, **{name: part.nets for name, part in whole.parts.items()}}
    return {f"{net}/{key}": value for net, tree in nets.items()
            for key, value in flatten(tree).items()}  # fmt: skip


def test_there_and_back(home, own, tmp_path):
    """diffusers' folder again, and CompVis's file, whose lone UNet has its sizes in its shapes."""
    convert.write_torch(own, tmp_path / "folder")
    said = json.loads((tmp_path / "folder" / "model_index.json").read_text())
    assert said["_class_name"] == "StableDiffusionInstructPix2PixPipeline"
    unet = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "folder" / "unet")
    assert unet.config.in_channels == 8
    wanted = diffusers.UNet2DConditionModel.from_pretrained(home / "unet").state_dict()
    for key, value in unet.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), wanted[key].numpy(), err_msg=key)
    convert.write_torch(own, tmp_path / "one.safetensors")
    tensors = weights.read_tensors(tmp_path / "one.safetensors")
    assert tensors[f"{UNET}input_blocks.0.0.weight"].shape[:2] == (16, 8)
    convert.write_own(tmp_path / "folder", tmp_path / "again")
    for key, value in nets_of(tmp_path / "again").items():
        np.testing.assert_array_equal(value, nets_of(own)[key], err_msg=key)


def test_compvis_s_file_becomes_a_model(tmp_path):
    """With SD 1's heads and groups, which its keys do not tell."""
    sizes = {"out": 4, "channels": (32, 32), "blocks": 1, "attention": (0,),
             "middle_attention": True, "depth": 1, "heads": 8, "head_width": 0, "linear": False,
             "groups": 32, "context": 16, "instruct": True}  # fmt: skip
    config = COMPVIS.config(sizes)
    tree = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), COMPVIS.expected(config))
    tensors = COMPVIS.part(weights.to_torch(tree, COMPVIS.rules(sizes)))
    assert tensors["input_blocks.0.0.weight"].shape == (32, 8, 3, 3)
    weights.write_tensors(tmp_path / "unet.safetensors", tensors)
    found = convert.convert(tmp_path / "unet.safetensors", layout=COMPVIS.name)
    assert found.config.model.instruct
    assert found.sizes == sizes == COMPVIS.read(found.config)


def test_methods_of_the_wrong_kind_are_one_line(model, home, tmp_path, picture):
    assert model.edit.verb.facts() == {"methods": ["instruct"]}
    for call, says in (
        (lambda: model.edit(picture, "a", "b", method="p2p"), "reads instructions, not captions"),
        (lambda: model.edit(None, "make it red"), "edits a picture: give one"),
        (lambda: model.generate("a cat"), "generate"),
        (lambda: tiny_ldm().edit(picture, "a", method="instruct"), "reads captions, not instruc"),
        (lambda: make_task(tiny_ldm_config(model__instruct=True)), "is not trained here"),
    ):
        with pytest.raises(UserError) as error:
            call()
        assert says in str(error.value)
        assert "\n" not in str(error.value)
    other = tmp_path / "marigold"
    other.mkdir()
    for name in ("unet", "vae", "text_encoder", "scheduler"):
        (other / name).symlink_to(home / name)
    (other / "model_index.json").write_text('{"_class_name": "MarigoldDepthPipeline"}')
    with pytest.raises(UserError, match=r"a MarigoldDepthPipeline; of models"):
        convert.write_own(other, tmp_path / "own")


def test_the_command(own, jaxgen_command, tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "in.png")
    code, _, err = jaxgen_command(
        "edit", "in.png", "", "--model", own, "-o", "out.png", "--steps", 2,
        "--option", "image_guidance=2",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert (tmp_path / "out.png").exists()
    assert (tmp_path / "out_sheet.png").exists()
