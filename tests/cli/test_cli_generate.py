"""`jaxgen generate`: what it writes, what it says, and its exit codes."""

import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.fake_family import SIZE, daubs, daubs_family
from support.tiny_model import ROOT, tiny_model

from jaxgen import grid
from jaxgen.data.picture_files import list_images
from jaxgen.verbs.generate import files as generate_files
from jaxgen.weights import places

__all__ = ["daubs_family"]
pytestmark = pytest.mark.usefixtures("daubs_family")


@pytest.fixture(scope="module")
def model():
    return daubs()


@pytest.fixture(scope="module")
def enlarger(tmp_path_factory):
    """An exported super-resolution model."""
    return tiny_model().export(tmp_path_factory.mktemp("models") / "sr")


@pytest.fixture
def call(jaxgen_command, model, tmp_path):
    model.export(tmp_path / "daubs")
    daubs(masks=True).export(tmp_path / "masked")

    def generate(*args, model="daubs"):
        return jaxgen_command("generate", *args, "--model", model)

    return generate


def read(path):
    return np.asarray(Image.open(path).convert("RGB"))


def test_a_sheet_of_all_pictures(call, model, tmp_path):
    code, out, err = call("a red circle", "a blue square", "-n", 3, "--seed", 1, "-o", "o.png")
    assert (code, err) == (0, "")
    assert out.startswith("o.png  6 pictures")
    sheet = read(tmp_path / "o.png")
    # Every picture is in it, enlarged eight times.
    for picture in model.generate(["a red circle", "a blue square"], 3, seed=1).reshape(
        -1, 16, 16, 3
    ):
        large = grid.enlarge(picture)
        assert large.shape == (128, 128, 3)
        corners = np.argwhere((sheet == large[0, 0]).all(axis=-1))
        assert any(np.array_equal(sheet[y : y + 128, x : x + 128], large) for y, x in corners), (
            "a picture is not in the sheet"
        )
    code, _, err = call("a red circle", "-o", "o.png")
    assert (code, err) == (2, "error: o.png exists; give --overwrite to replace it\n")
    assert call("a red circle", "-o", "o.png", "--overwrite")[0] == 0
    assert read(tmp_path / "o.png").shape[0] < sheet.shape[0]


def test_without_a_place_to_write_to(call, tmp_path):
    """A new sheet in the current folder; what is there stays."""
    for name in ("a_red_circle_seed1.png", "a_red_circle_seed1_2.png", "a_red_circle_seed1_3.png"):
        code, out, err = call("a red circle", "-n", 2, "--seed", 1)
        assert (code, err) == (0, "")
        assert out.startswith(f"{name}  2 pictures")
    assert len({(tmp_path / f"a_red_circle_seed1{n}.png").read_bytes() for n in ("", "_2")}) == 1
    call("a red circle", "a blue square", "a square", "-n", 1)
    call("a red circle", "a blue square", "--interpolate", 3)
    made = {p.name for p in tmp_path.glob("*.png")}
    assert {"a_red_circle_and_2_more_seed0.png", "a_red_circle_to_a_blue_square_seed0.png"} < made


def test_a_folder_of_pictures(call, model, tmp_path):
    code, out, _ = call("a red circle", "a blue square", "-n", 2, "--seed", 7, "-o", "out")
    assert code == 0
    assert out.startswith("out/grid.png\nout  4 pictures")
    names = [f"{text}_seed7_{k}.png" for text in ("a_blue_square", "a_red_circle") for k in (0, 1)]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [*names, "grid.png"]
    assert sorted(p.name for p in list_images(tmp_path / "out")) == names  # what eval counts
    expected = model.generate("a red circle", 2, seed=7)
    np.testing.assert_array_equal(read(tmp_path / "out" / names[3]), expected[1])

    # The same again does what is missing, and no more.
    (tmp_path / "out" / names[1]).unlink()
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "out" / names[0])
    code, out, _ = call("a red circle", "a blue square", "-n", 2, "--seed", 7, "-o", "out")
    assert "out  1 pictures" in out
    assert "3 of 4 were there already" in out
    assert read(tmp_path / "out" / names[0]).max() == 0
    again = model.generate("a blue square", 2, seed=7)
    np.testing.assert_array_equal(read(tmp_path / "out" / names[1]), again[1])
    call("a red circle", "a blue square", "-n", 2, "--seed", 7, "-o", "out", "--overwrite")
    np.testing.assert_array_equal(read(tmp_path / "out" / names[0]), again[0])


def test_prompts_from_a_file(call, tmp_path):
    (tmp_path / "p.txt").write_text("a red circle\n\n  a blue square \na red circle\n", "utf-8-sig")
    code, out, _ = call("--prompts", "p.txt", "a square", "-n", 1, "-o", "out")
    assert code == 0
    assert "3 pictures" in out  # the same prompt twice is one
    for text in ("a_square", "a_red_circle", "a_blue_square"):
        assert (tmp_path / "out" / f"{text}_seed0_0.png").exists()


def test_one_picture_again(call, model, tmp_path):
    assert call("a red circle", "-n", 1, "--first", 3, "--seed", 1, "-o", "out")[0] == 0
    found = read(tmp_path / "out" / "a_red_circle_seed1_3.png")
    np.testing.assert_array_equal(found, model.generate("a red circle", 4, seed=1)[3])


def test_masks_beside_the_pictures(call, tmp_path):
    code, _, err = call("a red circle", "-n", 2, "-o", "out", "--show-masks", model="masked")
    assert (code, err) == (0, "")
    wide = read(tmp_path / "out" / "a_red_circle_seed0_1_masks.png")
    assert wide.shape == (128, 3 * 128 + 2 * generate_files.GAP, 3)
    picture = read(tmp_path / "out" / "a_red_circle_seed0_1.png")
    np.testing.assert_array_equal(wide[:, :128], grid.enlarge(picture))
    sheets = [tmp_path / "wide.png", tmp_path / "plain.png"]
    call("a red circle", "-n", 2, "-o", sheets[0], "--show-masks", model="masked")
    call("a red circle", "-n", 2, "-o", sheets[1], model="masked")
    assert read(sheets[0]).shape[1] > 2 * read(sheets[1]).shape[1]
    code, _, err = call("a red circle", "-o", "no.png", "--show-masks")
    assert code == 2
    assert "has no masks to show" in err


def test_strips_between_texts_and_between_noises(call, model, tmp_path):
    code, _, _ = call("a red circle", "a blue square", "--interpolate", 4, "--seed", 1, "-o", "out")
    assert code == 0
    names = [f"a_red_circle_to_a_blue_square_seed1_0_{i:03d}.png" for i in range(4)]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [*names, "grid.png"]
    way = model.generate.between("a red circle", "a blue square", 4, seed=1)
    for name, picture in zip(names, way, strict=True):
        np.testing.assert_array_equal(read(tmp_path / "out" / name), picture)
    code, out, _ = call("a red circle", "--interpolate", 3, "-n", 2, "-o", "noise.png")
    assert code == 0
    assert out.startswith("noise.png  6 pictures")


def test_unknown_words_are_a_warning(call):
    code, _, err = call("a rad circle", "-o", "o.png")
    assert code == 0
    assert err == "warning: the model does not know rad (nearest: red)\n"
    _, _, err = call(*(f"a red thing{i}" for i in range(8)), "-n", 1, "-o", "out")
    assert err.count("\n") == 6
    assert "'a red thing0': the model does not know thing0" in err
    assert "and so in 3 more prompts" in err


def test_mistakes_are_one_line(call, tmp_path):
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "file").write_text("x")
    for args, message in (
        (["-o", "o.png"], "say what to draw"),
        (["--prompts", "nowhere.txt", "-o", "o.png"], "nowhere.txt: cannot be read"),
        (["--prompts", "empty.txt", "-o", "o.png"], "holds no text"),
        (["--prompts", "bytes.txt", "-o", "o.png"], "line 1: not UTF-8"),
        (["a", "-o", "o.bmp"], "cannot write .bmp"),
        (["a", "-o", "file/o.png"], "cannot write to file"),
        (["a", "-o", "o.png", "-n", 600], "600 pictures are too many for one file"),
        (["a", "-o", "o.png", "--truncation", 2], "truncation must be"),
        (["a", "-o", "o.png", "--truncation", "nan"], "truncation must be"),
        (["a", "b", "c", "-o", "o.png", "--interpolate", 3], "between two prompts, not 3"),
        (["a", "-o", "o.png", "--interpolate", 3, "--same-noise"], "exclude each other"),
    ):
        code, _, err = call(*args)
        assert code == 2, args
        assert message in err, args
        assert err.count("\n") == 1, args


def test_without_a_bundled_model_the_message_says_so(jaxgen_command, monkeypatch, tmp_path):
    monkeypatch.setattr(places, "BUNDLED", tmp_path / "none")
    code, _, err = jaxgen_command("generate", "a red circle", "-o", "o.png")
    assert code == 2
    assert "no text-to-image model is bundled with this installation; give --model" in err


def test_names_of_files():
    long = "a large red circle " * 5
    names = generate_files.stems(["A red circle!", "a RED circle", long, "", "中文 字"])
    assert names[0].startswith("a_red_circle_")
    assert names[1].startswith("a_red_circle_")
    assert names[0] != names[1]
    assert len(names[2]) == generate_files.NAME + 9
    assert names[3:] == ["empty", "中文_字"]


def test_an_interrupt_ends_the_command(call, monkeypatch, tmp_path):
    def press(path, *args, **more):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(generate_files, "write_image", press)
    assert call("a red circle", "-o", "out")[0] == 130


def test_help_names_every_option():
    done = subprocess.run(
        [sys.executable, "-m", "jaxgen", "generate", "--help"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for option in ("--prompts", "--first", "--same-noise", "--truncation", "--show-masks"):
        assert option in done.stdout


def test_models_lists_both_kinds(model, enlarger, jaxgen_command, monkeypatch, tmp_path):
    monkeypatch.setattr(places, "BUNDLED", tmp_path / "bundled")
    model.export(places.BUNDLED / "dfgan_shapes")
    shutil.copytree(enlarger, places.BUNDLED / "srgan_x4")
    code, out, _ = jaxgen_command("models")
    assert code == 0
    lines = {line.split()[1]: line for line in out.splitlines() if "_" in line}
    assert "generate" in lines["dfgan_shapes"]
    assert "generate (size 16)" in lines["dfgan_shapes"]
    assert "whole 0.875" in lines["dfgan_shapes"]
    assert "colour" not in lines["dfgan_shapes"]
    assert "upscale" in lines["srgan_x4"]
    assert "upscale (scale 4)" in lines["srgan_x4"]
    assert jaxgen_command("generate", "a red circle", "-o", "o.png")[0] == 0  # the default


def test_each_verb_refuses_the_other_kind(model, enlarger, jaxgen_command, tmp_path):
    model.export(tmp_path / "daubs")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    code, _, err = jaxgen_command("upscale", "a.png", "-o", "o.png", "--model", "daubs")
    assert code == 2
    assert err.startswith("error: daubs (family daubs) does not upscale; it can: generate")
    code, _, err = jaxgen_command("generate", "a", "-o", "o.png", "--model", enlarger)
    assert code == 2
    assert err.startswith("error: sr (family srgan) does not generate; it can: upscale")
