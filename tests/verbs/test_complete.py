"""`model.complete` and `jaxgen complete`: what is kept, sizes, files, mistakes of one line."""

import numpy as np
import pytest
from helpers import REPOSITORY, noise, run
from PIL import Image
from support.first_stage import tiny_first_stage, with_parts

import jaxgen
from jaxgen import config as configs
from jaxgen import devices
from jaxgen.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("complete") / "run"
    config = with_parts(configs.load(f"{REPOSITORY}/configs/prior.py:tiny"))
    config.train.eval_every = -1
    run(config, place)
    return place


@pytest.fixture(scope="module")
def model(folder):
    return jaxgen.load(folder)


@pytest.fixture(scope="module")
def stage():
    return jaxgen.load(tiny_first_stage()).verbs["encode"], jaxgen.load(tiny_first_stage()).nets


def codes_of(stage, picture):
    verb, nets = stage
    return np.asarray(verb.encode_program(nets, picture[None] / np.float32(127.5) - 1))[0]


def test_what_is_kept_is_the_first_stage_s_picture_of_it(model, stage):
    """With all rows kept the result is what the first stage makes of the picture."""
    picture = noise(16, 16)
    whole = model.complete(picture, keep=1.0)[0]
    verb, nets = stage
    again = np.asarray(verb.decode_program(nets, codes_of(stage, picture)[None]))[0]
    wanted = np.clip(np.round((again + 1) * 127.5), 0, 255)
    assert np.abs(whole.astype(int) - wanted).max() <= 1
    nothing = model.complete(picture, keep=0.0)[0]
    assert np.abs(nothing.astype(int) - whole).max() > 1


@pytest.mark.parametrize("keep", [0.3, 0.5])
def test_odd_heights_have_no_cell_that_is_not_drawn(model, keep):
    """The original keeps the column where it began, and leaves cells of later rows at code 0."""
    drawn = model.complete(noise(18, 22), keep, 4)  # 9 x 11 cells
    first = int(keep * 9)
    changed = np.abs(np.diff(drawn.astype(int), axis=0)).max(axis=(0, 3)) > 0
    cells = changed.reshape(9, 2, 11, 2).any(axis=(1, 3))
    assert cells[first + 1 :].all(), "some cells below are the same in four pictures"


def test_pictures_of_other_sizes(model, caplog):
    drawn = model.complete(noise(21, 27), 0.5, 2, batch=1)
    assert drawn.shape == (2, 20, 26, 3)
    assert "21 x 27 is drawn as 20 x 26" in caplog.text
    np.testing.assert_array_equal(drawn[1], model.complete(noise(21, 27), 0.5, first=1)[0])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"keep": 1.5}, "the share to keep must be from 0 to 1, not 1.5"),
        ({"keep": -0.1}, "the share to keep must be from 0 to 1, not -0.1"),
        ({"image": noise(8, 40)}, "8 x 40 is too small: at least 16 x 16 pixels"),
        ({"image": noise()[..., 0]}, "takes a picture of uint8"),
        ({"top_p": 3.0}, "top_p must be at least 0 and at most 1"),
        ({"truncation": 0.5}, "has no option 'truncation'"),
        ({"batch": 0}, "the batch must be from 1 to 65536, not 0"),
    ],
)
def test_mistakes(model, arguments, said):
    with pytest.raises(UserError, match=said):
        model.complete(**{"image": noise(16, 16), **arguments})


def test_what_surely_does_not_fit_is_told_before_it_is_compiled(model, monkeypatch):
    model.complete(noise(16, 16))
    monkeypatch.setattr(devices, "_available", lambda: 1e6)
    says = "16 x 16 pixels, 4096 at a time, need at least .* of memory, and 1 MB are free; give a"
    with pytest.raises(UserError, match=says):
        model.complete(noise(16, 16), n=4096, batch=4096)


def test_the_command(folder, jaxgen_command, tmp_path):
    Image.fromarray(noise(16, 20)).save(tmp_path / "photo.png")
    start = ("complete", "photo.png", "--model", folder)
    code, out, err = jaxgen_command(*start, "--keep", 0.5, "-n", 2, "-o", "out.png")
    assert (code, out.strip(), err) == (0, "out.png", "")
    assert Image.open(tmp_path / "out.png").size == (2 * 20 + 2, 16)
    code, out, _ = jaxgen_command(*start, "-n", 2, "--option", "top_k=1", "-o", "many")
    assert code == 0
    assert sorted(p.name for p in (tmp_path / "many").iterdir()) == [
        "photo_seed0_0.png", "photo_seed0_1.png",
    ]  # fmt: skip
    for more, said in (
        (("-o", "out.png"), "out.png exists; give --overwrite"),
        (("-o", "x.png", "--keep", 1.5), "the share to keep must be from 0 to 1, not 1.5"),
        (("-o", "x.png", "--option", "top_k=many"), "top_k must be an integer"),
        (("-o", "x.png", "--option", "top_k"), "give NAME=VALUE"),
        (("-o", "x.png", "--option", "topk=3"), "has no option 'topk'"),
        (("-o", "x.bmp"), "cannot write .bmp"),
    ):
        code, _, err = jaxgen_command(*start, *more)
        assert (code, err.count("\n")) == (2, 1)
        assert said in err
    code, _, err = jaxgen_command("complete", "photo.png", "--model", "dfgan_shapes", "-o", "x.png")
    assert (code, err.count("\n")) == (2, 1)
    assert "does not complete; it can: generate" in err


def test_sizes_of_the_command_generate(folder, jaxgen_command, tmp_path):
    ask = ("generate", "a red circle", "--model", folder, "-n", 1, "-o")
    code, _, err = jaxgen_command(*ask, "pictures", "--size", "18x20", "--option", "top_k=3")
    assert (code, err) == (0, "")
    assert Image.open(tmp_path / "pictures" / "a_red_circle_seed0_0.png").size == (20, 18)
    for size, said in (("8", "8 x 8 is too small"), ("big", "give SIDE or HEIGHTxWIDTH")):
        code, _, err = jaxgen_command(*ask, "x.png", "--size", size)
        assert (code, err.count("\n")) == (2, 1)
        assert said in err
    ask = ("generate", "a red circle", "-n", 1, "-o", "x.png", "--size", 64)
    code, _, err = jaxgen_command(*ask)
    assert code == 2
    assert "draws pictures of 32 x 32 alone" in err
