"""Two models put together: VQGAN-CLIP from Python, its starts and prompts, and bad input."""

import jax
import numpy as np
import pytest
from helpers import noise
from PIL import Image
from support.fake_family import daubs, daubs_family
from support.guided_models import tiny_clip, tiny_vqgan

import jaxgen
from jaxgen import devices
from jaxgen.errors import UserError
from jaxgen.runs.compose import compose
from jaxgen.runs.model import load
from jaxgen.verbs.generate.guide_run import Along
from jaxgen.weights import places

__all__ = ["daubs_family"]
# Without the views' changes, which take most of the time to compile; tests/edit has them.
FEW = {"iterations": 3, "cutouts": 3, "augment": "none", "chunk": 2}
# Adam's steps are then too small to leave a start's codes.
STILL = {**FEW, "iterations": 1, "rate": 1e-9}


@pytest.fixture(scope="module")
def stage():
    return tiny_vqgan()


@pytest.fixture(scope="module")
def judge():
    return tiny_clip()


@pytest.fixture(scope="module")
def model(stage, judge):
    return compose(stage, judge)


def test_a_picture_is_the_same_whatever_the_batch(model):
    texts = ["a red circle|a square:-0.1", "a blue square:0.5:0.1|a green circle:-0.3"]
    many = model.generate(texts, 2, seed=4, **FEW)
    assert many.shape == (2, 2, 16, 16, 3)
    assert many.dtype == np.uint8
    one = model.generate(texts[1], 1, seed=4, first=1, **FEW)
    np.testing.assert_array_equal(one[0], many[1, 1])
    alone = model.generate(texts, 2, seed=4, batch=1, **FEW)
    np.testing.assert_array_equal(alone, many)
    assert len({picture.tobytes() for picture in many.reshape(4, -1)}) == 4
    other = model.generate(texts[0], 1, seed=5, **FEW)
    assert (other[0] != many[0, 0]).any()
    more = model.generate(texts[0], 1, seed=4, **{**FEW, "iterations": 4})
    assert (more[0] != many[0, 0]).any()


def test_sizes_are_whole_codes(model, caplog):
    assert model.size == 16
    assert model.generate("a red circle", size=(17, 12), **STILL).shape == (1, 16, 12, 3)
    assert "17 x 12 is drawn as 16 x 12: a code has 2 pixels" in caplog.text
    with pytest.raises(UserError, match="1 x 12 pixels are less than one code of vqgan-clip"):
        model.generate("a red circle", size=(1, 12))


def test_what_a_picture_starts_from(model, stage, tmp_path, daubs_family):
    del daubs_family
    image = noise(16, 16)
    again = stage.encode.reconstruct(image)
    Image.fromarray(image).save(tmp_path / "a.png")
    for init in (image, str(tmp_path / "a.png"), tmp_path / "a.png"):
        np.testing.assert_array_equal(model.generate("a", init=init, **STILL)[0], again)
    # Of another size it is resized.
    assert model.generate("a", init=noise(9, 30), **STILL).shape == (1, 16, 16, 3)
    first, second = model.generate("a", 2, init="noise", **STILL)
    assert (first != second).any()

    # A model's picture of the first text, with its own seed and number.
    begin = daubs()
    from_it = model.generate.starting_from(begin.generate)
    drawn = begin.generate("a red circle", 2, seed=3)
    found = from_it("a red circle", 2, seed=3, same_noise=True, **STILL)
    same = begin.generate("a red circle", 2, seed=3, same_noise=True)
    for picture, wanted in zip(found, same, strict=True):
        np.testing.assert_array_equal(picture, stage.encode.reconstruct(wanted))
    found = from_it("a red circle", 2, seed=3, **STILL)
    np.testing.assert_array_equal(found[1], stage.encode.reconstruct(drawn[1]))
    with pytest.raises(UserError, match="init and --start-from exclude each other"):
        from_it("a", init="noise")


def test_pictures_and_noise_as_prompts(model, tmp_path):
    Image.fromarray(noise(20, 30)).save(tmp_path / "a.png")
    plain = model.generate("a circle", **FEW)
    more = {"image_prompts": f"{tmp_path}/a.png:0.5", "noise_prompts": "5:0.7|6:-1:0.2"}
    found = model.generate("a circle", **FEW, **more)
    assert (found != plain).any()
    np.testing.assert_array_equal(found, model.generate("a circle", **FEW, **more))


def test_views_spread_over_eight_devices(model, monkeypatch):
    """The same as of one, but for the order of sums."""
    one = model.generate("a red circle", **FEW)
    monkeypatch.setattr(devices, "usable", jax.devices)
    many = compose(tiny_vqgan(), tiny_clip()).generate("a red circle", **FEW)
    np.testing.assert_allclose(many.astype(int), one.astype(int), atol=1)


class Stop:
    """Counts iterations, and presses Ctrl-C after some."""

    def __init__(self, after):
        self.left = after

    def __call__(self, count):
        self.left -= count
        if self.left <= 0:
            raise KeyboardInterrupt


def run(model, path, text="a red circle", n=3, along=None, **changes):
    jobs = [(model.generate.read(text), i) for i in range(n)]
    along = Along(saved=path) if along is None else along
    drawn = model.generate.each(jobs, batch=2, along=along, **{**FEW, "iterations": 6, **changes})
    return [picture for picture, _ in drawn]


@pytest.mark.parametrize("after", [2, 5, 12, 14])
def test_a_stopped_run_goes_on_to_the_same_bits(model, tmp_path, after):
    """In the first batch, at its end, and in the second."""
    path = tmp_path / "s.safetensors"
    whole = run(model, None)
    with pytest.raises(KeyboardInterrupt):
        run(model, path, along=Along(saved=path, moved=Stop(after)))
    assert path.exists()
    seen = []
    again = run(model, path, along=Along(saved=path, moved=seen.append))
    np.testing.assert_array_equal(again, whole)
    assert sum(seen) == 18
    # The saved ones are taken, not computed again: their iterations are told at once.
    assert seen[0] >= 2


def test_a_saved_state_of_something_else_is_not_taken(model, tmp_path):
    path = tmp_path / "s.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(model, path, n=1, along=Along(saved=path, moved=Stop(2)))
    for changes in ({"text": "a blue circle"}, {"rate": 0.2}, {"size": (16, 18)}, {"seed": 1}):
        with pytest.raises(UserError, match="holds pictures of other prompts, settings or models"):
            run(model, path, n=1, **changes)
    anew = run(model, path, "a blue circle", 1, Along(saved=path, anew=True))
    np.testing.assert_array_equal(anew, run(model, None, "a blue circle", 1))
    # More iterations than before go on, and fewer begin anew.
    more = run(model, path, n=1, iterations=8)
    np.testing.assert_array_equal(more, run(model, None, n=1, iterations=8))
    less = run(model, path, n=1, iterations=1)
    np.testing.assert_array_equal(less, run(model, None, n=1, iterations=1))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError, match=str(path)):
        run(model, path, n=1)


def test_too_large_a_picture_is_refused_before_its_first_step(model, monkeypatch):
    list(model.generate.variables.values())  # on the device: the step alone is left
    monkeypatch.setattr(devices, "_available", lambda: 1000.0)
    with pytest.raises(UserError, match=r"a step .* needs .* of memory, .*smaller size"):
        model.generate("a red circle", size=(20, 20), **FEW)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"iterations": 0}, "the iterations must be at least 1"),
        ({"iterations": 2.5}, "the iterations must be a whole number, not 2.5"),
        ({"cutouts": 0}, "the cutouts must be at least 1"),
        ({"cutout_style": "squares"}, "must be one of crops, pooled"),
        ({"augment": "affine,blur"}, "the augment must be of affine, perspective"),
        ({"smoothing": 1.0}, "the smoothing must be"),
        ({"rate": 0.0}, "the rate must be above 0"),
        ({"init": "nowhere.png"}, "nowhere.png: no such file"),
        ({"init": np.zeros((4, 4))}, "init takes codes, noise, a file or a picture uint8"),
        ({"image_prompts": "nowhere.png:1"}, "nowhere.png: no such file"),
        ({"image_prompts": "a.png:x"}, "image_prompts: prompt 'a.png:x': weight 'x' is no number"),
        ({"noise_prompts": "five"}, "noise_prompts: 'five' is no seed"),
        ({"truncation": 0.5}, "has no option 'truncation'; it takes iterations"),
    ],
)
def test_options_out_of_range(model, options, says):
    with pytest.raises(UserError) as error:
        model.generate("a red circle", **options)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["a:b", "a:0", "a:nan", "a||b", "", "a:1:inf", ":1"])
def test_prompts_of_another_form(model, text):
    with pytest.raises(UserError, match="prompt"):
        model.generate(text)


def test_what_can_be_put_together(stage, judge, tmp_path, monkeypatch):
    stage.export(tmp_path / "vq")
    judge.export(tmp_path / "judge")
    monkeypatch.chdir(tmp_path)
    model = jaxgen.load("vqgan-clip:vq,judge")
    assert (model.name, model.family, sorted(model.verbs)) == (
        "vqgan-clip:vq,judge", "vqgan-clip", ["generate"]
    )  # fmt: skip
    assert model.parameters == stage.parameters + judge.parameters
    with pytest.raises(UserError, match="does not upscale; it can: generate"):
        model.upscale(noise(8, 8))
    with pytest.raises(UserError, match="two models put together: export each by itself"):
        model.export(tmp_path / "out")
    with pytest.raises(UserError, match="no way between two pictures"):
        model.generate.between("a", "b")
    for name, says in (
        ("vqgan-clip:judge,vq", "judge .family clip. has no codes to draw with"),
        ("vqgan-clip:vq,vq", "vq .family vqgan. does not compare pictures and texts"),
        ("vqgan-clip:vq", "name two models with a comma between them"),
        ("vqgan-clip:vq,judge,vq", "name two models with a comma between them"),
        ("vqgan-clip:vq,", "name two models with a comma between them"),
        ("vqgan-clip:vq,nowhere", "no model 'nowhere'"),
    ):
        with pytest.raises(UserError, match=says):
            load(name)
    with pytest.raises(UserError, match="export the steps that you mean first"):
        load("vqgan-clip:vq,judge", step=3)


def test_pictures_of_classes_are_refused(judge):
    classes = tiny_vqgan(**{"data.source": "segmentation", "model.channels": 5})
    with pytest.raises(UserError, match="vq encodes segmentations, which a CLIP can't judge"):
        compose(classes, judge)


def test_a_clip_without_its_vocabulary(stage, judge, monkeypatch):
    def none(text):
        raise UserError("this CLIP came without its vocabulary")

    deaf = tiny_clip()
    monkeypatch.setitem(deaf.verbs, "embed", _replaced(judge.verbs["embed"], read=none))
    with pytest.raises(UserError, match="judge: this CLIP came without its vocabulary"):
        compose(stage, deaf)


def _replaced(verb, **changes):
    import dataclasses

    return dataclasses.replace(verb, **changes)


def test_without_names_the_bundled_ones_are_meant(stage, judge, tmp_path, monkeypatch):
    monkeypatch.setattr(places, "BUNDLED", tmp_path / "bundled")
    with pytest.raises(UserError, match="no clip_shapes and no vqgan_shapes is bundled"):
        load("vqgan-clip")
    stage.export(places.BUNDLED / "vqgan_shapes")
    with pytest.raises(UserError, match="no clip_shapes is bundled with this installation"):
        load("vqgan-clip")
    judge.export(places.BUNDLED / "clip_shapes")
    assert load("vqgan-clip").name == "vqgan-clip:vqgan_shapes,clip_shapes"
