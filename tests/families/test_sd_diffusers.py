"""Against diffusers itself, with random weights: forms of the UNet and of the autoencoder that no
golden array has, and a folder of ours in its pipeline."""

import json

import diffusers
import jax
import numpy as np
import pytest
import transformers
from support.diffusion import assert_near, nhwc
from support.referees import pytorch

import jaxgen
from jaxgen import weights
from jaxgen.diffusion.sampling import first_noise
from jaxgen.models.ldm.unet_layout import DIFFUSERS, unet_of
from jaxgen.models.vae import convert as vae
from jaxgen.models.vae.networks import VAE
from jaxgen.models.vae.task import make_vae
from jaxgen.runs import convert
from jaxgen.verbs import settings
from jaxgen.weights.layout import fitted

torch = pytorch()

UNETS = {
    "one level with attention": {
        "block_out_channels": (32, 64), "attention_head_dim": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "layers_per_block": 1,
    },
    "heads by width, dense": {
        "block_out_channels": (32, 64, 64), "attention_head_dim": (2, 4, 4),
        "down_block_types": ("CrossAttnDownBlock2D",) * 3,
        "up_block_types": ("CrossAttnUpBlock2D",) * 3, "use_linear_projection": True,
        "norm_num_groups": 16,
    },
}  # fmt: skip


def made(cls, seed=0, **settings):
    """A model of diffusers' with all its weights random, its zeros too."""
    torch.manual_seed(seed)
    model = cls(**settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def saved(model, folder):
    model.save_pretrained(folder, safe_serialization=True)
    [path] = folder.glob("*.safetensors")
    return path


@pytest.mark.parametrize("name", UNETS)
def test_unet(name, tmp_path):
    model = made(diffusers.UNet2DConditionModel, cross_attention_dim=24, **UNETS[name])
    path = saved(model, tmp_path)
    _, config, variables = fitted(DIFFUSERS, path, weights.read_tensors(path))
    rng = np.random.default_rng(0)
    # Sides that do not halve evenly.
    x = rng.normal(size=(2, 4, 10, 6)).astype(np.float32)
    context = rng.normal(size=(2, 5, 24)).astype(np.float32)
    t = np.array([7.0, 801.0], np.float32)
    with torch.no_grad():
        theirs = model(torch.tensor(x), torch.tensor(t), torch.tensor(context)).sample.numpy()
    assert_near(jax.jit(unet_of(config).apply)(variables, nhwc(x), t, context), nhwc(theirs))


def test_autoencoder(tmp_path):
    channels = (32, 64)
    model = made(
        diffusers.AutoencoderKL, block_out_channels=channels, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=3, scaling_factor=0.3,
    )  # fmt: skip
    path = saved(model, tmp_path)
    sizes, config, variables = fitted(vae.DIFFUSERS, path, weights.read_tensors(path))
    assert sizes["scaling"] == 0.3
    x = np.random.default_rng(0).uniform(-1, 1, (2, 3, 12, 8)).astype(np.float32)
    with torch.no_grad():
        moments = model.encode(torch.tensor(x)).latent_dist.parameters.numpy()
        decoded = model.decode(torch.tensor(moments[:, :3])).sample.numpy()
    net = make_vae(config)
    assert_near(net.apply(variables, nhwc(x), method=VAE.moments), nhwc(moments))
    z = nhwc(moments[:, :3]) * 0.3
    assert_near(net.apply(variables, z, method=VAE.decode), nhwc(decoded))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A whole model of random weights, as diffusers writes it."""
    home = tmp_path_factory.mktemp("published") / "theirs"
    saved(
        made(
            diffusers.UNet2DConditionModel, cross_attention_dim=32, attention_head_dim=8,
            block_out_channels=(32, 64), sample_size=16,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        ),
        home / "unet",
    )  # fmt: skip
    channels = (32, 32, 32, 32)
    saved(
        made(
            diffusers.AutoencoderKL, block_out_channels=channels, layers_per_block=1,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        ),
        home / "vae",
    )  # fmt: skip
    text = transformers.CLIPTextConfig(
        vocab_size=60, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, bos_token_id=58, eos_token_id=59, pad_token_id=59,
    )  # fmt: skip
    saved(made(transformers.CLIPTextModel, config=text), home / "text_encoder")
    diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        prediction_type="v_prediction",
    ).save_pretrained(home / "scheduler")  # fmt: skip
    return home


def test_diffusers_opens_our_folder(home, own, tmp_path):
    """Converted and written back, its own classes compute the same."""
    convert.write_torch(own, tmp_path / "ours")
    said = json.loads((tmp_path / "ours" / "scheduler" / "scheduler_config.json").read_text())
    assert said["prediction_type"] == "v_prediction"
    unet, first, tower = (
        [cls.from_pretrained(folder / sub) for folder in (home, tmp_path / "ours")]
        for cls, sub in (
            (diffusers.UNet2DConditionModel, "unet"),
            (diffusers.AutoencoderKL, "vae"),
            (transformers.CLIPTextModel, "text_encoder"),
        )
    )
    x, ids = torch.randn(1, 4, 8, 8), torch.arange(77)[None] % 60
    with torch.no_grad():
        states = [one(ids).last_hidden_state for one in tower]
        outs = [one(x, 5, state).sample for one, state in zip(unet, states, strict=True)]
        pictures = [one.decode(x).sample for one in first]
    for pair in (states, outs, pictures):
        np.testing.assert_array_equal(*(one.numpy() for one in pair))


def test_a_guided_picture_equals_the_pipeline_s(home, own):
    """From the same noise: text, guidance, four steps of DDIM by v, decoding."""
    model = jaxgen.load(own)
    verb, nets = model.generate.verb, model.nets
    chosen = {"steps": 4, "sampler": "ddim", "spacing": "leading", "guidance": 3.0}
    given = verb.give(settings(verb.options, chosen, "it"))
    tokens = (np.arange(77, dtype=np.int32) % 58)[None]
    tokens[:, 40:] = 59
    key = jax.random.key_data(jax.random.key(3))[None]
    mask = np.ones_like(tokens, bool)

    @jax.jit
    def draw(nets, tokens, mask, z, given):
        return verb.draw(nets, verb.embed(nets, tokens, mask), z, given)[0]

    ours = draw(nets, tokens, mask, key, given)
    noise = first_noise(jax.random.wrap_key_data(key), (16, 16, 4))
    unet = diffusers.UNet2DConditionModel.from_pretrained(home / "unet")
    first = diffusers.AutoencoderKL.from_pretrained(home / "vae")
    tower = transformers.CLIPTextModel.from_pretrained(home / "text_encoder")
    scheduler = diffusers.DDIMScheduler.from_pretrained(
        home / "scheduler", steps_offset=1, set_alpha_to_one=False, clip_sample=False
    )
    pipeline = diffusers.StableDiffusionPipeline(
        first, tower, None, unet, scheduler, None, None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    empty, _ = given["negative"]
    with torch.no_grad():
        asked, free = (
            tower(torch.tensor(np.asarray(ids, np.int64))).last_hidden_state
            for ids in (tokens, empty[None])
        )
        theirs = pipeline(
            prompt_embeds=asked, negative_prompt_embeds=free, num_inference_steps=4,
            guidance_scale=3.0, output_type="latent", height=128, width=128,
            latents=torch.tensor(np.asarray(noise).transpose(0, 3, 1, 2)),
        ).images  # fmt: skip
        theirs = first.decode(theirs / first.config.scaling_factor).sample.numpy()
    assert_near(ours, nhwc(theirs), 1e-4)
