"""Triplets of composed retrieval: CSS's scenes and file, and the data sets' own rules."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from jaxgen.data.triplets import (
    cirr,
    css,
    css2d,
    examples,
    fashion200k,
    fashion_iq,
    mit_states,
    npy,
    scenes,
    section,
)
from jaxgen.errors import UserError


@pytest.fixture
def folder(fixtures_dir):
    return fixtures_dir / "retrieval"


def data(**changes):
    found = section.defaults()
    found.update(changes)
    return found


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), "red").save(path)


def test_flat_scenes_are_the_original_s_to_the_bit(folder):
    golden = np.load(folder / "css2d.npz")
    drawn = 0
    for scene, image, valid in zip(
        json.loads(str(golden["info"]))["scenes"],
        golden["images_uint8"],
        golden["valid"],
        strict=True,
    ):
        if valid:
            np.testing.assert_array_equal(css2d.draw(scene), image)
            drawn += 1
        else:
            with pytest.raises(UserError, match="reaches below the picture"):
                css2d.draw(scene)
    assert drawn == 119
    with pytest.raises(UserError, match="is no object of a CSS scene"):
        css2d.draw([{"color": "pink", "shape": "circle", "size": "small", "pos": [0.5, 0.5]}])


def test_css_s_file_is_read_without_running_it(folder, tmp_path):
    golden = json.loads(str(np.load(folder / "css2d.npz")["info"]))
    for version in (2, 3):
        held = npy.read(folder / f"css2d_example_py{version}.npy")
        for split in ("train", "test"):
            found = css.CSS(held[split], split, "2d", 64)
            wanted = golden[split]
            listed = wanted["captions"]
            assert found.captions[: len(listed)] == listed
            assert [(q.source, q.target, q.text) for q in found.queries] == [
                (q["source_img_id"], q["target_caption"], q["mod"]["str"])
                for q in wanted["queries"]
            ]
    npy.write(tmp_path / "again.npy", held)
    assert npy.read(tmp_path / "again.npy") == held
    theirs = np.load(tmp_path / "again.npy", allow_pickle=True).item()
    assert theirs["train"]["mods"] == held["train"]["mods"]


class _Evil:
    def __reduce__(self):
        return os.system, ("touch was_run",)


def test_a_pickle_that_calls_code_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("evil.npy", np.array({"train": _Evil()}, dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"was not opened: it asks for \w+.system"):
        npy.read("evil.npy")
    assert not (tmp_path / "was_run").exists()
    (tmp_path / "half.npy").write_bytes((tmp_path / "evil.npy").read_bytes()[:-9])
    for name, what in (("half.npy", "not opened|no file of CSS"), ("none.npy", "cannot read")):
        with pytest.raises(UserError, match=what):
            npy.read(name)


@pytest.fixture(scope="module")
def split():
    return css.open_split(data(scenes=60, changes=8), "test")


def test_a_text_leads_from_a_scene_to_its_target(split):
    assert len(split.queries) == 60 * 8
    numbers = {caption: number for number, caption in enumerate(split.captions)}
    assert {query.kind for query in split.queries} == {"add", "remove", "change"}
    for query in split.queries:
        right = scenes.answers(split.scene(query.source), query.text, "test")
        assert split.scene(numbers[query.target]) in right, query.text
        if query.kind != "add":
            assert len(right) == 1, query.text
    ceiling = split.ceiling((1, 5))
    assert 0.6 < ceiling[1] < ceiling[5] <= 1


def test_splits_show_different_pairs_and_every_word_is_learned(split):
    train = css.open_split(data(scenes=60, changes=8), "train")

    def pairs(one):
        return {(thing.colour, thing.shape) for i in range(200) for thing in one.scene(i)}

    assert not pairs(train) & {*scenes.HELD_OUT}
    assert not pairs(split) & {*scenes.SEEN_ALONE}
    assert pairs(split) & {*scenes.HELD_OUT}
    assert 0.2 < split.held_out().mean() < 0.8
    for one in (0, 1):
        assert {pair[one] for pair in scenes.PAIRS["train"]} == {
            p[one] for p in scenes.PAIRS["test"]
        }


def test_scenes_go_through_the_published_layout(split, tmp_path):
    small = css.open_split(data(scenes=3, changes=2), "train")
    css.write_published(tmp_path, {"train": small})
    again = css.open_split(data(path=str(tmp_path), render="files"), "train")
    assert again.queries == small.queries
    np.testing.assert_array_equal(again.picture(4), small.picture(4))
    with pytest.raises(UserError, match="has no split test"):
        css.open_split(data(path=str(tmp_path)), "test")
    with pytest.raises(UserError, match=r"data\.render=files needs data\.path"):
        section.check(data(render="files"))


def test_shaded_pictures_differ_from_time_to_time_and_show_their_colours():
    shaded = css.open_split(data(scenes=20, changes=2, render="shaded"), "train")
    one, other = shaded.picture(3), shaded.picture(3, source=True)
    np.testing.assert_array_equal(one, shaded.picture(3))
    assert np.abs(one.astype(int) - other).max() > 20, "an equal picture would stand in the gallery"
    for thing in shaded.scene(3):
        colour = np.array(css2d.COLOURS[thing.colour]) / 255.0
        flat = one / np.maximum(one.max(axis=2, keepdims=True), 1)
        near = np.abs(flat - colour / colour.max()).max(axis=2) < 0.08
        assert near.sum() >= 8, thing
    mixed = css.open_split(data(scenes=20, changes=2, render="2d_to_shaded"), "train")
    np.testing.assert_array_equal(mixed.picture(3, source=True), css2d.draw(mixed.objects[3]))
    np.testing.assert_array_equal(mixed.picture(3), one)


def test_the_split_that_is_trained_on_can_be_larger_than_the_test_s():
    trained, test = (css.open_split(data(scenes=4, train_scenes=9), name) for name in css.SPLITS)
    assert (len(trained), len(test)) == (9, 4)
    assert test.captions == css.open_split(data(scenes=4), "test").captions


def test_examples_hold_different_changes_of_one_picture():
    settings = data(scenes=10, changes=4, per_source=3)
    triplets = css.open_split(settings, "train")
    make = examples.MakeExample(settings, triplets)
    example = make(2, np.random.default_rng(0))
    assert example["source"].shape == (64, 64, 3)
    assert example["target"].shape == (3, 64, 64, 3)
    assert example["tokens"].shape == example["mask"].shape == (3, settings.length)
    assert len({target.tobytes() for target in example["target"]}) == 3


def test_fashion200k_asks_as_the_original(folder, tmp_path):
    golden = json.loads((folder / "tirg_f200k_mini.json").read_text())
    (tmp_path / "labels").mkdir()
    for name, lines in golden["label_files"].items():
        (tmp_path / "labels" / name).write_text("\n".join(lines) + "\n")
        for line in lines:
            picture(tmp_path / line.split("\t")[0])
    pairs = golden["test_queries_txt"]
    (tmp_path / "test_queries.txt").write_text("".join(f"{a} {b}\n" for a, b in pairs))
    settings = data(source="fashion200k", path=str(tmp_path))
    train = fashion200k.open_split(settings, "train")
    assert train.captions == golden["train"]["captions"]
    assert train.parents == golden["train"]["parent_captions"]
    assert train.children == golden["train"]["parent2children"]
    changeable = [i for i, yes in enumerate(golden["train"]["modifiable"]) if yes]
    assert len(train) == len(changeable)
    rng = np.random.default_rng(0)
    for reachable in golden["train"]["reachable_targets"]:
        wanted = {(target, text) for target, _, _, text in reachable["reachable"]}
        index = changeable.index(reachable["source"])
        drawn = {(i.target, i.text) for i in train.draw(index, 200, rng)}
        assert drawn == wanted
    for one in golden["different_word"]:
        assert list(fashion200k.different_word(one["source"], one["target"])) == one["result"]
    test = fashion200k.open_split(settings, "test")
    assert [(q.source, q.target, q.text) for q in test.queries] == [
        (q["source_img_id"], q["target_caption"], q["mod"]["str"])
        for q in golden["test"]["queries"]
    ]
    (tmp_path / pairs[0][0]).unlink()
    assert len(fashion200k.open_split(settings, "test").queries) == len(pairs) - 2
    settings.on_bad = "error"
    with pytest.raises(
        UserError, match=r"1 of 5 pictures of Fashion200k's test are missing: .*1_0"
    ):
        fashion200k.open_split(settings, "test")


def test_mit_states_asks_as_the_original(folder, tmp_path):
    golden = json.loads((folder / "tirg_mitstates_mini.json").read_text())
    for name, files in golden["folders"].items():
        for file in files:
            picture(tmp_path / "images" / name / file)
    # What stops the original is passed over.
    picture(tmp_path / "images" / "very old car" / "1.jpg")
    (tmp_path / "images" / "old car" / "notes.txt").write_text("none")
    settings = data(source="mit_states", path=str(tmp_path))
    for name in ("train", "test"):
        split, wanted = mit_states.open_split(settings, name), golden[name]
        assert split.names == wanted["files"]
        assert split.captions == wanted["captions"]
        assert split.adjectives == wanted["noun2adjs"]
    assert [(q.source, q.target, q.text) for q in split.queries] == [
        (q["source_img_id"], q["target_caption"], q["mod"]["str"]) for q in wanted["queries"]
    ]
    first, second = split.draw(0, 2, np.random.default_rng(0))
    assert first.source == second.source
    assert first.text != second.text
    assert len(mit_states.TEST_NOUNS) == 49


def test_fashion_iq_has_two_galleries(data_dir, tmp_path):
    home = data_dir / "tirg" / "fashion_iq"
    for name in ("captions", "image_splits"):
        (tmp_path / name).symlink_to(home / name)
    listed = json.loads((home / "image_splits" / "split.dress.val.json").read_text())
    (tmp_path / "images").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "one.png")
    for name in listed:
        (tmp_path / "images" / f"{name}.png").symlink_to(tmp_path / "one.png")
    settings = data(source="fashion_iq", path=str(tmp_path), category="dress")
    split = fashion_iq.open_split(settings, "val")
    assert (len(split.captions), len(split.queries)) == (3817, 2017)
    assert split.keep_source
    assert "data.gallery=split" in split.rules
    assert split.queries[0].text == "Is shiny and silver with shorter sleeves and fit and flare"
    settings.gallery = "captions"
    named = fashion_iq.open_split(settings, "val")
    assert len(named.captions) < 3817
    assert len(named.queries) == 2017
    (tmp_path / "images" / f"{named.names[0]}.png").unlink()
    assert len(fashion_iq.open_split(settings, "val").captions) == len(named.captions) - 1


def test_cirr_has_subsets_and_hides_targets_of_test1(data_dir, tmp_path):
    home = data_dir / "tirg" / "cirr"
    for name in ("captions", "image_splits"):
        (tmp_path / name).symlink_to(home / name)
    settings = data(source="cirr", path=str(tmp_path))
    with pytest.raises(UserError, match="2297 of 2297 pictures of CIRR's val are missing"):
        cirr.open_split(settings, "val")
    Image.new("RGB", (9, 9)).save(tmp_path / "one.png")
    for split in ("val", "test1"):
        listed = json.loads((home / "image_splits" / f"split.rc2.{split}.json").read_text())
        for path in listed.values():
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).symlink_to(tmp_path / "one.png")
    found = cirr.open_split(settings, "val")
    assert (len(found.captions), len(found.queries)) == (2297, 4181)
    assert all(len(query.subset) == 6 for query in found.queries)
    hidden = cirr.open_split(settings, "test1")
    assert (len(hidden.captions), len(hidden.queries)) == (2315, 4148)
    assert not any(query.target for query in hidden.queries)
    with pytest.raises(UserError, match="cannot be read"):
        cirr.open_split(settings, "train")


def test_settings_that_cannot_be_are_one_line():
    with pytest.raises(UserError, match=r"data\.source must be one of .*css.*; did you mean css"):
        section.check(data(source="csss"))
    with pytest.raises(UserError, match=r"set data\.per_source=1"):
        section.check(data(source="cirr"))
    with pytest.raises(UserError, match=r"needs data\.path"):
        cirr.open_split(data(source="cirr"), "val")
