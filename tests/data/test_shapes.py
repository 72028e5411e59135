"""Captioned shapes: scenes, captions and their truth, the source, and the TFDS builder."""

import itertools
import pickle
import sys

import numpy as np
import pytest

from jaxgen.data.captioned import examples, section, shapes
from jaxgen.data.captioned.shape_captions import captions as captions_of
from jaxgen.data.captioned.shape_captions import meaning as meaning_of
from jaxgen.data.captioned.shapes import Claim, Thing
from jaxgen.data.text.tokens import WordTokenizer, split_words
from jaxgen.data.tfds import prepare_tfds
from jaxgen.errors import UserError

RED = Thing("circle", "red", "large")
TOP_LEFT = Thing("circle", "red", "large", "top left")
LEFT = Thing("square", "gray", place="left")


def scenes(split="train", count=300, objects=(1, 3)):
    return [shapes.make_scene(split, i, objects) for i in range(count)]


def boxes(scene):
    """(y, x, half its side) of each object's box."""
    return [
        (s.y, s.x, s.radius * shapes.EXTENT[t.shape])
        for t, s in zip(scene.things, scene.spots, strict=True)
    ]


def test_scenes_follow_from_split_and_index():
    assert shapes.make_scene("train", 7, (1, 3)) == shapes.make_scene("train", 7, (1, 3))
    assert shapes.make_scene("train", 7) != shapes.make_scene("train", 8)
    assert shapes.make_scene("train", 7) != shapes.make_scene("validation", 7)
    counts = {len(scene.things) for scene in scenes()}
    assert counts == {1, 2, 3}


def test_held_out_pairs_are_never_trained_on():
    for split in ("train", "validation"):
        pairs = {(t.colour, t.shape) for s in scenes(split, 600) for t in s.things}
        assert pairs == set(shapes.SEEN)
    held = {(t.colour, t.shape) for s in scenes("held_out") for t in s.things}
    assert held == set(shapes.HELD_OUT)
    assert {c for c, _ in shapes.SEEN} == set(shapes.COLOURS)
    assert {s for _, s in shapes.SEEN} == set(shapes.SHAPES)


def test_no_scene_is_in_doubt():
    """Objects lie inside, apart, near their places, and sizes and colours stay apart."""
    areas = {"small": [], "large": []}
    for scene in scenes(count=400):
        for (y, x, reach), thing in zip(boxes(scene), scene.things, strict=True):
            assert reach < min(y, x, 1 - y, 1 - x)
            row, column = shapes.cell(thing.place)
            off = np.subtract((y, x), (shapes.CENTRES[row], shapes.CENTRES[column]))
            assert np.abs(off).max() <= 0.03 + 1e-9
        for (y, x, a), (v, w, b) in itertools.combinations(boxes(scene), 2):
            assert max(abs(y - v), abs(x - w)) > a + b + 0.049
        for thing, spot in zip(scene.things, scene.spots, strict=True):
            mask = shapes.coverage(thing.shape, spot.y, spot.x, spot.radius, 32)
            areas[thing.size].append(mask.sum())
            levels = np.array(list(shapes.PALETTE.values()))
            near = np.abs(levels - np.array(spot.rgb)).sum(1).argmin()
            assert shapes.COLOURS[near] == thing.colour
    assert min(areas["large"]) > 1.6 * max(areas["small"])


@pytest.mark.parametrize("shape", shapes.SHAPES)
def test_coverage_is_the_exact_area(shape):
    """Against 32x32 samples per pixel, and in the whole area."""
    fine = shapes.coverage(shape, 0.47, 0.52, 0.3, 512).reshape(16, 32, 16, 32).mean((1, 3))
    drawn = shapes.coverage(shape, 0.47, 0.52, 0.3, 16)
    np.testing.assert_allclose(drawn, fine, atol=0.07)
    side = 0.3 * shapes.EXTENT[shape] * 16
    area = {"circle": np.pi, "square": 4, "triangle": 2}[shape] * side**2
    assert abs(drawn.sum() - area) < 0.01 * area


def test_a_picture_is_the_same_at_any_resolution():
    scene = shapes.make_scene("train", 3, (3, 3))
    large = shapes.draw(scene, 128).astype(float)
    shrunk = large.reshape(32, 4, 32, 4, 3).mean((1, 3))
    assert np.abs(shrunk - shapes.draw(scene, 32)).max() < 14


# ---- captions ------------------------------------------------------------------------------------


def test_parse_is_the_inverse_of_captions():
    for scene in scenes(count=400):
        texts = shapes.captions(scene)
        assert len(texts) == len(set(texts)) >= 5
        for text in texts:
            claim = shapes.parse(text)
            assert shapes.true_of(claim, scene.things), text
            assert all(t.shape and t.colour and t.size for t in claim.things), text
            if not claim.relations:
                assert set(claim.things) == set(scene.things), text
            else:
                assert len(claim.relations) == len(scene.things) - 1, text


def test_captions_by_example():
    scene = (Thing("square", "blue", "small", "top"), Thing("circle", "gray", "large", "bottom"))
    texts = captions_of(scene)
    assert "a small blue square above a large gray circle" in texts
    assert "a big grey circle under a little blue square" in texts
    assert "there is a little blue square in the top middle and a big grey circle in the bottom " \
        "middle" in texts  # fmt: skip
    assert captions_of(scene[1:])[0] == "a large gray circle at the bottom"


KINDS = (Thing("square", "blue", "small"), RED, Thing("triangle", "gray", "small"))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_caption_is_true_of_a_scene_with_another_meaning(count):
    """By brute force over all arrangements of a few kinds of objects."""
    everything = [
        tuple(
            Thing(k.shape, k.colour, k.size, place) for k, place in zip(kinds, places, strict=True)
        )
        for kinds in itertools.permutations(KINDS, count)
        for places in itertools.combinations(shapes.PLACES, count)
    ]
    rng = np.random.default_rng(0)
    if count == 3:
        everything = [everything[i] for i in rng.choice(len(everything), 90, replace=False)]
    claims = {}
    for things in everything:
        for text in captions_of(things):
            claims.setdefault(shapes.parse(text), set()).add(meaning_of(things))
    shared = 0
    for claim, meanings in claims.items():
        assert len(meanings) == 1
        for things in everything:
            if shapes.true_of(claim, things):
                assert meaning_of(things) in meanings, (claim, things)
                shared += 1
    # Not by calling all meanings the same:
    assert len({meaning_of(things) for things in everything}) > (20 if count < 3 else 60)
    assert shared > len(claims) or count == 1


def test_meanings_by_example():
    def scene(first, second):
        return (
            Thing("square", "blue", "small", first),
            Thing("circle", "red", "large", second),
        )

    above = meaning_of(scene("top", "bottom"))
    assert meaning_of(scene("center", "bottom")) == above  # a gap or none
    assert meaning_of(scene("top left", "left")) == above
    assert meaning_of(scene("bottom", "top")) != above
    assert meaning_of(scene("left", "right")) != above
    # Not in a row or column: captions name the places only.
    diagonal = meaning_of(scene("top left", "center"))
    assert diagonal != meaning_of(scene("center", "bottom right"))
    assert 0 < above < 2**31
    corner = [Thing("triangle", "gray", "large", "bottom right")] * 3
    assert 0 < meaning_of(corner) < 2**31


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("a large red circle", Claim((RED,))),
        ("A BIG red disc!", Claim((RED,))),
        ("circle", Claim((Thing("circle"),))),
        ("a circle, large and red", Claim((RED,))),
        ("the circle is red", Claim((Thing("circle", "red"),))),
        ("one huge red disk in the upper left corner", Claim((TOP_LEFT,))),
        ("the grey square on the left of the picture", Claim((LEFT,))),
        ("a square in the centre", Claim((Thing("square", place="center"),))),
        (
            "a red circle on the left of the violet square",
            Claim((Thing("circle", "red"), Thing("square", "purple")), ((0, "left of", 1),)),
        ),
        (
            "the circle is below the square",
            Claim((Thing("circle"), Thing("square")), ((1, "above", 0),)),
        ),
        (
            "a circle left of a square and above a triangle",
            Claim(
                (Thing("circle"), Thing("square"), Thing("triangle")),
                ((0, "left of", 1), (0, "above", 2)),
            ),
        ),
        (
            "a circle left of a square, which is above a triangle",
            Claim(
                (Thing("circle"), Thing("square"), Thing("triangle")),
                ((0, "left of", 1), (1, "above", 2)),
            ),
        ),
        ("a photo of a dog", None),
        ("something large and red at the top", None),
        ("", None),
    ],
)  # fmt: skip
def test_users_words(text, claim):
    assert shapes.parse(text) == claim


def test_claims_may_leave_things_open():
    scene = (Thing("circle", "red", "large", "top"),)
    assert shapes.true_of(Claim((RED,)), scene)
    assert not shapes.true_of(Claim((Thing("circle", "red", "small"),)), scene)
    assert not shapes.true_of(Claim((RED, RED)), scene)  # all objects are named, no more


def test_vocabulary_holds_every_word_and_no_other():
    said = set()
    for split, objects in itertools.product(("train", "held_out"), ((1, 1), (2, 3))):
        for scene in scenes(split, 300, objects):
            said |= {word for text in shapes.captions(scene) for word in split_words(text)}
    assert said == set(shapes.vocabulary())
    tokenizer = WordTokenizer(shapes.vocabulary(), 40)
    assert not tokenizer.encode("a little grey circle, which is over a big cyan square").unknown


# ---- records -------------------------------------------------------------------------------------


def test_source():
    source = shapes.Shapes("train", 50, 32, (1, 2))
    record = source[11]
    assert len(source) == 50
    assert record["image"].shape == (32, 32, 3)
    assert record["image"].dtype == np.uint8
    assert record["_scene"] == shapes.make_scene("train", 11, (1, 2))
    assert record["_captions"] == shapes.captions(record["_scene"])
    assert record["meaning"] == shapes.meaning(record["_scene"])
    assert source[11]["image"] is record["image"]  # kept
    assert source[-1]["_scene"] == source[49]["_scene"]
    with pytest.raises(IndexError):
        source[50]
    again = pickle.loads(pickle.dumps(source))
    assert len(pickle.dumps(source)) < 1000
    np.testing.assert_array_equal(again[11]["image"], record["image"])
    kept_none = shapes.Shapes("train", 50, 32, (1, 2), cache_mb=0)
    assert kept_none[11]["image"] is not kept_none[11]["image"]
    np.testing.assert_array_equal(kept_none[11]["image"], record["image"])


def test_captions_with_a_relation_may_stand_more_often():
    """In training alone: the scenes' own captions stay, so that latents and codes fit both."""
    data = section.defaults()
    data.update(size=16, objects=(2, 2), count=40, relations=3)
    reader = examples.training_reader(data)
    records = shapes.open_records(data, "train")
    seen = []
    reader.read = lambda captions, rng: seen.append(captions)
    for record in records:
        reader(record["_captions"], np.random.default_rng(0))
    counts = np.zeros(2)
    for record, more in zip(records, seen, strict=True):
        once = record["_captions"]
        says = [text for text in once if shapes.parse(text).relations]
        assert once == shapes.captions(record["_scene"])
        assert more == (*once, *says, *says)
        counts += len(once), len(says)
    assert 0.1 < counts[1] / counts[0] < 0.5
    assert type(examples.caption_reader(data)) is examples.ReadTokens  # of validation
    data.relations = 1
    assert type(examples.training_reader(data)) is examples.ReadTokens


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("test", 10, 32), "splits train, validation, held_out"),
        (("train", 0, 32), "at least 1"),
        (("train", 10, 8), "16 pixels"),
        (("train", 10, 32, (0, 2)), "from 1 to 3"),
        (("train", 10, 32, (2, 4)), "from 1 to 3"),
    ],
)
def test_impossible_sources(arguments, message):
    with pytest.raises(UserError, match=message):
        shapes.Shapes(*arguments)


def test_builder(tmp_path):
    from jaxgen.data.builders import captioned_shapes

    folder = prepare_tfds("captioned_shapes/32_three_6", tmp_path)
    assert folder.parent.name == "32_three_6"
    builder = captioned_shapes.builder(tmp_path, 32, (1, 3), count=6)
    records = builder.as_data_source("held_out")
    assert len(records) == 6
    assert "tensorflow" not in sys.modules
    expected = {shapes.meaning(s): s for s in scenes("held_out", 6)}
    seen = set()
    for record in records:
        scene = expected[int(record["meaning"])]
        seen.add(scene)
        np.testing.assert_array_equal(record["image"], shapes.draw(scene, 32))
        assert tuple(text.decode() for text in record["captions"]) == shapes.captions(scene)
        named = [shapes.COLOURS[i] for i in record["objects"]["colour"]]
        assert named == [t.colour for t in scene.things]
        box = record["objects"]["box"][0]
        y, x, reach = boxes(scene)[0]
        np.testing.assert_allclose(box, [y - reach, x - reach, y + reach, x + reach], rtol=1e-5)
    assert len(seen) == 6


def test_builder_knows_its_configs(tmp_path):
    from jaxgen.data.builders import captioned_shapes

    assert captioned_shapes.builder(tmp_path).builder_config.name == "32_one"
    assert captioned_shapes.builder(tmp_path, 64, (1, 3)).builder_config.name == "64_three"
    assert captioned_shapes.builder(tmp_path, 48, (2, 3)).builder_config.name == "48_2to3"
    with pytest.raises(UserError, match="from 1 to 3"):
        captioned_shapes.builder(tmp_path, 32, (1, 9))
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match="cannot write"):
        prepare_tfds("captioned_shapes/32_one_2", file)
