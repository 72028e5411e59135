"""Exact edits: the reader tells what had to change from what had to stay."""

import dataclasses

import numpy as np
from support.tiny_ldm import tiny_ldm

from jaxgen.data.captioned.shapes import draw, make_scene
from jaxgen.evaluation.editing import CHANGES, evaluate, judge, make_edits
from jaxgen.verbs.edit.use import Edited


def redrawn(edit, **changes):
    """The edit's picture, drawn by hand with other attributes."""
    scene = make_scene("validation", edit.number)
    return draw(dataclasses.replace(scene, **changes), 32)


def test_a_perfect_edit_and_none():
    for change in CHANGES:
        edit = make_edits(change, 3, 32, real=True)[2]
        assert getattr(edit.source, change) != getattr(edit.target, change)
        same = judge(edit, Edited(edit.picture, edit.picture[None]))
        assert same == {"success": 0.0, "kept": 1.0, "both": 0.0, "outside": 0.0}
    edit = make_edits("shape", 1, 32, real=True)[0]
    perfect = judge(edit, Edited(edit.picture, redrawn(edit, things=(edit.target,))[None]))
    assert (perfect["success"], perfect["kept"], perfect["both"]) == (1.0, 1.0, 1.0)
    assert perfect["outside"] == 0


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
