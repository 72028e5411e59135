"""Procedural scenes and their captions: ambiguous without the prompt, decided by it."""

import numpy as np
import pytest

from jaxgen.data import pipeline
from jaxgen.data.resize import imresize
from jaxgen.data.scenes import drawing, examples
from jaxgen.data.text.tokens import (
    PAD,
    SPECIAL,
    START,
    UNKNOWN,
    WordTokenizer,
    complaint,
    only_start,
    split_words,
)
from jaxgen.errors import UserError


def data(**changes):
    config = examples.defaults()
    config.update(changes)
    return config


def shrunk(scene):
    return imresize(drawing.draw(scene), scale=1 / 4).astype(int)


@pytest.mark.parametrize("size", [48, 64, 100])
def test_low_resolution_does_not_tell_the_textures(size):
    """At most 2 levels between any textures of one layout, where the originals differ by far."""
    rng = np.random.default_rng(0)
    far = []
    for index in range(12):
        scene = drawing.make_scene("train", index, size)
        count = len(scene.textures)
        scenes = [drawing.other_textures(scene, rng) for _ in range(3)]
        # Every texture on every patch.
        scenes += [drawing.Scene(scene.layout, (t,) * count) for t in drawing.TEXTURES]
        low = np.stack([shrunk(s) for s in scenes])
        assert (low.max(axis=0) - low.min(axis=0)).max() <= 2
        high = [drawing.draw(s).astype(float) for s in (scene, scenes[0])]
        far.append(np.sqrt(np.square(high[0] - high[1]).mean()))
    # Root mean square over the whole picture, ground included.
    assert min(far) > 15
    assert np.mean(far) > 25


def test_low_resolution_shows_colours_and_places():
    scene = drawing.make_scene("train", 0, 64)
    other = drawing.make_scene("train", 1, 64)
    assert np.abs(shrunk(scene) - shrunk(other)).max() > 30
    for patch in scene.layout.patches:
        assert len({p.colour for p in scene.layout.patches}) == len(scene.layout.patches)
        # On the low-resolution grid and inside the margin.
        for low, length in ((patch.top, patch.height), (patch.left, patch.width)):
            assert low % 4 == length % 4 == 0
            assert 4 <= low < low + length <= 60


def test_textures_have_equal_mean_and_contrast():
    for texture in drawing.TEXTURES:
        tile = drawing.tile(texture)
        assert abs(tile.mean()) < 1e-12
        assert tile.std() == pytest.approx(0.0 if texture == "plain" else 1.0)
    distinct = {drawing.tile(t).tobytes() for t in drawing.TEXTURES}
    assert len(distinct) == len(drawing.TEXTURES)


def test_scenes_follow_from_their_index_and_splits_are_apart():
    train = [drawing.make_scene("train", i, 64) for i in range(300)]
    held = [drawing.make_scene("validation", i, 64) for i in range(100)]
    assert train[7] == drawing.make_scene("train", 7, 64)
    assert not any(drawing.held_out(s.layout.arrangement, s.textures) for s in train)
    several = [s for s in held if len(s.textures) > 1]
    assert all(drawing.held_out(s.layout.arrangement, s.textures) for s in several)
    shown = {(s.layout.arrangement, s.textures) for s in train}
    assert not shown & {(s.layout.arrangement, s.textures) for s in several}
    # Every arrangement comes, and every texture.
    assert len({s.layout.arrangement for s in train}) == 5
    assert {t for s in train for t in s.textures} == set(drawing.TEXTURES)


def test_another_scene_of_the_same_layout_differs_in_every_texture():
    rng = np.random.default_rng(0)
    for index in range(30):
        scene = drawing.make_scene("validation", index, 64)
        other = drawing.other_textures(scene, rng)
        assert other.layout == scene.layout
        assert not set(other.textures) & set(scene.textures)


def test_captions_are_made_of_known_words_and_fit():
    config = data()
    tokenizer = WordTokenizer(config.vocabulary, config.prompt_length)
    rng = np.random.default_rng(0)
    texts = set()
    for index in range(400):
        scene = drawing.make_scene("train", index, 64)
        text, named = drawing.caption(scene, rng, leave_out=0.5)
        assert named <= set(scene.textures)
        for said in (text, drawing.usual_caption(scene)):
            prompt = tokenizer.encode(said)
            assert not prompt.unknown
            assert not prompt.cut
        texts.add(text)
    assert len(texts) > 250


def test_caption_says_which_texture_is_where():
    layout = next(
        s.layout
        for s in (drawing.make_scene("train", i, 64) for i in range(50))
        if s.layout.arrangement == "columns"
    )
    scene = drawing.Scene(layout, ("dots", "checks"))
    assert drawing.usual_caption(scene) == "dots on the left, checks on the right"
    rng = np.random.default_rng(0)
    red = layout.patches[0].colour
    said = {drawing.caption(scene, rng)[0] for _ in range(300)}
    assert any("left: dots" in text for text in said)
    assert any(f"spots on the {red} patch" in text for text in said)
    assert any(text.startswith("right: checks") for text in said)


def test_examples_take_prompts_away_as_often_as_told():
    config = data(count=64, prompt_dropout=0.25, hr_size=48)
    dataset = pipeline.train_dataset(*examples.train_data(config), batch_size=256, seed=0)
    batch = dataset[0]
    assert batch["lr"].shape == (256, 12, 12, 3)
    assert batch["hr"].shape == (256, 48, 48, 3)
    assert batch["tokens"].dtype == np.int32
    assert batch["mask"].dtype == bool
    empty = batch["mask"].sum(axis=1) == 1
    assert 0.15 < empty.mean() < 0.35
    np.testing.assert_array_equal(empty, batch["meaning"] == 0)
    tokens, mask = only_start(config.prompt_length)
    np.testing.assert_array_equal(batch["tokens"][empty], np.tile(tokens, (empty.sum(), 1)))
    np.testing.assert_array_equal(batch["mask"][empty], np.tile(mask, (empty.sum(), 1)))
    again = pipeline.train_dataset(*examples.train_data(config), batch_size=256, seed=0)[0]
    for key, value in batch.items():
        np.testing.assert_array_equal(value, again[key], err_msg=key)


def test_lr_of_an_example_is_its_shrunk_original():
    records, _ = examples.train_data(data(count=4))
    record = records[2]
    np.testing.assert_array_equal(record["lr"], imresize(record["hr"], scale=1 / 4))


def test_equal_meaning_goes_with_equal_textures():
    make = examples.MakeExample(data(prompt_dropout=0.0, partial=0.0))
    record = {"lr": 0, "hr": 0, "_scene": drawing.make_scene("train", 3, 64)}
    rng = np.random.default_rng(0)
    made = [make(record, rng) for _ in range(20)]
    assert len({bytes(e["tokens"]) for e in made}) > 5  # phrasings
    assert len({int(e["meaning"]) for e in made}) == 1
    other = {**record, "_scene": drawing.other_textures(record["_scene"], rng)}
    assert make(other, rng)["meaning"] != made[0]["meaning"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source": "folder"}, "scenes"),
        ({"scale": 2}, "data.scale must be 4"),
        ({"hr_size": 50}, "multiple of 4"),
        ({"hr_size": 40}, "at least 48"),
        ({"count": 0}, "data.count"),
        ({"partial": 1.5}, "data.partial"),
        ({"workers": -1}, "data.workers must be at least 0"),
    ],
)
def test_impossible_settings_are_named(change, said):
    with pytest.raises(UserError, match=said):
        examples.check(data(**change))


def test_unknown_key_is_named_with_the_nearest():
    config = data()
    with config.unlocked():
        config.prompt_lenght = 3
    with pytest.raises(UserError, match=r"did you mean data\.prompt_length\?"):
        examples.check(config)


def test_missing_key_is_named():
    config = data()
    del config.partial
    with pytest.raises(UserError, match=r"data\.partial is missing; start from jaxgen"):
        examples.check(config)


# ---- the tokenizer -------------------------------------------------------------------------------


def test_words_and_commas_are_split_and_lowered():
    assert split_words("Dots, on THE left:checks!") == ["dots", ",", "on", "the", "left", "checks"]
    assert split_words("well-lit  d'or é1") == ["well-lit", "d'or", "é1"]
    assert split_words(" ...") == []


def test_encoding_marks_start_words_and_padding():
    tokenizer = WordTokenizer(("dots", "left"), 5)
    assert tokenizer.size == len(SPECIAL) + 2
    prompt = tokenizer.encode("Left dots")
    np.testing.assert_array_equal(prompt.tokens, [START, 4, 3, PAD, PAD])
    np.testing.assert_array_equal(prompt.mask, [True, True, True, False, False])
    assert prompt.words == ("left", "dots")
    assert complaint(prompt) == ""
    empty = tokenizer.encode("  ")
    for ours, theirs in zip((empty.tokens, empty.mask), only_start(5), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_unknown_and_cut_words_are_reported_not_dropped():
    tokenizer = WordTokenizer(("stripes", "dots", "left"), 4)
    prompt = tokenizer.encode("strips zebra dots left left")
    np.testing.assert_array_equal(prompt.tokens, [START, UNKNOWN, UNKNOWN, 4])
    assert prompt.unknown == {"strips": ("stripes",), "zebra": ()}
    assert prompt.cut == ("left", "left")
    line = complaint(prompt)
    assert "strips (nearest: stripes)" in line
    assert "zebra" in line
    assert "left out: left left" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("vocabulary", "length"),
    [((), 4), (("a", "a"), 4), (("Two words",), 4), (("a",), 1)],
)
def test_impossible_vocabularies_are_refused(vocabulary, length):
    with pytest.raises(UserError):
        WordTokenizer(vocabulary, length)
