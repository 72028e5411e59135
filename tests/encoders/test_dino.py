"""DINO's ViT equals PyTorch's under DINO's and transformers' keys, and its files go both ways."""

import jax
import numpy as np
import pytest
from support.conversion import assert_same_bits
from support.dino_weights import random_dino

from jaxgen import weights
from jaxgen.encoders import convert as encoders
from jaxgen.encoders import dino
from jaxgen.errors import UserError

SIZES = [(64, 2, 8, 32), (128, 3, 16, 64)]


def pictures(side, seed=0):
    return np.random.default_rng(seed).normal(0, 1, (2, side, side, 3)).astype(np.float32)


def near(ours, theirs):
    scale = np.abs(theirs).max()
    assert np.abs(np.asarray(ours) - theirs).max() <= 1e-5 * scale


def torch_vit(torch, state, x):
    """(tokens, keys of the last block) by PyTorch's own layers: heads of 64, norms with 1e-6."""
    f, t = torch.nn.functional, {key: torch.from_numpy(value) for key, value in state.items()}

    def norm(x, name):
        return f.layer_norm(x, x.shape[-1:], t[f"{name}.weight"], t[f"{name}.bias"], 1e-6)

    def dense(x, name):
        return f.linear(x, t[f"{name}.weight"], t[f"{name}.bias"])

    kernel = t["patch_embed.proj.weight"]
    x = f.conv2d(torch.from_numpy(x.transpose(0, 3, 1, 2)), kernel, stride=kernel.shape[-1])
    x = (x + t["patch_embed.proj.bias"][:, None, None]).flatten(2).transpose(1, 2)
    x = torch.cat([t["cls_token"].expand(len(x), -1, -1), x], 1) + t["pos_embed"]
    b, n, width = x.shape
    i = 0
    while f"blocks.{i}.norm1.weight" in t:
        qkv = dense(norm(x, f"blocks.{i}.norm1"), f"blocks.{i}.attn.qkv")
        q, k, v = qkv.reshape(b, n, 3, width // 64, 64).permute(2, 0, 3, 1, 4)
        seen = f.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, width)
        x = x + dense(seen, f"blocks.{i}.attn.proj")
        y = f.gelu(dense(norm(x, f"blocks.{i}.norm2"), f"blocks.{i}.mlp.fc1"))
        x = x + dense(y, f"blocks.{i}.mlp.fc2")
        i += 1
    return norm(x, "norm").numpy(), k.transpose(1, 2).reshape(b, n, width).numpy()


@pytest.mark.parametrize("size", SIZES)
def test_tokens_and_keys_are_pytorchs(size):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
    state, x = random_dino(*size), pictures(size[-1])
    tokens, keys = torch_vit(torch, state, x)
    found = jax.jit(dino.features)(dino.from_torch(state), x)
    near(found["tokens"], tokens)
    near(found["keys"], keys)


def test_transformers_form_is_read(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
    transformers = pytest.importorskip("transformers", reason="transformers is the oracle")
    config = transformers.ViTConfig(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512,
        image_size=32, patch_size=8, layer_norm_eps=1e-6,
    )  # fmt: skip
    torch.manual_seed(0)
    net = transformers.ViTModel(config).eval()  # with the pooler, which DINO has not
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    net.save_pretrained(tmp_path)
    x = pictures(32)
    with torch.no_grad():
        tokens = net(torch.from_numpy(x.transpose(0, 3, 1, 2))).last_hidden_state.numpy()
    params = dino.load(tmp_path / "model.safetensors")
    near(jax.jit(dino.features)(params, x)["tokens"], tokens)


def test_sizes_are_seen_from_the_weights():
    for width, patch, parameters in ((384, 16, 21_665_664), (768, 8, 85_807_872)):
        params = dino.expected_params(width, 12, patch)
        assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == parameters
        assert dino.module_of(params) == dino.VisionTransformer(width, 12, patch, 224)


def test_files_become_ours_and_go_back(jaxgen_command, tmp_path):
    state = random_dino()
    weights.write_tensors(tmp_path / "dino.safetensors", state)
    code, out, err = jaxgen_command("convert", "dino.safetensors", "--to", "own.safetensors")
    assert (code, err) == (0, "")
    assert out.startswith("own.safetensors  DINO ViT-S or ViT-B: dino_vit, 113,")
    assert_same_bits(
        weights.flatten(dino.load(tmp_path / "own.safetensors")),
        weights.flatten(dino.from_torch(state)),
    )
    assert jaxgen_command("convert", "own.safetensors", "--to-torch", "back.safetensors")[0] == 0
    assert_same_bits(weights.read_tensors(tmp_path / "back.safetensors"), state)


def test_other_weights_are_refused():
    state = random_dino()
    for change, says in (
        ({"head.weight": np.zeros((3, 64), np.float32)}, "1 extra: head.weight"),
        ({"blocks.1.mlp.fc1.bias": None}, "1 missing: blocks.1.mlp.fc1.bias"),
        ({"blocks.0.attn.proj.weight": np.zeros((64, 32), np.float32)}, "1 misshapen"),
        ({"pos_embed": None}, "no DINO ViT"),
        ({"pos_embed": np.zeros((1, 4, 64), np.float32)}, "no DINO ViT: 64 features, 3 places"),
    ):
        wrong = {key: value for key, value in (state | change).items() if value is not None}
        with pytest.raises(UserError, match=says):
            dino.from_torch(wrong)
    assert encoders.kind_of(state).name == "DINO ViT-S or ViT-B"
