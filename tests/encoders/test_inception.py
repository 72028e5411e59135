"""The FID's Inception: equal to torch-fidelity's and pytorch-fid's, its input, its weight files.

tests/golden/inception_fid.npz holds what the two programs (torch-fidelity 0.4.0, pytorch-fid 0.3.0)
gave on `picture()` with the weights of `inception.init_variables(0)`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REPOSITORY
from support.referees import pytorch, torchvision_or_none

from jaxgen import weights
from jaxgen.encoders import convert, inception
from jaxgen.encoders.inception_layout import conv_names, torch_rules
from jaxgen.errors import UserError

GOLDEN = REPOSITORY / "tests" / "golden" / "inception_fid.npz"
NARROW = 1 / 16


def picture():
    """A smooth colour picture, uint8 (1, 96, 80, 3), by arithmetic alone."""
    y, x = np.mgrid[0:96, 0:80] / 16.0
    waves = [np.sin(y + 0.7 * x) + np.cos(1.3 * x - 0.4 * y + c) for c in range(3)]
    return np.round(127.5 + 60 * np.stack(waves, axis=-1)).astype(np.uint8)[None]


@pytest.fixture(scope="module")
def variables():
    return inception.init_variables(0)


@pytest.fixture(scope="module")
def compute():
    """One program for all full-size checks."""
    return jax.jit(lambda v, x: inception.features(v, x, inception.FEATURES))


def near(ours, theirs, tolerance=1e-5):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


def test_published_counts_and_names():
    expected = inception.expected_params()
    leaves = jax.tree.leaves(expected)
    batches = 94  # num_batches_tracked, one number each
    assert sum(int(np.prod(leaf.shape)) for leaf in leaves) + batches == 23_885_486
    assert len(leaves) + batches == 566
    assert len(conv_names()) == 94
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.int8), expected)
    state = weights.to_torch(zeros, torch_rules())
    assert state["Conv2d_1a_3x3.conv.weight"].shape == (32, 3, 3, 3)
    assert state["Mixed_6d.branch7x7dbl_2.conv.weight"].shape == (160, 160, 7, 1)
    assert state["Mixed_7c.branch3x3dbl_3a.bn.running_var"].shape == (384,)
    assert state["fc.weight"].shape == (1008, 2048)


def test_equals_the_two_programs(variables, compute):
    golden = np.load(GOLDEN)
    kernel = np.asarray(variables["params"]["mixed_7c"]["branch_pool"]["kernel"])
    drawn = float(np.abs(kernel).sum(dtype=np.float64))
    assert drawn == pytest.approx(float(golden["drawn"]), rel=1e-6), "NumPy draws other numbers"
    for program, resize in (("torch_fidelity", "tf1"), ("pytorch_fid", "torch")):
        ours = compute(variables, inception.prepare(picture(), resize))
        names = [key for key in golden.files if key.startswith(program)]
        assert names
        for key in names:
            near(ours[key.rpartition("/")[2]], golden[key])


def test_equals_torch_fidelity_here(variables, compute, tmp_path):
    """Where it is installed, on other pictures than the golden arrays'."""
    torch = pytorch()
    with torchvision_or_none():  # the referee's other networks want it
        pytest.importorskip("torch_fidelity", reason="the referee, not a dependency")
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = tmp_path / "inception.pth"
    weights.write_tensors(path, with_batches(variables))
    net = FeatureExtractorInceptionV3(
        "inception", list(inception.FEATURES), feature_extractor_weights_path=str(path)
    )
    pictures = np.random.default_rng(1).integers(0, 256, (1, 40, 64, 3), dtype=np.uint8)
    with torch.inference_mode():
        theirs = net(torch.tensor(pictures).permute(0, 3, 1, 2).contiguous())
    ours = compute(variables, inception.prepare(pictures))
    for name, y in zip(inception.FEATURES, theirs, strict=True):
        near(ours[name], y.numpy())


def with_batches(variables):
    """The published file's 566 tensors."""
    state = weights.to_torch(variables, torch_rules())
    zero = np.asarray(0)
    names = [key.replace("running_var", "num_batches_tracked") for key in state if "_var" in key]
    return state | dict.fromkeys(names, zero)


def test_tf1_resizing_samples_without_half_pixels():
    """By hand: a row of 2 pixels becomes 299; pixel i samples 2 i / 299, the last ones the end."""
    row = np.array([0, 100], np.uint8).reshape(1, 1, 2, 1).repeat(3, axis=3)
    out = inception.prepare(row, "tf1")[0, 0, :, 0] * 128 + 128
    at = np.minimum(np.arange(299) * 2 / 299, 1)
    np.testing.assert_allclose(out, 100 * at, atol=1e-4)


def test_torch_resizing_equals_torch():
    torch = pytorch()
    for shape in ((1, 40, 64, 3), (1, 350, 299, 3)):
        pictures = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        x = torch.tensor(pictures).permute(0, 3, 1, 2).float() / 255
        x = torch.nn.functional.interpolate(x, (299, 299), mode="bilinear", align_corners=False)
        theirs = (2 * x - 1).permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(inception.prepare(pictures, "torch"), theirs, atol=2e-5)


def test_clean_resizing_averages_and_does_not_round():
    # One white pixel of four in checks: shrunk, an antialiased filter gives the gray between.
    board = np.zeros((1, 598, 598, 3), np.uint8)
    board[:, ::2, ::2] = 255
    inside = np.s_[:, 5:-5, 5:-5]
    clean = inception.prepare(board, "clean")[inside] * 128 + 128
    assert np.abs(clean - 63.75).max() < 1.0
    # The other two pick pixels: all white, or means of what is next to each other.
    assert (inception.prepare(board, "tf1")[inside] * 128 + 128).max() == 255
    ramp = np.linspace(10, 200, 500).astype(np.uint8).reshape(1, 1, 500, 1)
    ramp = np.broadcast_to(ramp, (1, 40, 500, 3)).copy()
    levels = inception.prepare(ramp, "clean") * 128 + 128
    assert len(np.unique(np.round(levels, 3))) > 256
    whole = inception.prepare(np.full((1, 7, 9, 3), 255, np.uint8), "clean")
    np.testing.assert_allclose(whole, 127 / 128, atol=1e-6)


def test_input_on_the_device_and_its_mistakes():
    pictures = picture()
    for resize in ("tf1", "torch"):
        there = inception.prepare(jnp.asarray(pictures), resize)
        assert isinstance(there, jax.Array)
        np.testing.assert_allclose(there, inception.prepare(pictures, resize), atol=1e-6)
    same = np.random.default_rng(0).integers(0, 256, (1, 299, 299, 3), dtype=np.uint8)
    for resize in inception.RESIZES:
        levels = 127.5 if resize == "torch" else 128
        np.testing.assert_allclose(
            inception.prepare(same, resize) * levels + levels, same, atol=1e-4
        )
    with pytest.raises(UserError, match="must be uint8"):
        inception.prepare(pictures.astype(np.float32))
    with pytest.raises(UserError, match="no such resize 'bicubic'"):
        inception.prepare(pictures, "bicubic")
    with pytest.raises(UserError, match="no Inception features '512'"):
        inception.features({"params": {}}, jnp.zeros((1, 75, 75, 3)), ("512",))


def test_files_of_the_published_kind_and_of_ours(tmp_path):
    narrow = inception.init_variables(3, NARROW)
    state = with_batches(narrow)
    path = tmp_path / "published.safetensors"
    weights.write_tensors(path, state)
    jax.tree.map(np.testing.assert_array_equal, inception.load(path), narrow)
    kind, own = convert.to_own(state)
    assert "Inception-v3" in kind.name
    weights.write_safetensors(tmp_path / "own.safetensors", own)
    again = inception.load(tmp_path / "own.safetensors")
    jax.tree.map(np.testing.assert_array_equal, again, narrow)
    _, back = convert.to_published(weights.read_tensors(tmp_path / "own.safetensors"))
    assert {key: v.tobytes() for key, v in back.items()} == {
        key: np.ascontiguousarray(v).tobytes() for key, v in state.items() if "num_" not in key
    }
    for change, message in (
        (lambda s: s.pop("Mixed_5b.branch1x1.bn.bias"), "1 missing: Mixed_5b.branch1x1.bn.bias"),
        (lambda s: s.pop("Conv2d_1a_3x3.conv.weight"), "is not the FID's Inception"),
    ):
        broken = dict(state)
        change(broken)
        weights.write_tensors(tmp_path / "broken.safetensors", broken)
        with pytest.raises(UserError, match=message):
            inception.load(tmp_path / "broken.safetensors")
    with pytest.raises(UserError, match=r"no Inception weights at .*pt_inception-2015-12-05"):
        inception.load(tmp_path / "absent.pth")


def test_the_published_file_is_of_torchs_old_kind_with_turned_strides(tmp_path):
    """Not a zip, and kernels stored as TensorFlow's: height, width, in, out."""
    torch = pytorch()
    narrow = inception.init_variables(3, NARROW)
    state = {key: torch.tensor(np.ascontiguousarray(v)) for key, v in with_batches(narrow).items()}
    for key, tensor in state.items():
        if tensor.ndim == 4:
            state[key] = tensor.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)
    assert state["Conv2d_2b_3x3.conv.weight"].stride()[0] == 1
    path = tmp_path / "pt_inception-2015-12-05-6726825d.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert path.read_bytes()[:2] != b"PK"
    jax.tree.map(np.testing.assert_array_equal, inception.load(path), narrow)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"cannot read weights|damaged"):
        inception.load(path)
