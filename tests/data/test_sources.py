"""Every data source gives the same record form, and says what is wrong with what it cannot use."""

import pickle
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import DAMAGES, damaged, noise, warnings
from PIL import Image

from jaxgen.data.builders import photos
from jaxgen.data.picture_files import write_image
from jaxgen.data.sr import section as data_lib
from jaxgen.data.sr import sources
from jaxgen.data.sr.examples import folder_pairs, validation_pairs
from jaxgen.data.sr.sources import open_source
from jaxgen.data.tfds import prepare_tfds, tfds_builder
from jaxgen.errors import UserError

__all__ = ["warnings"]


def _settings(**changes):
    data = data_lib.defaults()
    data.update(changes)
    return data


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A user's cache of its own, with the photos prepared in it once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Path(photos.builder().data_dir)


# ---- the embedded photos ------------------------------------------------------------------------


def test_photos_are_the_real_ones_and_the_splits_are_apart(cache):
    train = open_source(_settings(), "train")
    names = {train[i]["_name"] for i in range(len(train))}
    assert names == {Path(file).stem for file in photos.TRAIN}
    assert len(train) == len(names) == 15
    validation = open_source(_settings(), "validation")
    held = {validation[i]["_name"]: validation[i]["image"] for i in range(len(validation))}
    assert set(held) == {"astronaut", "chelsea"}
    assert held["astronaut"].shape == (512, 512, 3)
    assert held["chelsea"].shape == (300, 451, 3)
    assert held["chelsea"].dtype == np.uint8
    original = np.array(Image.open(photos._folder() / "astronaut.png"))
    np.testing.assert_array_equal(held["astronaut"], original)


def test_photos_are_prepared_once_and_without_leftovers(cache):
    stamp = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    photos.builder()
    assert {path.name: path.stat().st_mtime_ns for path in cache.iterdir()} == stamp
    assert [path.name for path in cache.parents[1].iterdir()] == ["photos"]


def test_two_processes_may_prepare_the_photos_at_once(tmp_path):
    code = (
        "from jaxgen.data.builders import photos; r = photos.builder().as_data_source('train'); "
        "print(len(r), r[14]['image'].shape[2])"
    )
    root = Path(__file__).resolve().parent.parent.parent
    env = {"PATH": "/usr/bin:/bin", "JAXGEN_CACHE": str(tmp_path), "PYTHONPATH": str(root)}
    both = [
        subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate(timeout=120)[0].split() for process in both] == [["15", "3"]] * 2
    assert [process.returncode for process in both] == [0, 0]
    assert [path.name for path in (tmp_path / "tfds").iterdir()] == ["photos"]


def test_half_written_photos_are_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path))
    broken = tmp_path / "tfds" / "photos" / "1.0.0"
    broken.mkdir(parents=True)
    (broken / "photos-train.array_record-00000-of-00001").write_bytes(b"half")
    assert len(open_source(_settings(), "train")) == 15


# ---- folders ------------------------------------------------------------------------------------


def _fill(folder, count, height=40, width=60):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(noise(height, width, i)).save(folder / f"{i:02d}.png")
    return folder


def _names(source):
    return {source[i]["_name"] for i in range(len(source))}


def test_folder_is_held_out_deterministically_and_disjointly(tmp_path):
    _fill(tmp_path / "a", 12)
    data = _settings(source="folder", path=str(tmp_path), holdout=3, hr_size=32)
    train, validation = open_source(data, "train"), open_source(data, "validation")
    assert len(train) == 9
    assert len(validation) == 3
    assert _names(train) | _names(validation) == {f"a/{i:02d}.png" for i in range(12)}
    assert not _names(train) & _names(validation)
    assert _names(open_source(data, "validation")) == _names(validation)
    # Another picture moves at most one of the held-out ones.
    Image.fromarray(noise()).save(tmp_path / "a" / "99.png")
    assert len(_names(open_source(data, "validation")) & _names(validation)) >= 2


def test_validation_folder_inside_the_training_one_is_not_trained_on(tmp_path):
    _fill(tmp_path / "train", 4)
    _fill(tmp_path / "val", 2)
    data = _settings(
        source="folder", path=str(tmp_path), path_validation=str(tmp_path / "val"), hr_size=32
    )
    assert _names(open_source(data, "train")) == {f"train/{i:02d}.png" for i in range(4)}
    assert _names(open_source(data, "validation")) == {"00.png", "01.png"}


def test_bad_files_are_named_and_skipped_or_refused(tmp_path, warnings):
    _fill(tmp_path, 4)
    for kind in DAMAGES:
        (tmp_path / f"{kind}.png").write_bytes(damaged(kind))
    Image.fromarray(noise(31, 90)).save(tmp_path / "tiny.png")
    data = _settings(source="folder", path=str(tmp_path), holdout=0, hr_size=32)
    train = open_source(data, "train")
    good = {f"{i:02d}.png" for i in range(4)}
    # Damage that the header does not show is met when the picture is read.
    assert _names(train) == good
    for name in (*DAMAGES, "tiny"):
        assert any(f"{name}.png" in text for text in warnings), name
    data.on_bad = "error"
    with pytest.raises(UserError, match=r"\.png.*on_bad"):
        open_source(data, "train")
    for name in ("empty", "text", "header", "tiny"):
        (tmp_path / f"{name}.png").unlink()
    strict = open_source(data, "train")
    with pytest.raises(UserError, match=r"(short|flipped)\.png"):
        _names(strict)


def test_skipping_is_the_same_for_every_reader(tmp_path, warnings):
    _fill(tmp_path, 4)
    (tmp_path / "01.png").write_bytes(damaged("flipped"))
    data = _settings(source="folder", path=str(tmp_path), holdout=0, hr_size=32)
    one, two = open_source(data, "train"), open_source(data, "train")
    forward = [one[i]["_name"] for i in range(4)]
    backward = [two[i]["_name"] for i in reversed(range(4))][::-1]
    assert forward == backward == ["00.png", "02.png", "02.png", "03.png"]
    # A stand-in is not measured twice.
    data.path_validation = str(tmp_path)
    assert [name for name, _, _ in validation_pairs(data)] == ["00.png", "02.png", "03.png"]


def test_unusable_folders_have_clear_messages(tmp_path):
    def refused(match, split="train", **changes):
        with pytest.raises(UserError, match=match):
            open_source(_settings(**{"source": "folder", "hr_size": 32} | changes), split)

    refused("data.path")
    refused("no such file or folder", path=str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    refused("holds no pictures", path=str(tmp_path / "empty"))
    folder = str(_fill(tmp_path / "few", 3))
    refused("data.holdout=8 leaves none", path=folder)
    refused("no validation pictures", split="validation", path=folder, holdout=0)
    refused("smaller than the 64 pixels", path=folder, holdout=1, hr_size=64)
    refused("only the validation", path=folder, path_validation=folder)


def _cached(source):
    """Bytes of pictures that are held."""
    return sum(image.nbytes for _, image in source._cache.values())


def test_cache_is_bounded_and_not_pickled(tmp_path):
    _fill(tmp_path, 5, height=600, width=600)  # 1.03 MiB each
    data = _settings(source="folder", path=str(tmp_path), holdout=0, cache_mb=3)
    source = open_source(data, "train")
    first = source[0]["image"]
    assert source[0]["image"] is first
    for i in range(5):
        assert source[i]["image"].shape == (600, 600, 3)
        assert _cached(source) <= 3 * 2**20
    assert _cached(source) == 2 * first.nbytes
    assert source[0]["image"] is not first  # dropped, read anew
    assert not first.flags.writeable
    packed = pickle.dumps(source)
    assert len(packed) < 10_000
    np.testing.assert_array_equal(pickle.loads(packed)[3]["image"], source[3]["image"])
    data.cache_mb = 0
    uncached = open_source(data, "train")
    np.testing.assert_array_equal(uncached[2]["image"], source[2]["image"])
    assert _cached(uncached) == 0


def test_resize_crop_gives_whole_pictures_of_hr_size(tmp_path):
    _fill(tmp_path, 3, height=20, width=50)
    data = _settings(source="folder", path=str(tmp_path), holdout=1, crop="resize", hr_size=32)
    assert open_source(data, "train")[0]["image"].shape == (32, 32, 3)
    [(_, lr, hr)] = validation_pairs(data)
    assert (lr.shape, hr.shape) == ((8, 8, 3), (32, 32, 3))


# ---- DIV2K + Flickr2K and TFDS ------------------------------------------------------------------


def test_df2k_joins_both_sets_and_leaves_low_resolution_folders_out(tmp_path):
    _fill(tmp_path / "d" / "DIV2K_train_HR", 3)
    _fill(tmp_path / "d" / "DIV2K_train_LR_bicubic", 3)
    _fill(tmp_path / "f" / "Flickr2K_HR", 2)
    data = _settings(
        source="df2k", div2k=str(tmp_path / "d"), flickr2k=str(tmp_path / "f"), hr_size=32
    )
    data.holdout = 1
    train, validation = open_source(data, "train"), open_source(data, "validation")
    everything = {f"div2k/{i:02d}.png" for i in range(3)} | {"flickr2k/00.png", "flickr2k/01.png"}
    assert _names(train) | _names(validation) == everything
    assert (len(train), len(validation)) == (4, 1)
    _fill(tmp_path / "d" / "DIV2K_valid_HR", 2)
    assert _names(open_source(data, "train")) == everything
    assert _names(open_source(data, "validation")) == {"00.png", "01.png"}
    # The picture folders themselves may be named too.
    data.div2k, data.flickr2k = data.div2k + "/DIV2K_train_HR", data.flickr2k + "/Flickr2K_HR"
    assert len(open_source(data, "train")) == 4
    data.flickr2k = ""
    with pytest.raises(UserError, match="two folders"):
        open_source(data, "train")


@pytest.mark.parametrize(("name", "height"), [("div2k/bicubic_x4", None), ("celeb_a", 218)])
def test_real_tfds_builders_give_pictures(name, height, tmp_path):
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=4):
        data = _settings(source="tfds", name=name, data_dir=str(tmp_path), hr_size=8, scale=2)
        source = open_source(data, "train")
        record = source[1]
    assert len(source) == 4
    assert record["image"].dtype == np.uint8
    assert record["image"].shape[2] == 3
    assert height is None or record["image"].shape[0] == height
    assert record["_name"] == f"{name}:train#1"


def test_image_feature_is_named_or_refused(tmp_path):
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=2):
        data = _settings(source="tfds", name="div2k/bicubic_x4", image_key="lr", hr_size=8)
        data.scale = 2
        assert open_source(data, "train")[0]["image"].ndim == 3
        data.image_key = "nothing"
        with pytest.raises(UserError, match=r"it has (hr, lr|lr, hr)"):
            open_source(data, "train")


def test_dataset_not_prepared_gets_the_exact_command(tmp_path):
    folder = tmp_path / "my data"
    data = _settings(source="tfds", name="celeb_a", data_dir=str(folder))
    with pytest.raises(UserError) as caught:
        open_source(data, "train")
    line = str(caught.value).split("run: ")[1]
    assert shlex.split(line) == ["jaxgen", "prepare", "celeb_a", "--data-dir", str(folder)]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("celeb_b", "no dataset 'celeb_b'"),
        ("div2k/bicubic_x5", "bicubic_x5"),
        ("", "data.name"),
        ("coco_captions", "not installed"),
        ("photos/64", "the photos have no configs"),
        ("emoji/big", "give the side"),
        ("captioned_shapes/9", "give side and objects"),
    ],
)
def test_unusable_tfds_names_are_refused(name, says, tmp_path):
    if name == "coco_captions" and "tensorflow" in sys.modules:
        pytest.skip("TensorFlow is loaded, which this dataset must lack here")
    with pytest.raises(UserError, match=says):
        open_source(_settings(source="tfds", name=name, data_dir=str(tmp_path)), "train")


def test_prepared_dataset_is_read_and_splits_fall_back(tmp_path):
    folder = prepare_tfds("photos", tmp_path)
    assert folder == tmp_path / "photos" / "1.0.0"
    data = _settings(source="tfds", name="photos", data_dir=str(tmp_path))
    assert _names(open_source(data, "validation")) == {"astronaut", "chelsea"}
    split = sources._tfds_split
    assert split({"train": 1, "test": 1}, "validation", 8) == "test"
    assert split({"train": 1}, "validation", 8) == "train[-8:]"
    assert split({"train": 1}, "train", 8) == "train[:-8]"
    with pytest.raises(UserError, match="holdout"):
        split({"train": 1}, "validation", 0)


@pytest.mark.parametrize("name", ["captioned_shapes", "emoji"])
def test_drawn_datasets_lie_beside_those_of_tfds(name):
    builder = tfds_builder(name)
    assert builder.data_dir_root == tfds_builder("celeb_a").data_dir_root
    assert Path(builder.data_dir).parents[1].name == name


def test_preparing_without_network_says_so(tmp_path, monkeypatch):
    import requests
    import tensorflow_datasets as tfds

    def offline(self, **options):
        assert options == {"file_format": "array_record"}
        raise requests.exceptions.ConnectionError("Failed to resolve host")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", offline)
    with pytest.raises(UserError, match=r"no network.*jaxgen prepare celeb_a --data-dir"):
        prepare_tfds("celeb_a", tmp_path)


# ---- settings and benchmark folders -------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"source": "web"}, "data.source must be one of photos"),
        ({"crop": "center"}, "data.crop"),
        ({"degradation": "nearest"}, "data.degradation"),
        ({"on_bad": "ignore"}, "data.on_bad"),
        ({"hr_size": 98}, "96 would be"),
        ({"scale": 0}, "data.scale must be at least 1"),
        ({"workers": -1}, "data.workers"),
        ({"blur_sigma": (2.0, 1.0)}, "blur_sigma"),
    ],
)
def test_impossible_settings_are_refused(changes, says):
    with pytest.raises(UserError, match=says):
        open_source(_settings(**changes), "train")


def test_unknown_and_missing_keys_are_refused():
    data = data_lib.defaults()
    data.hr_sise = 96
    with pytest.raises(UserError, match=r"did you mean data\.hr_size"):
        data_lib.check(data)
    data = data_lib.defaults()
    del data.flip
    with pytest.raises(UserError, match=r"data\.flip is missing"):
        data_lib.check(data)


def test_benchmark_pairs_by_name_or_made(tmp_path):
    _fill(tmp_path / "HR", 2, height=41, width=62)
    gray = np.full((40, 40), 7, np.uint8)
    Image.fromarray(gray).save(tmp_path / "HR" / "g.png")
    made = list(folder_pairs(tmp_path / "HR", 4))
    assert [(n, lr.shape, hr.shape) for n, lr, hr in made] == [
        ("00.png", (10, 15, 3), (40, 60, 3)),
        ("01.png", (10, 15, 3), (40, 60, 3)),
        ("g.png", (10, 10, 3), (40, 40)),
    ]
    for name, lr, _ in made:
        stem = name.removesuffix(".png")
        write_image(tmp_path / "LR" / f"{stem}x4.png", 255 - lr)
    paired = list(folder_pairs(tmp_path, 4, "replicate"))
    assert [hr.shape for _, _, hr in paired] == [(40, 60, 3), (40, 60, 3), (40, 40, 3)]
    np.testing.assert_array_equal(paired[0][1], 255 - made[0][1])
    write_image(tmp_path / "LR" / "01x4.png", made[0][1][:, 1:])
    with pytest.raises(UserError, match=r"01x4\.png is 14x10.*needs 15x10"):
        list(folder_pairs(tmp_path, 4))
    (tmp_path / "LR" / "01x4.png").unlink()
    with pytest.raises(UserError, match=r"no picture for 01\.png"):
        list(folder_pairs(tmp_path, 4))
