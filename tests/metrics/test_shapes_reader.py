"""The reader of captioned shapes: its own error rate, and pictures that must not pass."""

import time

import numpy as np
import pytest
from scipy import ndimage

from jaxgen.data.captioned import shapes
from jaxgen.data.captioned.shapes import Claim, Scene, Spot, Thing, parse
from jaxgen.metrics.shapes_reader import judge, read

ATTRIBUTES = ("shape", "colour", "size", "place")


def spoilt(picture, blur, noise, rng):
    """Blurred by a Gaussian, with white noise added, rounded again."""
    values = picture.astype(float)
    if blur:
        values = ndimage.gaussian_filter(values, (blur, blur, 0))
    if noise:
        values = values + rng.normal(0, noise, values.shape)
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def errors(size, objects, blur, noise, count):
    """Error rates over scenes of seen and of held-out pairs."""
    rng = np.random.default_rng(0)
    scenes = [shapes.make_scene(("train", "held_out")[i % 2], i, objects) for i in range(count)]
    pictures = [spoilt(shapes.draw(s, size), blur, noise, rng) for s in scenes]
    judged = [judge(picture, scene) for picture, scene in zip(pictures, scenes, strict=True)]
    return {key: 1 - np.mean([one[key] for one in judged]) for key in judged[0]}


def scene_of(*things, place=None, ground=(240.0, 240.0, 240.0)):
    """A scene without jitter; `place` overrides the first one's position, (y, x)."""
    spots = []
    for thing in things:
        row, column = shapes.cell(thing.place)
        y, x = place if place and not spots else (shapes.CENTRES[row], shapes.CENTRES[column])
        radius = shapes.RADIUS[thing.size]
        spots.append(Spot(y, x, radius, tuple(map(float, shapes.PALETTE[thing.colour]))))
    return Scene(things, tuple(spots), ground)


# (size, blur in pixels, noise in levels, most errors of "whole"): measured values are in the
# module's table; none of the others is far above 0.
@pytest.mark.parametrize(
    ("size", "blur", "noise", "most"),
    [
        (32, 0, 0, 0.0),
        (32, 0.5, 0, 0.0),
        (32, 1.0, 0, 0.01),
        (32, 0, 8, 0.0),
        (32, 0, 16, 0.01),
        (32, 0.5, 8, 0.01),
        (32, 1.0, 16, 0.05),
        (64, 0, 0, 0.0),
        (64, 1.0, 16, 0.01),
    ],
)
def test_error_rate_on_single_objects(size, blur, noise, most):
    rates = errors(size, (1, 1), blur, noise, 250 if size == 32 else 120)
    assert rates["whole"] <= most, rates
    assert max(rates["colour"], rates["size"], rates["place"], rates["count"]) <= min(most, 0.01)


@pytest.mark.parametrize(
    ("size", "blur", "noise", "most"),
    [(32, 0, 0, 0.0), (32, 1.0, 0, 0.02), (32, 0.5, 8, 0.02), (64, 0.5, 8, 0.0)],
)
def test_error_rate_on_several_objects(size, blur, noise, most):
    rates = errors(size, (2, 3), blur, noise, 100)
    assert rates["whole"] <= most, rates


def test_reads_positions_and_radii():
    for index in range(40):
        scene = shapes.make_scene("train", index)
        found = read(shapes.draw(scene, 32)).found
        assert len(found) == 1
        spot = scene.spots[0]
        assert abs(found[0].y - spot.y) < 0.012
        assert abs(found[0].x - spot.x) < 0.012
        assert abs(found[0].radius / spot.radius - 1) < 0.06
        assert np.abs(np.subtract(found[0].rgb, spot.rgb)).max() < 25


def test_a_changed_attribute_is_judged_wrong_alone():
    """In all ways to change one attribute of some objects."""
    things = [
        Thing("circle", "red", "large", "top left"),
        Thing("square", "gray", "small", "center"),
        Thing("triangle", "cyan", "small", "bottom"),
    ]
    values = (shapes.SHAPES, shapes.COLOURS, shapes.SIZES, shapes.PLACES)
    for thing in things:
        claim = Claim((thing,))
        for name, options in zip(ATTRIBUTES, values, strict=True):
            for option in options:
                shown = Thing(**{**thing.__dict__, name: option})
                judged = judge(shapes.draw(scene_of(shown), 32), claim)
                same = option == getattr(thing, name)
                wrong = {key for key, good in judged.items() if not good}
                assert wrong == (set() if same else {name, "named", "whole"}), (thing, shown)


def test_judges_what_the_claim_says_and_no_more():
    picture = shapes.draw(scene_of(Thing("circle", "red", "large", "right")), 32)
    judged = judge(picture, parse("a large red circle"))
    keys = ("valid", "count", "shape", "colour", "size", "named", "whole")
    assert judged == dict.fromkeys(keys, True)
    assert judge(picture, parse("a blue circle on the right")) == {
        "valid": True, "count": True, "shape": True, "colour": False, "place": True,
        "named": False, "whole": False,
    }  # fmt: skip
    assert judge(read(picture), parse("a large red circle"))["whole"]


def test_relations():
    above = scene_of(
        Thing("square", "blue", "small", "top"), Thing("circle", "red", "large", "bottom")
    )
    picture = shapes.draw(above, 32)
    right = judge(picture, parse("a small blue square above a large red circle"))
    assert right["whole"]
    assert right["relation"]
    for text in (
        "a small blue square below a large red circle",
        "a small blue square left of a large red circle",
    ):
        wrong = {k for k, good in judge(picture, parse(text)).items() if not good}
        assert wrong == {"relation", "named", "whole"}, text
    # Every caption of every scene, and captions of others.
    scenes = [shapes.make_scene("train", i, (2, 3)) for i in range(25)]
    readings = [read(shapes.draw(scene, 64)) for scene in scenes]
    for scene, reading in zip(scenes, readings, strict=True):
        for text in shapes.captions(scene):
            assert judge(reading, parse(text))["whole"], text
        others = [r for s, r in zip(scenes, readings, strict=True) if s is not scene]
        claim = parse(shapes.captions(scene)[-1])
        assert not any(judge(other, claim)["whole"] for other in others)


# ---- pictures that must not pass -----------------------------------------------------------------


CLAIM = Claim((Thing("circle", "red", "large", "center"),))
CIRCLE = scene_of(CLAIM.things[0])


def test_empty_pictures_and_noise_are_invalid():
    rng = np.random.default_rng(0)
    pictures = [np.full((32, 32, 3), level, np.uint8) for level in (0, 128, 240, 255)]
    pictures += list(rng.integers(0, 256, (20, 32, 32, 3), np.uint8))
    smooth = ndimage.gaussian_filter(rng.normal(128, 900, (20, 32, 32, 3)), (0, 3, 3, 0))
    pictures += list(np.clip(smooth, 0, 255).astype(np.uint8))
    judged = [judge(picture, CLAIM) for picture in pictures]
    assert not any(one["valid"] or one["whole"] for one in judged)
    empty = judge(pictures[2], CLAIM)
    assert not any(empty.values())


def test_two_objects_where_one_is_claimed():
    two = scene_of(CLAIM.things[0], Thing("square", "blue", "small", "top left"))
    judged = judge(shapes.draw(two, 32), CLAIM)
    assert {key for key, good in judged.items() if not good} == {"count", "whole"}
    assert judged["named"]
    one = judge(shapes.draw(CIRCLE, 32), Claim(two.things))
    assert not one["named"]
    assert not one["count"]
    assert not one["whole"]


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("colours", [("red", "blue"), ("green", "cyan"), ("brown", "gray")])
def test_half_coloured_objects_are_invalid(size, colours):
    first, second = (
        shapes.draw(scene_of(Thing("circle", colour, "large", "center")), size)
        for colour in colours
    )
    for axis in (0, 1):
        half = np.indices((size, size))[axis][..., None] < size // 2
        assert not read(np.where(half, first, second)).valid


def test_other_forms_are_invalid():
    """Half a circle, a ring, a cross, a triangle upside down, an object too small or too large."""
    y, x = (np.indices((256, 256)) + 0.5) / 256 - 0.5
    y, x = y / 0.16, x / 0.16
    forms = {
        "half": (y**2 + x**2 < 1.6) & (x < 0),
        "ring": (y**2 + x**2 < 1.2) & (y**2 + x**2 > 0.25),
        "cross": ((abs(y) < 0.35) | (abs(x) < 0.35)) & (abs(x) < 1.2) & (abs(y) < 1.2),
        "upside down": (abs(y) < 1.15) & (abs(x) < (1.15 - y) / 2),
        "rectangle": (abs(y) < 0.7) & (abs(x) < 1.1),
        "too large": y**2 + x**2 < 2.2,
        "too small": y**2 + x**2 < 0.14,
    }
    for name, form in forms.items():
        share = form.astype(float).reshape(32, 8, 32, 8).mean((1, 3))[..., None]
        picture = (240 + share * (np.array(shapes.PALETTE["red"]) - 240)).astype(np.uint8)
        reading = read(picture)
        assert not reading.valid, (name, reading)


def test_other_colours_and_grounds_are_invalid():
    pink = scene_of(CLAIM.things[0])
    pink = Scene(pink.things, (Spot(0.5, 0.5, 0.16, (250.0, 140.0, 190.0)),), pink.ground)
    assert not read(shapes.draw(pink, 32)).valid
    dark = scene_of(CLAIM.things[0], ground=(60.0, 60.0, 60.0))
    assert not read(shapes.draw(dark, 32)).valid


def test_specks_are_passed_over_and_blots_are_not():
    picture = shapes.draw(CIRCLE, 32).copy()
    picture[2, 3] = picture[29, 28] = 0
    assert judge(picture, CLAIM)["whole"]
    picture[2:6, 3:7] = (90, 0, 90)
    assert not judge(picture, CLAIM)["whole"]


def test_pictures_of_another_kind_are_refused():
    for bad in (np.zeros((32, 32)), np.zeros((32, 32, 3)), np.zeros((32, 30, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"picture"):
            read(bad)


def test_reads_quickly():
    """CPU time: 500 pictures a second and more on a free core; a crowded one gets a margin."""
    pictures = [shapes.draw(shapes.make_scene("train", i), 32) for i in range(150)]
    start = time.process_time()
    for picture in pictures:
        read(picture)
    assert (time.process_time() - start) / len(pictures) < 0.01
