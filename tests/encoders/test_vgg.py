"""VGG16 and VGG19: published counts, equal to torch under torchvision's keys, random fallback."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.referees import pytorch

from jaxgen import weights
from jaxgen.encoders import vgg
from jaxgen.errors import UserError
from jaxgen.losses.perceptual import perceptual_loss


def _count(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def _torchvision_layout(arch):
    """torchvision's `vggNN().features`, which is not installed: written out from its table."""
    torch = pytorch()
    table = {
        "vgg16": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
        "vgg19": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
    }
    torch.manual_seed(0)
    layers, channels = [], 3
    for entry in table[arch].split():
        if entry == "M":
            layers.append(torch.nn.MaxPool2d(2, 2))
            continue
        conv = torch.nn.Conv2d(channels, int(entry), 3, padding=1)
        torch.nn.init.kaiming_normal_(conv.weight)
        torch.nn.init.normal_(conv.bias, std=0.1)
        layers += [conv, torch.nn.ReLU()]
        channels = int(entry)
    return torch.nn.Sequential(*layers)


def _state_dict(net):
    state = {f"features.{key}": value.numpy() for key, value in net.state_dict().items()}
    return state | {"classifier.0.weight": np.zeros((4, 4), np.float32)}


@pytest.fixture(scope="module")
def image():
    # Odd sides: pooling must drop the last row and column as torch does.
    return np.random.default_rng(0).uniform(-1, 1, (2, 37, 50, 3)).astype(np.float32)


def test_published_counts():
    assert _count(vgg.expected_params("vgg19")) == 20_024_384
    assert _count(vgg.expected_params("vgg16")) == 14_714_688
    names = vgg.layer_names("vgg19")
    assert (len(names), names[0], names[-1]) == (16, "conv1_1", "conv5_4")
    assert len(vgg.layer_names("vgg16")) == 13


def test_torchvision_indices():
    where = {rule.target: rule.source for rule in vgg.torch_rules("vgg19")}
    assert where["conv5_4/kernel"] == "features.34.weight"
    assert where["conv2_2/bias"] == "features.7.bias"
    where = {rule.target: rule.source for rule in vgg.torch_rules("vgg16")}
    assert where["conv5_3/kernel"] == "features.28.weight"


@pytest.mark.parametrize("arch", ["vgg19", "vgg16"])
def test_every_layer_equals_torch(arch, image):
    torch = pytorch()
    net = _torchvision_layout(arch)
    params = vgg.from_torch(_state_dict(net))
    names = vgg.layer_names(arch)
    x = vgg.prepare(jnp.asarray(image))
    before = jax.jit(lambda p, x: vgg.features(p, x, names))(params, x)
    after = jax.jit(lambda p, x: vgg.features(p, x, names, before_activation=False))(params, x)
    y = torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)
    convs = relus = 0
    with torch.no_grad():
        for layer in net:
            y = layer(y)
            expected = y.permute(0, 2, 3, 1).numpy()
            if isinstance(layer, torch.nn.Conv2d):
                ours = before[names[convs]]
                convs += 1
            elif isinstance(layer, torch.nn.ReLU):
                ours = after[names[relus]]
                relus += 1
            else:
                continue
            assert ours.shape == expected.shape
            assert np.max(np.abs(ours - expected)) <= 1e-5 * np.max(np.abs(expected))
    assert convs == relus == len(names)


def test_input_conventions(image):
    x = jnp.asarray(image)
    unit = (image.astype(np.float64) + 1) / 2
    np.testing.assert_array_equal(vgg.prepare(x, "raw"), image)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    np.testing.assert_allclose(vgg.prepare(x, "imagenet"), (unit - mean) / std, atol=1e-5)
    # Keras' preprocess_input (mode "caffe"), on 0..255: BGR order, BGR means.
    bgr = 255 * unit[..., ::-1] - [103.939, 116.779, 123.68]
    np.testing.assert_allclose(vgg.prepare(x, "caffe"), bgr, atol=1e-3)
    assert vgg.prepare(x.astype(jnp.bfloat16), "caffe").dtype == jnp.float32
    with pytest.raises(UserError, match=r"'tf'.*imagenet, caffe or raw"):
        vgg.prepare(x, "tf")


def test_only_the_needed_depth_is_computed_and_kept(image):
    x = vgg.prepare(jnp.asarray(image))
    full = vgg.init_params(0, width=0.125)
    cut = vgg.load_perceptual("random", ["conv1_2", "conv2_2"], width=0.125)
    assert list(cut) == ["conv1_1", "conv1_2", "conv2_1", "conv2_2"]
    jax.tree.map(np.testing.assert_array_equal, cut, {name: full[name] for name in cut})
    ours = vgg.features(cut, x, ["conv2_2", "conv1_2"])
    assert list(ours) == ["conv2_2", "conv1_2"]
    deep = vgg.features(full, x, vgg.layer_names())
    # Behind nothing but rounding: the deeper layers change no shallow one.
    np.testing.assert_allclose(ours["conv2_2"], deep["conv2_2"], rtol=1e-6, atol=1e-6)
    text = jax.jit(lambda p, x: vgg.features(p, x, ["conv2_2"])).lower(full, x).as_text()
    assert text.count("stablehlo.convolution") == 4


def test_random_network_is_he_normal_and_repeatable():
    a, b = vgg.init_params(3, width=0.5), vgg.init_params(3, width=0.5)
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert not np.array_equal(a["conv1_1"]["kernel"], vgg.init_params(4)["conv1_1"]["kernel"])
    kernel = a["conv5_4"]["kernel"]
    assert kernel.shape == (3, 3, 256, 256)
    assert kernel.dtype == np.float32
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / (9 * 256)), rtol=0.01)
    # He's variance keeps the activations' size through all sixteen layers.
    x = jax.random.normal(jax.random.key(0), (1, 64, 64, 3))
    sizes = [jnp.sqrt(jnp.mean(f**2)) for f in vgg.features(a, x, vgg.layer_names()).values()]
    assert max(sizes) / min(sizes) < 5


def test_random_features_alone_restore_a_picture():
    """What a perceptual loss is for: following its gradient brings the lost texture back."""
    rng = np.random.default_rng(0)
    sharp = jnp.asarray(rng.uniform(-0.5, 0.5, (1, 24, 24, 3)), jnp.float32)
    params = vgg.load_perceptual("random", ["conv1_2", "conv2_2"], width=0.25)
    layers = {"conv1_2": 1.0, "conv2_2": 1.0}

    def loss(x):
        return perceptual_loss(
            lambda im: vgg.features(params, vgg.prepare(im), layers), x, sharp, layers
        )

    assert loss(sharp) == 0
    optimizer = optax.adam(0.05)

    @jax.jit
    def step(x, state):
        updates, state = optimizer.update(jax.grad(loss)(x), state)
        return x + updates, state

    x = jnp.zeros_like(sharp)
    state, start = optimizer.init(x), np.mean(np.square(sharp))
    for _ in range(60):
        x, state = step(x, state)
    assert np.mean(np.square(x - sharp)) < 0.1 * start


def test_bfloat16_computes_in_bfloat16(image):
    params = vgg.load_perceptual("random", ["conv3_1"], width=0.25)
    x = vgg.prepare(jnp.asarray(image))
    half = vgg.features(params, x, ["conv3_1"], dtype=jnp.bfloat16)["conv3_1"]
    whole = vgg.features(params, x, ["conv3_1"])["conv3_1"]
    assert half.dtype == jnp.bfloat16
    scale = float(jnp.max(jnp.abs(whole)))
    assert 0 < float(jnp.max(jnp.abs(half.astype(jnp.float32) - whole))) < 0.05 * scale


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_load_perceptual_from_torchvisions_file(suffix, tmp_path, image):
    rng = np.random.default_rng(0)
    state = {"classifier.6.bias": np.zeros(1000, np.float32)}
    for rule in vgg.torch_rules("vgg19")[:-1]:
        path = weights.flatten(vgg.expected_params())[rule.target].shape
        shape = (path[3], path[2], 3, 3) if len(path) == 4 else path
        state[rule.source] = rng.standard_normal(shape, dtype=np.float32)
    path = tmp_path / f"vgg19{suffix}"
    if suffix == ".pth":
        torch = pytorch()
        torch.save({key: torch.tensor(value) for key, value in state.items()}, path)
    else:
        weights.write_safetensors(path, state)
    params = vgg.load_perceptual(f"file:{path}", {"conv2_1": 1.0, "conv1_1": 0.5})
    assert list(params) == ["conv1_1", "conv1_2", "conv2_1"]
    np.testing.assert_array_equal(
        params["conv2_1"]["kernel"], state["features.5.weight"].transpose(2, 3, 1, 0)
    )
    assert vgg.features(params, jnp.asarray(image), ["conv2_1"])["conv2_1"].shape == (
        2,
        18,
        25,
        128,
    )


def test_files_that_are_no_vgg_are_explained(tmp_path):
    weights.write_safetensors(tmp_path / "w.safetensors", {"conv.weight": np.zeros(3)})
    with pytest.raises(UserError, match=r"32 missing: features.0.bias.*1 extra: conv.weight"):
        vgg.load_perceptual(f"file:{tmp_path}/w.safetensors", ["conv1_1"])


def test_none_and_mistakes(tmp_path):
    assert vgg.load_perceptual("none", []) == {}
    with pytest.raises(UserError) as error:
        vgg.load_perceptual(f"file:{tmp_path}/vgg19.pth", ["conv5_4"])
    for part in ("vgg19.pth", "vgg19-dcbb9e9d.pth", "IMAGENET1K_V1", '"random"', '"none"'):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r'"file:PATH", "random" or "none", not \'vgg19.pth\''):
        vgg.load_perceptual("vgg19.pth", ["conv5_4"])
    with pytest.raises(UserError, match=r"no VGG layer conv5_5; choose from conv1_1.*conv5_4"):
        vgg.load_perceptual("random", ["conv5_5"])
    with pytest.raises(UserError, match="needs a layer"):
        vgg.load_perceptual("random", [])


def test_too_small_images_and_absent_layers_are_explained():
    params = vgg.init_params(width=1 / 64)
    assert vgg.features(params, jnp.zeros((1, 16, 16, 3)), ["conv5_4"])["conv5_4"].shape[1] == 1
    with pytest.raises(UserError, match=r"conv5_1 of VGG.*at least 16 pixels"):
        vgg.features(params, jnp.zeros((1, 15, 64, 3)), ["conv5_4"])
    shallow = vgg.init_params(width=1 / 64, deepest="conv1_2")
    with pytest.raises(UserError, match="no VGG layer conv2_1; there are conv1_1, conv1_2"):
        vgg.features(shallow, jnp.zeros((1, 16, 16, 3)), ["conv2_1"])


@pytest.mark.parametrize("arch", ["vgg19", "vgg16"])
def test_file_of_ours(arch, tmp_path):
    params = vgg.init_params(2, arch, width=1 / 16)
    weights.write_safetensors(tmp_path / "own.safetensors", {arch: params})
    loaded = vgg.load_perceptual(f"file:{tmp_path}/own.safetensors", ["conv3_1"])
    assert list(loaded)[-1] == "conv3_1"
    jax.tree.map(np.testing.assert_array_equal, loaded, {name: params[name] for name in loaded})
    del params["conv2_2"]
    weights.write_safetensors(tmp_path / "cut.safetensors", {arch: params})
    with pytest.raises(UserError, match=r"2 missing: conv2_2/bias"):
        vgg.load_perceptual(f"file:{tmp_path}/cut.safetensors", ["conv1_1"])
