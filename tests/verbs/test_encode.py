"""Codes of pictures of any size: tiled equals whole, files of codes, the commands, bad input."""

import json
import shutil

import jax
import numpy as np
import pytest
from helpers import REPOSITORY, noise
from PIL import Image

from jaxgen import config as configs
from jaxgen.errors import UserError
from jaxgen.models.vqgan import verbs
from jaxgen.models.vqgan.task import make_autoencoder
from jaxgen.runs.model import Model
from jaxgen.verbs.encode import files, tiling
from jaxgen.verbs.encode.use import Coder


def opened(seed=0, **changes):
    """A model of random weights: two levels, factor 4."""
    config = configs.load(f"{REPOSITORY}/configs/vqgan.py:tiny")
    with config.unlocked():
        config.model.autoencoder.update({"widths": (1, 1, 2), **changes})
    picture = jax.ShapeDtypeStruct((1, 16, 16, 3), "float32")
    net = make_autoencoder(config)
    rngs = {"params": jax.random.key(0), "quantize": jax.random.key(0)}
    shapes = jax.eval_shape(net.init, rngs, picture)
    rng = np.random.default_rng(seed)
    nets = jax.tree.map(lambda s: rng.normal(0, 0.3, s.shape).astype(np.float32), shapes)
    return Model(f"model{seed}", config, {"g": nets}, step=0)


@pytest.fixture(scope="module")
def whole():
    return opened()


@pytest.fixture(scope="module", params=[1, 2], ids=["pixels", "patches"])
def local(request):
    """Without attention and normalisation; of 2 x 2 pixels as one place, with a level less."""
    patch = request.param
    widths = (1, 1, 2)[patch - 1 :]
    return opened(groups=0, middle_attention=False, widths=widths, patch=patch)


def test_any_size_there_and_back(whole):
    for height, width in ((16, 16), (17, 30), (3, 1)):
        image = noise(height, width)
        codes = whole.encode(image)
        assert codes.dtype == np.int32
        assert codes.shape == (-(-height // 4), -(-width // 4))
        assert whole.encode.decode(codes, (height, width)).shape == image.shape
        assert whole.encode.reconstruct(image).shape == image.shape
    gray = noise(16, 20)[..., 0]
    assert whole.encode.reconstruct(gray).shape == gray.shape


def test_codes_are_decoded_as_their_vectors_are_painted(whole):
    verb, nets = verbs(whole.config)["encode"], whole.nets
    vectors = verb.vectors(nets)
    assert vectors.shape[0] == verb.codes
    codes = np.random.default_rng(0).integers(verb.codes, size=(2, 3, 4))
    np.testing.assert_array_equal(verb.paint(nets, vectors[codes]), verb.decode(nets, codes))


def test_tiled_equals_whole(local):
    image = noise(200, 180)
    codes = local.encode(image, tile=10_000)
    assert len(np.unique(codes)) > 3
    np.testing.assert_array_equal(local.encode(image, tile=12), codes)
    latents = np.random.default_rng(0).integers(0, local.encode.codes, (50, 45))
    y = tiling.decode(local.verbs["encode"], local.nets, latents.astype(np.int32), 10_000)
    tiled = tiling.decode(local.verbs["encode"], local.nets, latents.astype(np.int32), 12)
    np.testing.assert_allclose(tiled, y, atol=1e-5 * np.abs(y).max())


def test_the_radius_is_not_larger_than_needed(local):
    """A pixel that lies just within it still counts, and none beyond."""
    verb = local.verbs["encode"]
    into, out_of = verb.radius
    patched = local.config.model.autoencoder.get("patch", 1) > 1
    assert (into, out_of) == ((39, 51) if patched else (41, 55))
    cells, middle = 64, 32
    latents = np.zeros((1, cells, cells), np.int32)
    other = latents.copy()
    other[0, middle, middle] = 7
    a, b = (np.asarray(verb.decode_program(local.nets, z)) for z in (latents, other))
    changed = np.flatnonzero(np.abs(a - b).max(axis=(0, 2, 3)) > 0)
    least, most = middle * 4 - changed.min(), changed.max() - (middle * 4 + 3)
    assert max(least, most) <= out_of
    assert max(least, most) >= out_of - 8


def test_attention_forbids_tiling(whole):
    with pytest.raises(UserError, match="looks at the whole picture at once"):
        whole.encode(noise(64, 64), tile=16)
    whole.encode(noise(16, 16), tile=16)  # all of it


def test_a_picture_beyond_memory_is_refused_before_it_is_tried(whole, monkeypatch):
    monkeypatch.setattr("jaxgen.devices._available", lambda: 1e6)
    with pytest.raises(UserError, match=r"one of 400x400 pixels needs .* take a smaller picture"):
        tiling.encode(whole.verbs["encode"], whole.nets, np.zeros((400, 400, 3), np.float32))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((4, 4, 3)), "takes uint8 .* not float64"),
        (np.zeros((4, 4, 4), np.uint8), r"not uint8 \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"not uint8 \(0, 4, 3\)"),
    ],
)
def test_what_is_no_picture(whole, image, said):
    with pytest.raises(UserError, match=said):
        whole.encode(image)


@pytest.mark.parametrize(
    ("codes", "size", "said"),
    [
        (np.full((2, 2), 16), None, "codes from 16 to 16: model0 has 0 to 15"),
        (np.full((2, 2), -1), None, "codes from -1 to -1"),
        (np.zeros((2, 2)), None, "takes whole codes"),
        (np.zeros((2, 2, 1), int), None, "takes whole codes"),
        (np.zeros((2, 2), int), (9, 8), "of up to 8x8 pixels, not one of 8x9"),
        (np.zeros((2, 2), int), (4, 8), "of up to 8x8 pixels, not one of 8x4"),
    ],
)
def test_what_are_no_codes(whole, codes, size, said):
    with pytest.raises(UserError, match=said):
        whole.encode.decode(codes, size)


def test_other_kinds_of_pictures():
    config = configs.load(f"{REPOSITORY}/configs/vqgan.py:tiny")
    config.data.source, config.model.channels = "segmentation", 5
    verb = verbs(config)["encode"]
    assert (verb.kind, verb.channels) == ("segmentation", 5)
    coder = Coder(verb, {}, "m")
    with pytest.raises(UserError, match="class 5: this model knows 0 to 4"):
        coder(np.full((4, 4), 5, np.uint8))
    with pytest.raises(UserError, match=r"takes uint8 \(h, w\), a class for each pixel"):
        coder(noise(4, 4))


def test_a_file_of_codes(whole, tmp_path):
    codes = whole.encode(noise(10, 13))
    files.write_codes(tmp_path / "a.npz", whole.encode, codes, (10, 13))
    found = files.read_codes(tmp_path / "a.npz", whole.encode)
    np.testing.assert_array_equal(found.codes, codes)
    assert (found.codes.dtype, found.size) == (np.uint8, (10, 13))
    other = opened(seed=1)
    assert other.encode.fingerprint != whole.encode.fingerprint
    with pytest.raises(
        UserError, match=r"encoded by model0 \(\w{12}\), and model1 .* other weights"
    ):
        files.read_codes(tmp_path / "a.npz", other.encode)
    (tmp_path / "b.npz").write_bytes(b"nothing")
    np.savez(tmp_path / "c.npz", codes=codes)
    np.savez(tmp_path / "d.npz", codes=codes, about=np.array(json.dumps({"model": 1})))
    about = {"model": "m", "fingerprint": "f" * 64}
    for name, size in (("f", [float("inf"), 1]), ("g", [1]), ("h", {})):
        text = json.dumps({**about, "size": size})
        np.savez(tmp_path / f"{name}.npz", codes=codes, about=np.array(text))
    np.savez(tmp_path / "i.npz", codes=codes, about=np.array(5000 * '{"a":'))
    held = bytearray((tmp_path / "a.npz").read_bytes())
    held[66:74] = b"\xff" * 8  # within the first array's packed bytes
    (tmp_path / "j.npz").write_bytes(held)
    for name in "bcdfghij":
        with pytest.raises(UserError, match=f"{name}.npz is no file of codes"):
            files.read_codes(tmp_path / f"{name}.npz")
    with pytest.raises(UserError, match="no such file"):
        files.read_codes(tmp_path / "e.npz")
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\)"):
        files.read_codes(tmp_path)


def test_the_commands(whole, jaxgen_command, tmp_path):
    whole.export(tmp_path / "mine")
    (tmp_path / "in").mkdir()
    Image.fromarray(noise(18, 21)).save(tmp_path / "in" / "a.png")
    Image.fromarray(noise(16, 16)[..., 0]).save(tmp_path / "in" / "b.png")
    image = np.asarray(Image.open(tmp_path / "in" / "a.png"))

    code, out, err = jaxgen_command("reconstruct", "in", "-o", "again", "--model", "mine")
    assert (code, err) == (0, "")
    assert "21x18 (mirrored to 24x20)  6x5 codes  0.3175 bits per pixel  PSNR" in out
    assert "16x16  4x4 codes  0.25 bits per pixel" in out
    again = np.asarray(Image.open(tmp_path / "again" / "a.png"))
    np.testing.assert_array_equal(again, whole.encode.reconstruct(image))

    code, out, err = jaxgen_command("encode", "in/a.png", "-o", "a.npz", "--model", "mine")
    assert (code, err) == (0, "")
    assert "0.3175 bits per pixel" in out
    shutil.copy(tmp_path / "in" / "a.png", tmp_path / "b.png")
    code, _, err = jaxgen_command("encode", "b.png", "-o", "b.npz", "--model", "mine")
    assert (code, err) == (0, ""), "codes beside the picture, under its name"
    code, out, err = jaxgen_command("decode", "a.npz", "-o", "c.png", "--model", "mine")
    assert (code, err) == (0, "")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "c.png")), again)

    opened(seed=1).export(tmp_path / "other")
    code, _, err = jaxgen_command("decode", "a.npz", "-o", "d.png", "--model", "other")
    assert code == 2
    assert err.count("\n") == 1
    assert "was encoded by mine" in err
    code, _, err = jaxgen_command("decode", "a.npz", "-o", "c.png", "--model", "mine")
    assert (code, err) == (2, "error: c.png exists; give --overwrite to replace it\n")
    code, _, err = jaxgen_command("encode", "in/a.png", "-o", "a.txt", "--model", "mine")
    assert (code, err) == (2, "error: a.txt: cannot write .txt; use .npz, or a folder\n")
    code, _, err = jaxgen_command("encode", "in/a.png", "-o", "x.npz", "--model", "srgan_x4")
    assert code == 2
    assert "does not encode" in err


def test_a_broken_picture_leaves_the_others(whole, jaxgen_command, tmp_path):
    whole.export(tmp_path / "mine")
    (tmp_path / "in").mkdir()
    Image.fromarray(noise(16, 16)).save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_bytes(b"no picture")
    code, out, err = jaxgen_command("encode", "in", "-o", "out", "--model", "mine")
    assert code == 1
    assert "a.npz" in out
    assert "b.png" in err
    assert (tmp_path / "out" / "a.npz").exists()
