"""Stable Diffusion 1.5 at its full size against diffusers and transformers, with random weights.

Some gigabytes and minutes: `pytest -m slow tests/families/test_sd_full_size.py`.
"""

import jax
import numpy as np
import pytest
from support.diffusion import nhwc
from support.referees import pytorch

from jaxgen import weights
from jaxgen.models.clip.text import HF_TEXT, make_text_tower
from jaxgen.models.ldm.unet_layout import DIFFUSERS, unet_of
from jaxgen.models.vae import convert as vae
from jaxgen.models.vae.networks import VAE
from jaxgen.models.vae.task import make_vae
from jaxgen.weights.layout import fitted

pytestmark = pytest.mark.slow
torch = pytorch()


def through_a_file(model, layout, folder):
    """(sizes, config, variables) of a model of theirs, by the file that it writes."""
    model.save_pretrained(folder, safe_serialization=True)
    [path] = folder.glob("*.safetensors")
    found = fitted(layout, path, weights.read_tensors(path))
    path.unlink()
    return found


def counted(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables))


def in_both(model, call):
    """What theirs gives in float32 and in float64; the model is of float64 from then on."""
    found = []
    for dtype in (torch.float32, torch.float64):
        model.to(dtype)
        with torch.no_grad():
            found.append([y.numpy() for y in call(model, dtype)])
    return zip(*found, strict=True)


def assert_exact(ours, theirs):
    """Within 1e-5 of float64, or, where float32 is worse through so many layers, as near as theirs.

    Args: theirs: (in float32, in float64).
    """
    single, double = theirs
    scale = np.abs(double).max()
    ours, own = (np.abs(np.asarray(y) - double).max() / scale for y in (ours, single))
    print(f"to float64: {ours:.2e}, theirs {own:.2e}")  # pytest -s shows it
    assert ours <= max(1e-5, own)


def test_unet(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    model = diffusers.UNet2DConditionModel(cross_attention_dim=768, sample_size=64).eval()
    _, config, variables = through_a_file(model, DIFFUSERS, tmp_path)
    assert counted(variables) == 859_520_964
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 4, 64, 64)).astype(np.float32)
    context = rng.normal(size=(1, 77, 768)).astype(np.float32)
    t = np.array([501.0], np.float32)
    given = [torch.tensor(a) for a in (x, t, context)]
    [theirs] = in_both(model, lambda net, dtype: [net(*(a.to(dtype) for a in given)).sample])
    del model
    ours = jax.jit(unet_of(config).apply)(variables, nhwc(x), t, context)
    assert_exact(ours, [nhwc(y) for y in theirs])


def test_autoencoder(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(1)
    model = diffusers.AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, sample_size=512,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    ).eval()  # fmt: skip
    sizes, config, variables = through_a_file(model, vae.DIFFUSERS, tmp_path)
    assert (counted(variables), sizes["scaling"]) == (83_653_863, 0.18215)
    x = np.random.default_rng(1).uniform(-1, 1, (1, 3, 256, 256)).astype(np.float32)
    z = np.random.default_rng(2).normal(0, 5, (1, 4, 32, 32)).astype(np.float32)

    def theirs(net, dtype):
        seen, given = (torch.tensor(a, dtype=dtype) for a in (x, z))
        return net.encode(seen).latent_dist.parameters, net.decode(given).sample

    moments, decoded = in_both(model, theirs)
    net = make_vae(config)

    def both(variables, x, z):
        seen = net.apply(variables, x, method=VAE.moments)
        return seen, net.apply(variables, z, method=VAE.decode)

    seen, drawn = jax.jit(both)(variables, nhwc(x), nhwc(z) * np.float32(0.18215))
    assert_exact(seen, [nhwc(y) for y in moments])
    assert_exact(drawn, [nhwc(y) for y in decoded])


def test_text_encoder(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(2)
    model = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
        )
    ).eval()
    _, config, variables = through_a_file(model, HF_TEXT, tmp_path)
    assert counted(variables) == 123_060_480
    tokens = np.random.default_rng(2).integers(0, 49_408, (2, 77))
    given = torch.tensor(tokens)
    [theirs] = in_both(model, lambda net, dtype: [net(given).last_hidden_state])
    ours = jax.jit(make_text_tower(config).apply)(variables, tokens.astype(np.int32))
    assert_exact(ours, theirs)
