"""Sets of pictures by a model that is no `Model`, and captions judged by what they say."""

import numpy as np

from jaxgen import config as configs
from jaxgen.data.captioned import shapes
from jaxgen.data.captioned.shapes import Scene, Spot, Thing, draw, make_scene
from jaxgen.data.captioned.shapes import captions as scene_captions
from jaxgen.data.text.prompt import Prompt
from jaxgen.evaluation import captions, pictures

SIZE = 32
RED, BLUE = Thing("circle", "red", "large"), Thing("square", "blue", "small")


def scene(*places):
    """A large red circle and a small blue square at these places."""
    things = [
        Thing(thing.shape, thing.colour, thing.size, place)
        for thing, place in zip((RED, BLUE), places, strict=True)
    ]
    spots = []
    for thing in things:
        row, column = shapes.cell(thing.place)
        y, x = shapes.CENTRES[row], shapes.CENTRES[column]
        rgb = tuple(map(float, shapes.PALETTE[thing.colour]))
        spots.append(Spot(y, x, shapes.RADIUS[thing.size], rgb))
    return Scene(tuple(things), tuple(spots), (240.0, 240.0, 240.0))


class Painter:
    """Draws each caption as `paint` says; notes what was asked of it."""

    name, step = "painter", 3

    def __init__(self, paint, **data):
        self.config = configs.load("configs/dfgan.py", {f"data.{k}": v for k, v in data.items()})
        self.paint, self.asked = paint, []
        self.generate = self

    def check(self, options):
        assert options["truncation"] <= 1

    def read(self, text):
        return Prompt(np.zeros(2, np.int32), np.ones(2, bool), (text,))

    def each(self, jobs, *, seed, truncation):
        self.asked.append((len(jobs), seed, truncation))
        for prompt, number in jobs:
            yield self.paint(prompt.words[0], number), ()


def test_what_a_caption_leaves_open_is_no_mistake(monkeypatch):
    """Two objects beside each other, wherever: the scene's own places are not what was asked."""
    shown = scene("top left", "top")
    text = "a large red circle left of a small blue square"
    record = {"image": shapes.draw(shown, SIZE), "_captions": (text,), "_scene": shown}
    monkeypatch.setattr(pictures, "validation_data", lambda data, split="validation": [record] * 2)
    elsewhere = shapes.draw(scene("left", "center"), SIZE)
    painter = Painter(lambda text, number: elsewhere)
    report = pictures.evaluate_model(painter, n=4, seed=5, truncation=0.5)
    for part in ("caption_accuracy", "held_out_accuracy"):
        assert report[part]["whole"] == report[part]["relation"] == 1.0
        assert "place" not in report[part]
    # The pictures, as many of held-out captions as there are, and four of each for diversity.
    assert painter.asked == [(4, 5, 0.5), (2, 5, 0.5), (8, 5, 0.5)]
    assert report["diversity"]["pixels"] == 0.0
    assert (report["model"], report["step"]) == ("painter", 3)


def test_every_caption_has_its_turn_and_its_number():
    records = [{"_captions": ("a", "b")}, {"_captions": ("c",)}]
    jobs = []

    def draw(asked):
        jobs.extend(asked)
        return ((np.zeros((4, 4, 3), np.uint8), ()) for _ in asked)

    drawn = list(captions.draw_captions(records, 5, lambda text: text, draw))
    assert jobs == [("a", 0), ("c", 0), ("b", 1), ("c", 1), ("a", 2)]
    assert [text for text, _ in drawn] == [text for text, _ in jobs]


def test_accuracy_is_of_those_that_were_asked():
    judged = [{"valid": True, "place": False}, {"valid": False}, {"valid": True, "place": True}]
    assert captions.accuracy(judged) == {"valid": 2 / 3, "place": 0.5}
    assert captions.accuracy([]) == {}


def test_captions_of_one_and_of_two_objects_are_counted_apart():
    one, two = (make_scene("validation", 3, (n, n)) for n in (1, 2))
    texts = [scene_captions(scene)[0] for scene in (one, two)]
    pictures = [draw(scene, 32) for scene in (one, two)]
    same = [captions.judge(text, picture) for text, picture in zip(texts, pictures, strict=True)]
    swapped = captions.judge(texts[1], pictures[0])
    found = captions.accuracy([*same, swapped])
    assert (found["whole"], found["whole_1"], found["whole_2"]) == (2 / 3, 1.0, 0.5)
    assert not [key for key in captions.accuracy(same[1:]) if key.startswith("whole_")]
