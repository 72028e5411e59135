"""`jaxgen generate`: steps, pictures to begin with, and PNGs that say how they were drawn."""

import json

import numpy as np
import pytest
from PIL import Image
from support.fake_family import daubs, daubs_family
from support.tiny_ldm import tiny_ldm

from jaxgen.data.picture_drawn import read_note
from jaxgen.data.picture_files import read_image
from jaxgen.verbs.generate import film

__all__ = ["daubs_family"]


@pytest.fixture
def call(jaxgen_command, daubs_family, tmp_path):
    daubs().export(tmp_path / "daubs")
    return lambda *args: jaxgen_command("generate", *args)


@pytest.fixture(scope="module")
def ldm(tmp_path_factory):
    return str(tiny_ldm().export(tmp_path_factory.mktemp("models") / "ldm"))


def same(a, b):
    np.testing.assert_array_equal(read_image(a), read_image(b))


def test_a_sheet_and_a_picture_are_drawn_again(call, tmp_path):
    asked = ("a red circle", "a blue square", "-n", 3, "--seed", 4, "--first", 1, "--truncation")
    for out in ("sheet.png", "out"):
        assert call(*asked, 0.7, "--model", "daubs", "-o", out)[0] == 0
    code, out, err = call("--from-png", "sheet.png", "-o", "again.png")
    assert (code, err) == (0, "")
    assert out.startswith("again.png  6 pictures")
    same("sheet.png", "again.png")
    # A picture of a folder is drawn alone.
    name = "a_blue_square_seed4_2.png"
    noted = json.loads(read_note(tmp_path / "out" / name))
    assert (noted["prompts"], noted["first"], noted["n"]) == (["a blue square"], 2, 1)
    assert noted["options"] == {"truncation": 0.7}
    assert call("--from-png", f"out/{name}", "-o", "one")[0] == 0
    same(f"out/{name}", f"one/{name}")


def test_what_cannot_be_drawn_again_is_one_line(call, tmp_path):
    call("a red circle", "-n", 1, "--model", "daubs", "-o", "a.png")
    Image.open(tmp_path / "a.png").save(tmp_path / "plain.png")
    (tmp_path / "text.png").write_text("x")
    note = read_note(tmp_path / "a.png")

    def noting(name, text):
        from jaxgen.data.picture_files import write_image

        write_image(tmp_path / name, np.zeros((4, 4, 3), np.uint8), note=text)

    noting("none.png", "{")
    noting("other.png", note.replace('"format": 1', '"format": 2'))
    noting("list.png", note.replace('["a red circle"]', "[3]"))
    noting("option.png", note.replace('"truncation"', '"tempo"'))
    other = daubs()
    other.nets["g"]["params"]["noise"][:] = 1.0
    other.export(tmp_path / "other")
    for args, message in (
        (["plain.png"], "does not say how it was drawn"),
        (["text.png"], "cannot read text.png"),
        (["nowhere.png"], "cannot read nowhere.png"),
        (["none.png"], "note of how it was drawn is damaged"),
        (["other.png"], "by another jaxgen"),
        (["list.png"], "note of how it was drawn is damaged"),
        (["option.png"], "no option 'tempo'"),
        (["a.png", "--seed", 3], "leave out --seed"),
        (["a.png", "a blue square"], "leave out a prompt"),
        (["a.png", "--init", "a.png"], "leave out --init"),
        (["a.png", "--model", "other"], "has other weights than what drew a.png"),
    ):
        code, _, err = call("--from-png", *args, "-o", "o.png")
        assert code == 2, args
        assert message in err, args
        assert err.count("\n") == 1, args
    for args, message in (
        (["--init", "a.png"], "draws from noise alone"),
        (["--mask", "a.png"], "give --init"),
        (["--steps", 3], "no option 'steps'"),
        (["--show-steps", 3], "no steps to show"),
        (["--init", "nowhere.png"], "nowhere.png"),
    ):
        code, _, err = call("a red circle", *args, "--model", "daubs", "-o", "o.png")
        assert (code, err.count("\n")) == (2, 1), args
        assert message in err, args


def test_diffusion_from_the_command(call, ldm, tmp_path):
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (16, 16, 3), np.uint8)
    mask = np.zeros((16, 16), np.uint8)
    mask[4:12, 4:12] = 255
    Image.fromarray(photo).save(tmp_path / "photo.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    asked = (
        "a red circle", "-n", 2, "--seed", 1, "--steps", 5, "--guidance", 3, "--negative", "blue",
        "--sampler", "dpmpp-2m", "--init", "photo.png", "--strength", 0.8, "--mask", "mask.png",
        "--show-steps", 3, "--model", ldm,
    )  # fmt: skip
    code, _, err = call(*asked, "-o", "out")
    assert (code, err) == (0, "")
    drawn = read_image(tmp_path / "out" / "a_red_circle_seed1_1.png")
    np.testing.assert_array_equal(drawn[mask == 0], photo[mask == 0])
    strip = read_image(tmp_path / "out" / "a_red_circle_seed1_1_steps.png")
    assert strip.shape == (128, 3 * 128 + 2 * film.GAP, 3)
    np.testing.assert_array_equal(strip[::8, -128::8], drawn)

    # What lies beside a picture is looked for as the picture is.
    (tmp_path / "out" / "a_red_circle_seed1_1_steps.png").unlink()
    code, out, err = call(*asked, "-o", "out")
    assert (code, err) == (0, "")
    assert "1 of 2 were there already" in out
    np.testing.assert_array_equal(
        read_image(tmp_path / "out" / "a_red_circle_seed1_1_steps.png"), strip
    )

    code, _, err = call(*asked, "-o", "steps.gif")
    assert (code, err) == (0, "")
    assert Image.open(tmp_path / "steps.gif").n_frames == 3

    # Again from one picture, and then the pictures to begin with are elsewhere, or others.
    code, _, err = call("--from-png", "out/a_red_circle_seed1_1.png", "-o", "one")
    assert (code, err) == (0, "")
    same("out/a_red_circle_seed1_1.png", "one/a_red_circle_seed1_1.png")
    (tmp_path / "photo.png").rename(tmp_path / "moved.png")
    code, _, err = call("--from-png", "out/a_red_circle_seed1_1.png", "-o", "two")
    assert (code, err.count("\n")) == (2, 1)
    assert "give --init where it is now" in err
    moved = ("--from-png", "out/a_red_circle_seed1_1.png", "-o", "two", "--init", "moved.png")
    assert call(*moved)[0] == 0
    same("out/a_red_circle_seed1_1.png", "two/a_red_circle_seed1_1.png")
    Image.fromarray(255 - photo).save(tmp_path / "moved.png")
    code, _, err = call(*moved, "--overwrite")
    assert (code, err.count("\n")) == (2, 1)
    assert "is not the picture that was used" in err
