"""The reader of CSS's flat scenes: what it sees is what was drawn, and what is torn is nothing."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from jaxgen.data.triplets import css2d, scenes
from jaxgen.data.triplets.css import open_split
from jaxgen.data.triplets.scenes import Thing
from jaxgen.data.triplets.section import defaults
from jaxgen.metrics.scene_reader import judge, read


def drawn(*things):
    return css2d.draw(scenes.objects(tuple(things)))


RED = Thing(0, "red", "rectangle", "large")
BLUE = Thing(4, "blue", "circle", "small")


def many(count=150):
    rng = np.random.default_rng(3)
    return [scenes.make_scene(rng, "test", 0, 9) for _ in range(count)]


@pytest.mark.parametrize(("blur", "noise"), [(0.0, 0.0), (0.5, 0.0), (0.0, 8.0)])
def test_every_scene_is_read_as_it_is(blur, noise):
    rng = np.random.default_rng(0)
    for scene in many():
        picture = css2d.draw(scenes.objects(scene)).astype(float)
        picture = ndimage.gaussian_filter(picture, (blur, blur, 0))
        picture = np.clip(picture + noise * rng.normal(size=picture.shape), 0, 255)
        assert read(picture.round().astype(np.uint8)) == (scene, ())


@pytest.mark.parametrize("side", [128, 256])
def test_an_enlarged_picture_is_read_too(side):
    for scene in many(20):
        picture = Image.fromarray(css2d.draw(scenes.objects(scene)))
        picture = picture.resize((side, side), Image.Resampling.BICUBIC)
        assert read(np.asarray(picture)).scene == scene


def test_half_an_object_is_unclear():
    picture = (drawn(RED, BLUE).astype(int) + drawn(RED)) // 2
    assert read(picture.astype(np.uint8)) == ((RED,), (4,))


@pytest.mark.parametrize("picture", [np.zeros((4, 4, 3)), np.zeros((4, 5, 3), np.uint8)])
def test_other_arrays_are_refused(picture):
    with pytest.raises(ValueError, match="picture"):
        read(picture)


def test_every_true_target_is_judged_right_and_no_source():
    data = defaults()
    data.update(scenes=40, changes=8)
    triplets = open_split(data, "test")
    numbers = {}
    for number, caption in enumerate(triplets.captions):
        numbers.setdefault(caption, number)
    for query in triplets.queries:
        source = triplets.scene(query.source)
        target = judge(read(triplets.picture(numbers[query.target])), source, query.text)
        assert target.right == target.cells, query
        assert target.edited, query
        assert target.whole, query
        kept = judge(read(triplets.picture(query.source)), source, query.text)
        assert not kept.edited, query
        assert not kept.whole, query
        assert kept.cells >= kept.right + 1, query


@pytest.mark.parametrize(
    ("text", "shown", "judged"),
    [
        ("add object", (RED, BLUE, Thing(8, "cyan", "triangle", "small")), (3, 3, True, True)),
        (
            "add red object",
            (RED, BLUE, Thing(8, "cyan", "triangle", "small")),
            (2, 3, False, False),
        ),
        ("add object", (RED, BLUE), (2, 3, False, False)),
        ("remove red cube", (BLUE,), (1, 1, True, True)),
        ("remove red cube", (RED, BLUE), (1, 2, False, False)),
        ("remove red cube", (), (0, 1, True, False)),
        ("make top-left object blue", (RED._replace(colour="blue"), BLUE), (2, 2, True, True)),
        ("make top-left object blue", (RED, BLUE), (1, 2, False, False)),
    ],
)
def test_judgements(text, shown, judged):
    assert judge(read(drawn(*shown)), (RED, BLUE), text) == judged


@pytest.mark.parametrize("text", ["a red cube", "remove green cube", "make object red"])
def test_a_text_that_names_no_single_object_is_refused(text):
    with pytest.raises(ValueError, match=r"no change|names"):
        judge(read(drawn(RED, BLUE)), (RED, BLUE), text)
