"""Exact edits: the reader tells what had to change from what had to stay."""

import dataclasses

import numpy as np
import pytest
from support.tiny_ldm import tiny_ldm

from jaxgen.data.captioned.shape_captions import Thing, cell, parse, true_of
from jaxgen.data.captioned.shapes import (
    CENTRES,
    PALETTE,
    RADIUS,
    Spot,
    draw,
    make_scene,
    possible,
)
from jaxgen.evaluation.editing import WORDS, evaluate, judge, make_edits
from jaxgen.metrics.shapes_reader import read
from jaxgen.verbs.edit.use import Edited

NOTHING = {"success": 0.0, "kept": 1.0, "both": 0.0, "outside": 0.0}
CASES = [(change, objects) for change in WORDS for objects in (1, 2)] + [("add", 2), ("remove", 2)]


def drawn(edit, things):
    """Things on the ground of the edit's scene, each in the middle of its place."""
    scene = make_scene("validation", edit.number, (2, 2))
    return draw(dataclasses.replace(scene, things=things, spots=tuple(map(spot, things))), 64)


def spot(thing):
    row, column = cell(thing.place)
    return Spot(CENTRES[row], CENTRES[column], RADIUS[thing.size], PALETTE[thing.colour])


def judged(edit, things):
    found = judge(edit, Edited(drawn(edit, edit.source), drawn(edit, things)[None]))
    return found["success"], found["kept"], found["both"]


@pytest.mark.parametrize(("change", "objects"), CASES)
def test_a_perfect_edit_and_none(change, objects):
    for edit in make_edits(change, 6, 64, True, objects):
        assert edit.source != edit.target
        same = judge(edit, Edited(edit.picture, edit.picture[None]))
        assert same == NOTHING
        assert judged(edit, edit.target) == (1, 1, 1)
        perfect = judge(edit, Edited(drawn(edit, edit.source), drawn(edit, edit.target)[None]))
        assert perfect["outside"] == 0


@pytest.mark.parametrize("change", [*WORDS, "add", "remove"])
def test_what_an_edit_does_beside_what_it_should_is_told(change):
    """Another object is the source's no more, or one is there that nobody asked for."""
    for edit in make_edits(change, 6, 64, True, objects=2):
        stays = next(thing for thing in edit.target if thing in edit.source)
        for size in ("small", "large"):
            other = dataclasses.replace(stays, size=size)
            things = tuple(other if thing == stays else thing for thing in edit.target)
            if other != stays and possible(things):
                assert judged(edit, things) == (1, 0, 0)
        third = Thing("circle", "gray", "small", "")
        for place in ("top left", "right", "bottom"):
            things = (*edit.target, dataclasses.replace(third, place=place))
            if possible(things):
                assert judged(edit, things) == (1, 0, 0)


def test_a_weighed_word_moves_the_radius_its_way():
    for edit in make_edits("weight", 8, 64, True):
        (thing,) = edit.source
        assert edit.options == {"weight": f"{thing.size}:3.0"}
        for ratio in (0.9, 1.0, 1.1):
            scene = make_scene("validation", edit.number)
            (one,) = scene.spots
            changed = dataclasses.replace(one, radius=ratio * one.radius)
            picture = draw(dataclasses.replace(scene, spots=(changed,)), 64)
            found = judge(edit, Edited(edit.picture, picture[None]))
            wanted = (ratio > 1 and thing.size == "large") or (ratio < 1 and thing.size == "small")
            assert (found["success"], found["kept"]) == (wanted, 1.0)
    blank = np.full_like(edit.picture, 240)
    assert judge(edit, Edited(edit.picture, blank[None]))["kept"] == 0


def test_edits_are_possible_and_their_texts_are_true_of_them():
    for change, objects in CASES:
        for edit in make_edits(change, 40, 16, False, objects):
            assert possible(edit.target) or change not in WORDS
            for text, things in zip(edit.texts, (edit.source, edit.target), strict=True):
                assert true_of(parse(text), things)
            lengths = {len(edit.source), len(edit.target)}
            assert lengths == ({1, 2} if change in ("add", "remove") else {objects})


def test_what_is_added_was_taken_from_a_scene_and_the_rest_lies_as_it_did():
    edit = make_edits("add", 1, 64, True)[0]
    scene = make_scene("validation", 0, (2, 2))
    assert edit.target == scene.things
    both, one = draw(scene, 64), edit.picture
    (left,) = read(one).found
    assert (left.thing,) == edit.source
    assert (both != one).any()
    same = next(one for one in read(both).found if one.thing == left.thing)
    assert np.allclose((same.y, same.x, same.radius), (left.y, left.x, left.radius), atol=1e-3)


def test_what_is_lost_is_told():
    edit = make_edits("shape", 1, 32, real=True)[0]
    blank = np.full_like(edit.picture, 240)
    gone = judge(edit, Edited(edit.picture, blank[None]))
    assert (gone["success"], gone["kept"]) == (0.0, 0.0)
    assert judge(edit, Edited(blank, blank[None])) is None


def test_edits_are_the_same_for_all_methods():
    assert [e.texts for e in make_edits("colour", 4, 16, False)] == [
        e.texts for e in make_edits("colour", 4, 16, True)
    ]


def test_a_model_is_measured():
    use = tiny_ldm().edit
    found, results = evaluate(use, make_edits("colour", 2, 16, real=True), "p2p", {})
    assert len(results) == 2
    assert found["reconstruction"] == 0
    found, _ = evaluate(use, make_edits("weight", 1, 16, real=True), "p2p", {})
    assert found["reconstruction"] == 0
