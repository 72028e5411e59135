"""CLIP's towers against the originals, and its published layouts both ways."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import applied
from support.referees import pytorch

from jaxgen.encoders.clip.model import CLIP
from jaxgen.encoders.clip.preprocess import fit, padded
from jaxgen.encoders.clip.text import TextTower
from jaxgen.encoders.clip.text_keys import join_hf, part_hf
from jaxgen.encoders.clip.vision import VisionTransformer
from jaxgen.errors import UserError
from jaxgen.models.clip import convert as layouts
from jaxgen.models.clip.networks import make_clip
from jaxgen.runs.convert import recognise
from jaxgen.weights import convert, flatten, to_torch


def close(ours, theirs, tolerance=1e-5):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def state(arrays):
    return {k.removeprefix("sd:"): arrays[k] for k in arrays.files if k.startswith("sd:")}


def converted(tensors, **known):
    family, layout, sizes = recognise(tensors)
    assert family == "clip"
    sizes = {**sizes, **known}
    config = layout.config(sizes)
    joined = layout.join(tensors)
    tree = convert(joined, layout.rules(sizes), layout.expected(config))
    return layout, sizes, config, tree


def features(config, tree, image, text):
    net = make_clip(config)
    x = jnp.asarray(image.transpose(0, 2, 3, 1))
    return jax.jit(net.apply)(tree, x, jnp.asarray(text, jnp.int32))


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("openai_clip_tiny", {"text_heads": 2}),
        ("retrieval/openai_clip_resnet_tiny", {"text_heads": 2}),
        ("retrieval/clip_layouts_tiny", {"text_heads": 2}),
    ],
)
def test_features_equal_the_original(fixtures_dir, name, known):
    arrays = np.load(fixtures_dir / f"{name}.npz")
    _, _, config, tree = converted(state(arrays), **known)
    image, text, scale = features(config, tree, arrays["image"], arrays["text"])
    close(image, arrays["image_features"])
    close(text, arrays["text_features"])
    if "logits_per_image" in arrays.files:
        unit = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (image, text)]
        close(np.exp(scale) * unit[0] @ unit[1].T, arrays["logits_per_image"])


def test_hidden_states_of_any_layer_with_and_without_the_last_norm():
    """As Stable Diffusion 2 and XL take them: all but the last block."""
    net = TextTower(vocabulary=50, context=9, width=16, layers=3, heads=2)
    tokens = jnp.arange(14).reshape(2, 7)
    tree = jax.jit(net.init)(jax.random.key(0), tokens)
    whole = applied(net, tree, tokens)
    raw = applied(net, tree, tokens, depth=2, final_norm=False)
    normed = applied(net, tree, tokens, depth=2)
    assert whole.shape == raw.shape == (2, 7, 16)
    centred = raw - raw.mean(-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    close(normed, np.asarray(expected))
    assert np.abs(whole - normed).max() > 1e-3
    shorter = applied(net, tree, tokens[:, :4])  # what follows a token is not seen
    close(shorter, np.asarray(whole[:, :4]), 1e-5)


def test_the_end_by_its_id_or_as_the_largest():
    text = TextTower(vocabulary=30, context=8, width=16, layers=1, heads=2)
    image = VisionTransformer(4, image_size=8, patch=4, width=16, layers=1, heads=2)
    nets = [CLIP(image, text, embed=4, end=end) for end in (0, 29, 2)]
    tokens = jnp.asarray([[1, 5, 29, 0, 2, 0]])
    tree = jax.jit(nets[0].init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), tokens)
    by_largest, by_id, other = (applied(net, tree, tokens, method=CLIP.texts) for net in nets)
    np.testing.assert_array_equal(by_largest, by_id)
    assert np.abs(by_largest - other).max() > 1e-4


# ---------------------------------------------------------------------------------------- layouts


def layout_files(fixtures_dir):
    """The four layouts of one set of weights: {name: state dict}."""
    arrays = state(np.load(fixtures_dir / "retrieval" / "clip_layouts_tiny.npz"))
    facts = json.loads((fixtures_dir / "retrieval" / "clip_layouts_tiny.json").read_text())
    hf = {}
    for key, (source, operation) in facts["hf_to_openai"].items():
        value = arrays[source]
        if operation == "transposed":
            value = value.T
        elif operation.startswith("rows"):
            value = np.split(value, 3)[int(operation.split()[2]) - 1]
        hf[key] = value
    custom = {}
    for key in facts["open_clip_custom_text_keys"]:
        custom[key] = arrays[key.removeprefix("text.")]
    assert {k: list(v.shape) for k, v in hf.items()} == facts["hf_keys"]
    assert {k: list(v.shape) for k, v in arrays.items()} == facts["openai_keys"]
    return {"OpenAI CLIP": arrays, "open_clip with a text tower of its own": custom,
            "Hugging Face CLIP": hf}  # fmt: skip


def test_one_set_of_weights_in_all_layouts(fixtures_dir):
    files = layout_files(fixtures_dir)
    trees = []
    for name, tensors in files.items():
        layout, sizes, config, tree = converted(tensors, text_heads=2)
        assert layout.name == name
        back = dict(layout.part(to_torch(tree, layout.rules(layout.read(config)))))
        assert back.keys() == tensors.keys()
        for key, value in tensors.items():
            np.testing.assert_array_equal(back[key], value, err_msg=key)
        trees.append(flatten(tree))
        assert layout.read(config) == {k: v or "quick_gelu" for k, v in sizes.items()}
    for tree in trees[1:]:
        assert tree.keys() == trees[0].keys()
        for key, value in tree.items():
            np.testing.assert_array_equal(value, trees[0][key], err_msg=key)


def test_exact_gelu(fixtures_dir):
    arrays = np.load(fixtures_dir / "retrieval" / "clip_layouts_tiny.npz")
    _, _, config, tree = converted(state(arrays), text_heads=2, activation="gelu")
    image, text, _ = features(config, tree, arrays["image"], arrays["text"])
    close(image, arrays["image_features_exact_gelu"])
    close(text, arrays["text_features_exact_gelu"])


def beside(folder, sizes=None):
    known = {"activation": "", "image_heads": 12, "text_heads": 8, "image_width": 768,
             "form": "vit"}  # fmt: skip
    return layouts._beside(folder / "model.safetensors", {**known, **(sizes or {})})


def test_the_activation_is_read_beside_the_file_and_warned_about_without(tmp_path, caplog):
    found = beside(tmp_path)
    assert found["activation"] == "quick_gelu"
    assert "do not tell the activation" in caplog.text
    caplog.clear()
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"text_config": {"hidden_act": "gelu", "num_attention_heads": 2},
                                  "vision_config": {"hidden_act": "gelu"}}))  # fmt: skip
    found = beside(tmp_path)
    assert (found["activation"], found["text_heads"], found["image_heads"]) == ("gelu", 2, 12)
    own = {"vision_cfg": {"head_width": 80}, "text_cfg": {"heads": 16}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": own}))
    found = beside(tmp_path, {"image_width": 1280})
    assert (found["activation"], found["text_heads"], found["image_heads"]) == ("gelu", 16, 16)
    own["quick_gelu"] = True
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": own}))
    assert beside(tmp_path)["activation"] == "quick_gelu"
    assert not caplog.text
    assert "vocabulary" not in beside(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    assert beside(tmp_path)["vocabulary"] == str(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("text", ["{", '{"vision_cfg": {}}'])
def test_a_broken_config_beside_the_file_is_one_line(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json is no config of a CLIP"):
        beside(tmp_path)


# Sizes of published models: (config of one of ours, its keys, its parameters).
VIT_B32 = {"form": "vit", "image_size": 224, "patch": 32, "image_width": 768, "image_layers": 12,
           "image_heads": 12}  # fmt: skip
RN50 = {"form": "resnet", "image_size": 224, "image_width": 64, "image_layers": (3, 4, 6, 3),
        "image_heads": 32}  # fmt: skip
TEXT = {"activation": "quick_gelu", "ids": 49408, "context": 77, "text_width": 512,
        "text_layers": 12, "text_heads": 8}  # fmt: skip


def count(tree):
    return sum(int(np.prod(a.shape)) for a in flatten(tree).values())


def shapes(sizes):
    return layouts._expected(layouts._config(sizes))


def zeros(tree):
    """Arrays of these shapes that take no memory."""
    return jax.tree.map(lambda a: np.broadcast_to(np.float32(0), a.shape), tree)


def published(layout, sizes):
    tree = zeros(layout.expected(layout.config(sizes)))
    return dict(layout.part(to_torch(tree, layout.rules(sizes))))


def test_parameters_of_published_sizes():
    tree = shapes(VIT_B32 | TEXT | {"embed": 512})
    assert count(tree) == 151_277_313
    assert count(tree["params"]["visual"]) == 87_849_216
    tree = shapes(RN50 | TEXT | {"embed": 1024})
    norms = 55  # each has a count of its batches in the file
    assert count(tree) + norms == 102_060_440
    tower = TextTower(vocabulary=49408, context=77, width=768, layers=12, heads=12)
    tree = jax.eval_shape(tower.init, jax.random.key(0), jnp.zeros((1, 77), jnp.int32))
    assert count(tree) == 123_060_480


@pytest.mark.parametrize(
    ("number", "sizes", "keys"),
    [(0, VIT_B32 | {"embed": 512}, 302), (1, VIT_B32 | {"embed": 512}, 302),
     (2, VIT_B32 | {"embed": 512}, 398), (0, RN50 | {"embed": 1024}, 489 - 55)],
)  # fmt: skip
def test_full_key_lists_of_published_sizes(number, sizes, keys):
    layout = layouts.LAYOUTS[number]
    tensors = published(layout, sizes | TEXT)
    assert len(tensors) == keys
    tensors |= {"input_resolution": np.zeros(()), "context_length": np.zeros(()),
                "vocab_size": np.zeros(())}  # fmt: skip
    if sizes["form"] == "resnet":
        tensors["visual.bn1.num_batches_tracked"] = np.zeros((), np.int64)
    family, found, read = recognise(tensors)
    assert (family, found.name) == ("clip", layout.name)
    assert dict(read) == {**sizes, **TEXT, "activation": read["activation"]}
    missing = next(key for key in tensors if "ln_2.weight" in key or "layer_norm2" in key)
    del tensors[missing]
    joined = layout.join(tensors)
    with pytest.raises(UserError, match=f"1 missing: {missing}"):
        convert(joined, layout.rules(read), layout.expected(layout.config(read)))


def test_parts_of_attention_that_lack_one_are_named():
    tensors = {f"a.self_attn.{x}_proj.bias": np.full(2, i) for i, x in enumerate("qkv")}
    joined = join_hf(tensors)
    np.testing.assert_array_equal(joined["a.self_attn.qkv_proj.bias"], [0, 0, 1, 1, 2, 2])
    back = part_hf(joined)
    assert {k: v.tolist() for k, v in back.items()} == {k: v.tolist() for k, v in tensors.items()}
    del tensors["a.self_attn.k_proj.bias"]
    assert join_hf(tensors).keys() == tensors.keys()


# ----------------------------------------------------------------------------------------- oracle


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_features_equal_those_of_transformers(activation, tmp_path):
    torch = pytorch()
    import transformers

    sizes = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2,
             "num_attention_heads": 2, "hidden_act": activation}  # fmt: skip
    text = {**sizes, "vocab_size": 60, "max_position_embeddings": 12, "eos_token_id": 59}
    image = {**sizes, "image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    theirs = transformers.CLIPModel(
        transformers.CLIPConfig(text_config=text, vision_config=image, projection_dim=24)
    ).eval()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 3, 32, 32)).astype(np.float32)
    tokens = np.concatenate([rng.integers(1, 58, (3, 8)), np.full((3, 4), 59)], axis=1)
    with torch.no_grad():
        out = theirs(input_ids=torch.tensor(tokens), pixel_values=torch.tensor(x))
    tensors = {k: v.numpy() for k, v in theirs.state_dict().items()}
    known = {"text_heads": 2, "image_heads": 2, "activation": activation}
    _, _, config, tree = converted(tensors, **known)
    unit = [f / np.linalg.norm(f, axis=-1, keepdims=True)
            for f in features(config, tree, x, tokens)[:2]]  # fmt: skip
    close(unit[0], out.image_embeds.numpy())
    close(unit[1], out.text_embeds.numpy())


def test_padding_equals_clip4cir_s(fixtures_dir):
    golden = np.load(fixtures_dir / "retrieval" / "clip4cir_pad.npz")
    for about in json.loads(str(golden["info"])):
        name, size = about["transform"], about["dim"]
        ratio = 1.0 if name == "square" else float(name.removeprefix("target"))
        image = padded(golden[f"{about['image']}:image"], ratio)
        assert list(image.shape[1::-1]) == about["padded_wh"]
        wanted = golden[f"{about['image']}:{name}:{size}:uint8"]
        np.testing.assert_array_equal(fit(image, size), wanted)
