"""`jaxgen generate` with a VQGAN and a CLIP, enlarged pictures, and what users get wrong."""

import numpy as np
import pytest
from PIL import Image
from support.fake_family import daubs, daubs_family
from support.guided_models import tiny_clip, tiny_vqgan
from support.tiny_model import tiny_model

from jaxgen.data import picture_files
from jaxgen.runs.compose import compose
from jaxgen.verbs.generate import note

__all__ = ["daubs_family"]
pytestmark = pytest.mark.usefixtures("daubs_family")
FEW = {"iterations": 4, "cutouts": 2, "augment": "none"}
OPTIONS = [text for key, value in FEW.items() for text in ("--option", f"{key}={value}")]


@pytest.fixture(scope="module")
def model():
    return compose(tiny_vqgan(), tiny_clip())


@pytest.fixture
def call(jaxgen_command, tmp_path):
    tiny_vqgan().export(tmp_path / "vq")
    tiny_clip().export(tmp_path / "judge")
    tiny_model().export(tmp_path / "sr")
    daubs().export(tmp_path / "daubs")

    def generate(*args, model="vqgan-clip:vq,judge"):
        named = () if model is None else ("--model", model)
        return jaxgen_command("generate", *args, *named)

    return generate


def read(path):
    return np.asarray(Image.open(path))


def test_the_chain(call, model, tmp_path):
    """The picture, the large one, frames of how it came about, and what it is made of."""
    code, out, err = call(
        "a red circle", "--seed", 3, "--size", 17, "--upscale", "sr", "-o", "o.png", *OPTIONS,
        "--frames", "f", "--frame-every", 2,
    )  # fmt: skip
    assert code == 0, err
    assert out.startswith("o_x4.png\no.png  1 pictures")
    picture, large = read(tmp_path / "o.png"), read(tmp_path / "o_x4.png")
    np.testing.assert_array_equal(picture, model.generate("a red circle", seed=3, **FEW)[0])
    assert large.shape == (64, 64, 3)
    np.testing.assert_array_equal(large, tiny_model().upscale(picture))
    frames = sorted((tmp_path / "f" / "a_red_circle_seed3_0").iterdir())
    assert [path.name for path in frames] == ["00000.png", "00001.png", "00002.png"]
    np.testing.assert_array_equal(read(frames[2]), picture)
    assert (read(frames[0]) != picture).any()
    said = note.read(tmp_path / "o_x4.png")
    assert (said["prompts"], said["seed"], said["first"]) == (["a red circle"], 3, 0)
    assert (said["model"], said["upscale"]) == ("vqgan-clip:vq,judge", "sr")
    assert said["options"]["iterations"] == FEW["iterations"]
    assert said == note.read(tmp_path / "o.png")
    assert not list(tmp_path.glob("*.state.safetensors"))
    code, _, err = call("--from-png", "o.png", "-o", "again.png", model=None)
    assert code == 0, err
    np.testing.assert_array_equal(read(tmp_path / "again.png"), picture)
    np.testing.assert_array_equal(read(tmp_path / "again_x4.png"), large)


def test_a_folder_stopped_and_gone_on_with(call, model, tmp_path, monkeypatch):
    texts = ("a red circle", "a blue square")
    written = []

    def press(path, *args, **how):
        written.append(path)
        if len(written) == 6:
            raise KeyboardInterrupt
        picture_files_write(path, *args, **how)

    picture_files_write = picture_files.write_image
    args = (*texts, "-o", "out", *OPTIONS, "--frames", "f", "--frame-every", 1)
    with monkeypatch.context() as patch:
        patch.setattr(picture_files, "write_image", press)
        code, _, err = call(*args)
    assert code == 130
    assert "out.state.safetensors is where the same command goes on" in err
    assert (tmp_path / "out.state.safetensors").exists()
    assert call("a blue circle", "-o", "out", *OPTIONS)[:2] == (2, "")
    code, out, _ = call(*args)
    assert code == 0
    assert "out  2 pictures" in out
    assert not (tmp_path / "out.state.safetensors").exists()
    wanted = model.generate(texts, **FEW)
    for i, text in enumerate(("a_red_circle", "a_blue_square")):
        np.testing.assert_array_equal(read(tmp_path / "out" / f"{text}_seed0_0.png"), wanted[i, 0])
    # The pictures are there; what is missing is their enlargement.
    code, out, _ = call(*args, "--upscale", "sr")
    assert code == 0
    assert "2 of 2 were there already" in out
    assert read(tmp_path / "out" / "a_red_circle_seed0_0_x4.png").shape == (64, 64, 3)


def test_any_model_is_enlarged(call, tmp_path):
    code, out, _ = call("a red circle", "--upscale", "sr", "-o", "o.png", model="daubs")
    assert code == 0
    assert out.startswith("o_x4.png\no.png  1 pictures")
    wanted = daubs().generate("a red circle")[0]
    np.testing.assert_array_equal(read(tmp_path / "o.png"), wanted)
    assert read(tmp_path / "o_x4.png").shape == (64, 64, 3)
    assert call("a circle", "-n", 2, "--upscale", "sr", "-o", "out", model="daubs")[0] == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    stems = [f"a_circle_seed0_{i}{end}.png" for i in (0, 1) for end in ("", "_x4")]
    assert names == [*stems, "grid.png"]


def test_a_start_from_another_model(call, model, tmp_path):
    still = [*OPTIONS, "--option", "rate=1e-9", "--option", "iterations=1"]
    code, _, err = call("a red circle", "--start-from", "daubs", "-o", "o.png", *still)
    assert code == 0, err
    start = daubs().generate("a red circle")[0]
    again = tiny_vqgan().encode.reconstruct(start)
    np.testing.assert_array_equal(read(tmp_path / "o.png"), again)
    assert note.read(tmp_path / "o.png")["start_from"] == "daubs"


@pytest.mark.parametrize(
    ("args", "model", "says"),
    [
        (["a:b"], "", "prompt 'a:b': weight 'b' is no number"),
        (["a", "--size", "1"], "", "1 x 1 pixels are less than one code"),
        (["a", "--size", "x"], "", "--size x: give SIDE or HEIGHTxWIDTH"),
        (["a", "--option", "iterations=0"], "", "the iterations must be at least 1"),
        (["a", "--option", "iterations=many"], "", "iterations must be an integer"),
        (["a", "--option", "steps=3"], "", "has no option 'steps'; it takes iterations"),
        (["a", "--show-masks"], "", "has no masks to show"),
        (["a", "b", "--interpolate", 3], "", "has no way between two pictures"),
        (["a", "--truncation", 0.5], "", "has no option 'truncation'"),
        (["a", "b", "--upscale", "sr"], "", "2 pictures with --upscale need a folder"),
        (["a", "--upscale", "daubs"], "", "does not upscale; it can: generate"),
        (["a", "--start-from", "sr"], "", "does not generate; it can: upscale"),
        (["a", "--interpolate", 3, "--upscale", "sr"], "daubs", "--upscale and --interpolate"),
        (["a", "--frames", "f"], "daubs", "--frames is of --model vqgan-clip:VQGAN,CLIP alone"),
        (["a", "--start-from", "sr"], "daubs", "--start-from is of --model vqgan-clip"),
        (["a"], "vqgan-clip:vq", "name two models with a comma between them"),
        (["a"], "vqgan-clip:sr,judge", "has no codes to draw with"),
        (["a"], "vqgan-clip:vq,sr", "does not compare pictures and texts"),
    ],
)
def test_bad_input(call, tmp_path, args, model, says):
    code, out, err = call(*args, "-o", "o.png", model=model or "vqgan-clip:vq,judge")
    assert (code, out) == (2, "")
    [line] = err.strip().splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert not (tmp_path / "o.png").exists()
