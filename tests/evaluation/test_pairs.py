"""jaxgen.evaluation.pairs: what zero-shot attributes and recall say of known features."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from jaxgen import config as configs
from jaxgen.data.captioned import shape_captions, shapes
from jaxgen.evaluation import pairs

VALUES = {
    "shape": shape_captions.SHAPES,
    "colour": shape_captions.COLOURS,
    "size": shape_captions.SIZES,
    "place": shape_captions.PLACES,
}


def of_things(things, blind=()):
    """Features that hold all attributes of all things but those it is blind to, of length 1."""
    parts = [
        float(getattr(thing, attribute) == value and attribute not in blind)
        for thing in things
        for attribute, values in VALUES.items()
        for value in values
    ]
    row = np.array([*parts, 1.0])
    return row / np.linalg.norm(row)


def reader(blind=()):
    """Reads captions exactly, as a perfect text tower would."""

    def texts(said):
        return np.stack([of_things(shape_captions.parse(text).things, blind) for text in said])

    return SimpleNamespace(texts=texts)


def scenes(objects, count=24):
    found = [shapes.make_scene("validation", i, objects) for i in range(count)]
    records = [{"_captions": shapes.captions(scene)} for scene in found]
    return records, np.stack([of_things(scene.things) for scene in found])


@pytest.mark.parametrize("objects", [(1, 1), (2, 2)])
def test_a_perfect_reader_tells_every_attribute_and_a_blind_one_not_its_own(objects):
    records, pictures = scenes(objects)
    assert set(pairs.attributes(reader(), records, pictures).values()) == {1.0}
    found = pairs.attributes(reader(blind=("colour",)), records, pictures)
    # Equal likeness is no answer.
    assert found == {"shape": 1, "colour": 0, "size": 1, "place": 1, "attributes": 0.75}


def test_the_other_captions_differ_in_one_attribute_alone():
    thing = shape_captions.Thing("circle", "red", "large", "top")
    for attribute, values in VALUES.items():
        first, *others = pairs._others((thing,), attribute)
        assert first == (thing,)
        assert len(others) == len(values) - 1
        for (other,) in others:
            changed = {
                f: getattr(other, f) for f in VALUES if getattr(other, f) != getattr(thing, f)
            }
            assert list(changed) == [attribute]
    second = dataclasses.replace(thing, place="bottom")
    places = [things[0].place for things in pairs._others((thing, second), "place")]
    assert "bottom" not in places, "another object is there"


def test_a_run_s_evaluation_of_known_features(monkeypatch):
    """Recall counts captions of the same meaning; the grid shows what was found."""
    config = configs.load("configs/clip.py:tiny", {"eval.captions": 16})
    image = {}

    class Perfect:
        def __init__(self, verb, nets, name):
            self.texts = reader().texts

        def pictures(self, images):
            return np.stack([image[one.tobytes()] for one in images])

    for split in ("validation", "held_out"):
        for i in range(16):
            scene = shapes.make_scene(split, i)
            image[shapes.draw(scene, 16).tobytes()] = of_things(scene.things)
    monkeypatch.setattr(pairs, "Embedder", Perfect)
    found = pairs.evaluate(config, None, {}, {}, 0)
    assert set(found.metrics.values()) == {1.0}
    assert {"texts_at_1", "pictures_at_5", "attributes", "held_out_attributes"} <= set(
        found.metrics
    )
    assert [title for title, _ in found.pictures[0]] == ["its picture", "the nearest"]
    for (_, own), (_, nearest) in found.pictures:
        np.testing.assert_array_equal(own, nearest)
