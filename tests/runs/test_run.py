"""A trained model is loaded from a run, an exported folder or by name, and exported unchanged."""

import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file
from support.tiny_model import picture, tiny_config, tiny_model, variables, write_run

import jaxgen
from jaxgen import config as configs
from jaxgen import weights
from jaxgen.data.captioned.shapes import parse
from jaxgen.data.resize import imresize
from jaxgen.errors import UserError
from jaxgen.metrics.shapes_reader import judge
from jaxgen.runs import model as run
from jaxgen.weights import places


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def exported(model, tmp_path):
    return model.export(tmp_path / "tiny")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "srgan")


@pytest.fixture
def bundle(model, tmp_path, monkeypatch):
    """Two models bundled in place of the package's own."""
    monkeypatch.setattr(places, "BUNDLED", tmp_path / "bundled")
    monkeypatch.chdir(tmp_path)
    for name in ("srgan_x4", "srresnet_x4"):
        model.export(places.BUNDLED / name)
    return places.BUNDLED


def equal(a, b):
    same = jax.tree.map(lambda x, y: x.dtype == y.dtype and np.array_equal(x, y), a, b)
    return all(jax.tree.leaves(same))


# ------------------------------------------------------------------------------ load and export


def test_export_and_load_give_the_same_model(model, exported):
    loaded = jaxgen.load(exported)
    assert configs.to_json(loaded.config) == configs.to_json(model.config)
    assert equal(loaded.nets, model.nets)
    assert (loaded.name, loaded.step, loaded.metrics) == ("tiny", 7, model.metrics)
    assert (loaded.scale, loaded.family, loaded.parameters) == (4, "srgan", model.parameters)
    image = picture()
    assert np.array_equal(loaded.upscale(image), model.upscale(image))


def test_exported_folder_holds_what_use_needs_and_no_more(model, exported):
    assert sorted(p.name for p in exported.iterdir()) == [
        "README.md",
        "config.json",
        "weights.safetensors",
    ]
    tensors = load_file(exported / "weights.safetensors")
    assert "g/params/conv_in/kernel" in tensors
    assert not [name for name in tensors if name.startswith("d/")]
    assert sum(t.size for t in tensors.values()) == model.parameters
    card = (exported / "README.md").read_text()
    assert "Super-resolution x4, family srgan" in card
    assert 'jaxgen.load("tiny")' in card
    assert "| psnr_y | 25.5 |" in card
    assert not list(exported.parent.glob(".*"))  # nothing temporary is left


def test_run_gives_the_newest_averaged_weights(trained):
    loaded = jaxgen.load(trained)
    assert loaded.step == 8
    assert loaded.name == "srgan"
    assert list(loaded.nets) == ["g"]
    assert equal(loaded.nets["g"], variables(tiny_config(), 108))
    earlier = run.load(trained, step=4)
    assert earlier.step == 4
    assert equal(earlier.nets["g"], variables(tiny_config(), 104))
    with pytest.raises(UserError, match="no checkpoint of step 5"):
        run.load(trained, step=5)


def test_run_gives_the_metrics_of_its_step(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "run")
    lines = [
        {"step": 4, "kind": "eval", "psnr_y": 20.0},
        {"step": 8, "kind": "train", "loss": 0.5},
        {"step": 8, "kind": "eval", "psnr_y": 21.0},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "best.json").write_text('{"step": 4, "metric": "psnr_y", "value": 20.0}')
    assert run.load(folder).metrics == {"psnr_y": 21.0}
    best = run.load(folder, best=True)
    assert (best.step, best.metrics) == (4, {"psnr_y": 20.0})
    again = run.load(best.export(tmp_path / "best"))
    assert (again.step, again.metrics) == (4, {"psnr_y": 20.0})


def test_files_inside_a_model_folder_mean_the_folder(exported):
    for name in ("weights.safetensors", "config.json"):
        assert places.resolve(exported / name) == exported


# ------------------------------------------------------------------------------------- bundled


def test_bundled_models_are_loaded_by_name(bundle):
    assert places.bundled_names() == ["srgan_x4", "srresnet_x4"]
    assert run.load("srgan_x4").name == "srgan_x4"
    row = places.list_models()[0]
    assert row["name"] == "srgan_x4"
    assert (row["family"], row["step"]) == ("srgan", 7)
    assert row["verbs"] == {"upscale": {"scale": 4}}
    assert row["parameters"] == run.load("srgan_x4").parameters
    assert row["metrics"] == {"psnr_y": 25.5, "ssim_y": 0.75}
    assert row["headline"].startswith("Super-resolution x4, family srgan")


def test_an_existing_path_comes_before_a_bundled_name(bundle, tmp_path):
    tiny_model(seed=5).export(tmp_path / "srgan_x4")
    assert equal(run.load("srgan_x4").nets["g"], variables(tiny_config(), 5))


def test_a_bfloat16_run_is_used_in_float32_on_a_cpu(tmp_path):
    config = tiny_config()
    nets = {"g": variables(config)}
    config.train.dtype = "bfloat16"
    model = run.Model("b", config, nets, 1)
    image = picture()
    assert np.array_equal(model.upscale(image), tiny_model().upscale(image))
    # The export keeps what the run was trained with.
    assert run.load(model.export(tmp_path / "b")).config.train.dtype == "bfloat16"


def test_the_packages_own_models_work_at_once():
    """The package's own models, not a stand-in: they load and enlarge as they say."""
    for name in ("srgan_x4", "srresnet_x4"):
        model = run.load(name)
        assert model.upscale(picture(8, 9)).shape == (8 * model.scale, 9 * model.scale, 3)
        assert model.metrics["psnr_y"] > 20


def test_the_packages_own_text_to_image_model_draws_what_it_is_told():
    """Two prompts whose pictures the exact reader reads; one of a pair that was held out."""
    model = run.load("dfgan_shapes")
    assert model.metrics["whole"] > 0.85
    prompts = ("a large blue square at the top left", "a large green circle in the center")
    pictures = model.generate(prompts, 8, seed=3)
    assert pictures.shape == (2, 8, 32, 32, 3)
    for text, drawn in zip(prompts, pictures, strict=True):
        right = [judge(picture, parse(text))["whole"] for picture in drawn]
        assert sum(right) >= 4, (text, right)


def test_the_packages_own_model_of_scenes_draws_two_objects_in_their_relation():
    """Relations alone, places alone, one object; read exactly. One pair was held out."""
    model = run.load("ldm_scenes")
    assert model.metrics["whole_2"] >= 0.8
    prompts = (
        "a large red circle above a small blue square",
        "a small yellow triangle to the right of a large brown square",
        "a large green circle at the top left and a small gray square at the bottom",
        "a small cyan circle in the center",
    )
    _, right = four_of_each(model, prompts)
    assert np.sum(right) >= 12, right
    assert all(np.sum(right, axis=1) >= 2), right


def four_of_each(model, prompts):
    """(pictures of 64 px, for each whether all is right that its prompt says)."""
    pictures = model.generate(prompts, 4, seed=2)
    assert pictures.shape == (len(prompts), 4, 64, 64, 3)
    right = [
        [judge(picture, parse(text))["whole"] for picture in drawn]
        for text, drawn in zip(prompts, pictures, strict=True)
    ]
    return pictures, right


def test_the_packages_own_prior_draws_two_objects_and_completes_a_picture():
    """Relations alone, places alone; read exactly. What is kept of a picture stays."""
    model = run.load("prior_scenes")
    assert model.metrics["whole_2"] >= 0.7
    prompts = (
        "a large red circle above a small blue square",
        "a large purple circle left of a large gray triangle",
        "a small cyan circle in the center",
    )
    pictures, right = four_of_each(model, prompts)
    assert np.sum(right) >= 8, right
    scene = pictures[0][int(np.argmax(right[0]))]
    (again,) = model.complete(scene, 0.5, prompt=prompts[0], seed=1)
    assert np.abs(again[:28].astype(int) - scene[:28]).mean() < 4
    assert judge(again, parse(prompts[0]))["valid"]


# ------------------------------------------------------------------------------------- upscale


@pytest.mark.parametrize("tile", [None, 6])
def test_upscale_keeps_the_kind_of_picture(model, tile):
    color, gray, alpha = picture(), picture(channels=0), picture(channels=0, seed=3)
    large = model.upscale(color, tile=tile)
    assert (large.shape, large.dtype) == ((52, 68, 3), np.uint8)
    assert model.upscale(gray, tile=tile).shape == (52, 68)
    both = model.upscale(np.dstack([color, alpha]), tile=tile)
    assert np.array_equal(both[..., :3], large)
    assert np.array_equal(both[..., 3], imresize(alpha, scale=4))


def test_upscale_is_near_the_picture(model):
    """The tiny net is bicubic plus a little noise: colours and places are not mixed up."""
    image = picture(24, 20)
    assert np.abs(model.upscale(image).astype(int) - imresize(image, scale=4)).mean() < 12


def test_one_pixel(model):
    assert model.upscale(np.full((1, 1, 3), 90, np.uint8)).shape == (4, 4, 3)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4, 3)), np.zeros((4, 4, 4)), np.zeros((4, 4, 2), np.uint8), np.uint8(3)],
)
def test_upscale_refuses_other_arrays(model, image):
    with pytest.raises(UserError, match="takes uint8 or uint16 arrays"):
        model.upscale(image)


@pytest.mark.parametrize("shape", [(0, 4, 3), (0, 4), (4, 0, 4)])
def test_upscale_refuses_empty_arrays(model, shape):
    with pytest.raises(UserError, match="empty"):
        model.upscale(np.zeros(shape, np.uint8))


def test_a_model_without_the_verb_says_so():
    config = tiny_config()
    other = run.Model("other", config, {}, 1, verbs={})
    with pytest.raises(UserError, match=r"other \(family srgan\) does not upscale"):
        other.upscale(picture())


# ------------------------------------------------------------------------------------ mistakes


def test_unknown_names_list_the_bundled_and_the_nearest(bundle, tmp_path, trained):
    with pytest.raises(UserError, match=r"did you mean srgan_x4.*bundled models: srgan_x4, srres"):
        run.load("srgan_4x")
    shutil.copytree(trained, tmp_path / "runs" / "faces")
    with pytest.raises(UserError, match="did you mean runs/faces"):
        run.load("runs/face")
    with pytest.raises(UserError, match=r"did you mean .*faces"):
        run.load("runs")
    with pytest.raises(UserError) as caught:
        run.load("zzz")
    assert "did you mean" not in str(caught.value)


def test_without_bundled_models_the_message_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "BUNDLED", tmp_path / "none")
    with pytest.raises(UserError, match="no model is bundled"):
        run.load("srgan_x4")


def damage_weights(folder):
    data = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(data[: len(data) // 2])


def empty_weights(folder):
    (folder / "weights.safetensors").write_bytes(b"")


def no_config(folder):
    (folder / "config.json").unlink()


def half_a_config(folder):
    (folder / "config.json").write_text('{"family": "srg')


def other_family(folder):
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"srgan"', '"nonesuch"'))


def family_with_dots(folder):
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"srgan"', '"..data"'))


def other_width(folder):
    tree = json.loads((folder / "config.json").read_text())
    tree["model"]["generator"]["features"] = 16
    (folder / "config.json").write_text(json.dumps(tree))


def other_net(folder):
    tree = weights.read_tree(folder / "weights.safetensors")
    weights.write_safetensors(folder / "weights.safetensors", {"x": tree["g"]})


def no_weights(folder):
    (folder / "weights.safetensors").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_weights, "cannot read weights"),
        (empty_weights, "is no weights file"),
        (no_config, "has no config.json"),
        (half_a_config, "not readable as JSON"),
        (other_family, "family 'nonesuch' is not part"),
        (family_with_dots, "is not part"),
        (other_width, "do not fit"),
        (other_net, "lacks the net 'g'"),
        (no_weights, "no finished checkpoint yet"),
    ],
)
def test_damaged_exports_are_refused_in_one_line(exported, damage, message):
    damage(exported)
    with pytest.raises(UserError, match=message) as caught:
        run.load(exported)
    assert "\n" not in str(caught.value)


def test_a_run_without_a_checkpoint_is_refused(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "run")
    for step in (folder / "checkpoints").iterdir():
        shutil.rmtree(step) if step.is_dir() else step.unlink()
    with pytest.raises(UserError, match="no finished checkpoint"):
        run.load(folder)


def test_a_file_is_no_model(tmp_path, bundle):
    (tmp_path / "photo.png").write_bytes(b"x")
    with pytest.raises(UserError, match="is a file; give the folder"):
        run.load(tmp_path / "photo.png")


# -------------------------------------------------------------------------------------- export


def test_export_replaces_nothing_unasked(model, exported, tmp_path):
    before = (exported / "weights.safetensors").read_bytes()
    other = tiny_model(seed=9)
    with pytest.raises(UserError, match="exists and is not empty"):
        other.export(exported)
    assert (exported / "weights.safetensors").read_bytes() == before
    other.export(exported, overwrite=True)
    assert equal(run.load(exported).nets, other.nets)

    precious = tmp_path / "photos"
    precious.mkdir()
    (precious / "a.png").write_bytes(b"x")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="choose another folder"):
            other.export(precious, overwrite=overwrite)
    assert (precious / "a.png").read_bytes() == b"x"


def test_export_into_an_empty_folder(model, tmp_path):
    (tmp_path / "empty").mkdir()
    assert run.load(model.export(tmp_path / "empty")).step == 7


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_export_leaves_the_old_one(exported, monkeypatch, error):
    before = (exported / "weights.safetensors").read_bytes()

    def fail(*args):
        raise error

    monkeypatch.setattr(weights, "write_safetensors", fail)
    expected = UserError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        tiny_model(seed=9).export(exported, overwrite=True)
    assert (exported / "weights.safetensors").read_bytes() == before
    assert [p.name for p in exported.parent.iterdir()] == ["tiny"]


def test_export_to_a_place_that_cannot_be_written(model, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        model.export(tmp_path / "file" / "model")
