"""`model.edit` and `jaxgen edit`: what stays, batches, masks, files, mistakes of one line."""

import json

import numpy as np
import pytest
from helpers import noise
from PIL import Image
from support.tiny_ldm import tiny_ldm, tiny_ldm_config, tiny_nets

from jaxgen.data.picture_drawn import read_note
from jaxgen.errors import UserError
from jaxgen.models.ldm.edit.editing import Editing
from jaxgen.runs.model import Model
from jaxgen.verbs.edit.contract import Request

RED, BLUE, SQUARE = "a large red circle", "a large blue circle", "a large red square"


@pytest.fixture(scope="module")
def model():
    return tiny_ldm()


@pytest.fixture(scope="module")
def picture():
    return noise(16, 16)


def levels(a, b):
    return np.abs(a.astype(int) - b).max()


def test_a_drawn_source_is_what_generate_draws(model):
    found = model.edit(None, RED, BLUE, seed=3, number=2)
    drawn = model.generate(RED, seed=3, first=2)[0]
    assert levels(found.source, drawn) <= 1
    assert found.reconstruction is None
    assert levels(found.pictures[0], found.source) > 0


def test_the_same_words_change_nothing(model):
    found = model.edit(None, RED, RED)
    assert levels(found.pictures[0], found.source) == 0


def test_direct_inversion_brings_the_source_back(model, picture):
    found = model.edit(picture, RED, BLUE)
    np.testing.assert_array_equal(found.reconstruction, picture)
    assert found.error == 0
    assert model.edit(picture, RED, BLUE, inversion="ddim").error > 0


def test_batches_and_several_targets_change_nothing(model, picture):
    other = noise(16, 16, seed=1)
    requests = [
        Request(RED, (BLUE,), picture),
        Request(BLUE, (SQUARE,), other, options={"weight": "square:2", "replace": "0.3"}),
        Request(RED, (SQUARE,), other),
    ]
    together = list(model.edit.each(requests, batch=4))
    for request, found in zip(requests, together, strict=True):
        alone = next(model.edit.each([request]))
        assert levels(alone.pictures, found.pictures) <= 1
    both = model.edit(picture, RED, [BLUE, SQUARE])
    assert both.pictures.shape == (2, 16, 16, 3)
    assert levels(both.pictures[0], together[0].pictures[0]) <= 1


def test_other_settings_compile_nothing(model, picture):
    program = model.edit.method("p2p").program
    model.edit(picture, RED, BLUE)
    before = program._cache_size()
    model.edit(picture, BLUE, "a small red circle", replace="0.1-0.6,red:0.9", weight="red:-1",
               self=0.9, steps=5, guidance=4.0, negative="a square")  # fmt: skip
    assert program._cache_size() == before


def test_outside_of_a_mask_the_picture_stays(model, picture):
    mask = np.zeros((16, 16), bool)
    mask[4:9, 5:11] = True
    for method in ("p2p", "masactrl"):
        found = model.edit(picture, RED, BLUE, mask=mask, method=method).pictures[0]
        np.testing.assert_array_equal(found[~mask], picture[~mask])
        assert levels(found[mask], picture[mask]) > 0


def test_weights_and_blends_act(model):
    plain = model.edit(None, RED, BLUE).pictures
    assert levels(model.edit(None, RED, BLUE, weight="blue:-3").pictures, plain) > 0
    nowhere = model.edit(None, RED, BLUE, blend="circle", blend_above=1.0, blend_from=0)
    assert levels(nowhere.pictures[0], nowhere.source) == 0
    everywhere = model.edit(None, RED, BLUE, blend="red:blue", blend_above=0, blend_from=0)
    assert levels(everywhere.pictures, plain) == 0
    without = model.edit(
        None, RED, BLUE, blend_without="circle", blend_without_above=0, blend_from=0
    )
    assert levels(without.pictures[0], without.source) == 0


def test_the_original_form_differs_where_words_shift(model):
    longer = "a very large blue circle"
    ours = model.edit(None, RED, longer, replace="1.0").pictures
    theirs = model.edit(None, RED, longer, replace="1.0", kind="refine", original=1).pictures
    assert levels(ours, theirs) > 0
    with pytest.raises(UserError, match="replaces equally many alone"):
        model.edit(None, RED, longer, original=1)


def test_maps_of_words(model):
    found = model.edit(None, RED, BLUE, attention=True)
    assert [[word for word, _ in row] for row in found.maps] == [RED.split(), BLUE.split()]
    for _, seen in (one for row in found.maps for one in row):
        assert seen.ndim == 2
        assert 0 <= seen.min() < seen.max() <= 1


def test_pictures_of_another_size_are_fitted(model):
    with_other = model.edit(noise(31, 20), RED, BLUE)
    assert with_other.source.shape == with_other.pictures[0].shape == (16, 16, 3)


MISTAKES = {
    "a word to weigh": ({"weight": "gren:2"}, "weight: the word 'gren' is in no target"),
    "a word to blend": (
        {"blend": "square:blue"},
        "the word 'square' is not in 'a large red circle'",
    ),
    "a word to replace": ({"replace": "0.4,dog:1"}, "replace: the word 'dog' is in no target"),
    "shares": ({"replace": "2"}, "give shares of the steps from 0 to 1"),
    "an option": ({"repalce": "1"}, "no option 'repalce'"),
    "a method": ({"method": "p2q"}, "no method 'p2q'; ldm edits by p2p"),
    "an inversion": ({"inversion": "d"}, "the inversion must be one of direct"),
    "a part of a step": ({"method": "masactrl", "steps": 2.5}, "the steps must be a whole number"),
    "a step that is no number": ({"steps": True}, "the steps must be a finite number, not True"),
    "more than a device counts": ({"steps": 10**400}, "at most 1000, not 1000000"),
    "guidance without an end": ({"guidance": 1e30}, "the guidance must be at least 0 and at most"),
    "a text that is none": ({"negative": None}, "the negative must be a text, not None"),
    "weights that overflow": ({"weight": "blue:1e38"}, "give no picture: take smaller guidance"),
    "a mask of nothing": ({"mask": np.ones((16, 16), bool)}, "a mask is of a picture"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(model, case):
    options, says = MISTAKES[case]
    with pytest.raises(UserError) as error:
        model.edit(None, RED, BLUE, **options)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_mistakes_of_texts_and_pictures(model, picture):
    for call, says in (
        (lambda: model.edit(None, RED, " ".join(["red"] * 40)), "longer than the 12 tokens"),
        (lambda: model.edit(None, RED), "say what the picture shows, and then"),
        (lambda: model.edit(None, RED, "a (red:2) circle"), "weight"),
        (lambda: model.edit(picture, RED, BLUE, mask=np.ones((8, 8), bool)), "the same size"),
        (lambda: model.edit(picture, BLUE, method="pnp", attention=True), "no maps of words"),
        (lambda: model.edit(None, BLUE, method="pnp"), "edits a picture: give one"),
        (lambda: model.edit(np.zeros((16, 16)), RED, BLUE), "uint8 (h, w, 3)"),
    ):
        with pytest.raises(UserError) as error:
            call()
        assert says in str(error.value)
        assert "\n" not in str(error.value)


def test_models_without_words_say_so():
    config = tiny_ldm_config(model__condition="none", model__drop_condition=0.0)
    found = Model("plain", config, tiny_nets(config), step=1)
    with pytest.raises(UserError, match="plain does not edit by p2p: it is asked for by none"):
        found.edit(None, RED, BLUE)
    config = tiny_ldm_config(model__denoiser__middle_attention=False)
    found = Model("blind", config, tiny_nets(config), step=1)
    with pytest.raises(UserError, match="its denoiser attends to no words"):
        found.edit(None, RED, BLUE)


def test_a_model_that_is_loaded_does_not_look_at_its_layers(monkeypatch):
    """That takes seconds of a large net, and `generate` needs none of it."""
    monkeypatch.setattr(Editing, "layers", property(lambda self: pytest.fail("looked")))
    found = Model("ldm", (config := tiny_ldm_config()), tiny_nets(config), step=1)
    assert "p2p" in found.edit.verb.methods


def test_a_flow_of_x0_is_not_inverted(picture):
    config = tiny_ldm_config(model__target="x0")
    found = Model("ldm", config, tiny_nets(config), step=1)
    for call in (
        lambda: found.edit(picture, RED, BLUE),
        lambda: found.edit(picture, RED, BLUE, inversion="negative"),
        lambda: found.edit(picture, RED, BLUE, method="diffedit"),
        lambda: found.edit(picture, BLUE, method="pnp"),
    ):
        with pytest.raises(UserError, match="says x0 cannot be inverted"):
            call()


# ---- the command ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return model.export(tmp_path_factory.mktemp("edit") / "ldm")


def test_the_command_writes_result_sheet_and_maps(folder, jaxgen_command, tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "in.png")
    code, out, err = jaxgen_command(
        "edit", "in.png", RED, BLUE, "--model", folder, "-o", "out.png", "--show-attention",
        "--replace", "0.5", "--option", "self_limit=16",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "reconstruction: mean squared error 0.000" in out
    said = json.loads(read_note(tmp_path / "out.png"))
    assert (said["source"], said["target"], said["method"]) == (RED, BLUE, "p2p")
    assert said["options"] == {"replace": "0.5", "self_limit": 16}
    assert said["picture"] == "in.png"
    assert (tmp_path / "out_sheet.png").exists()
    assert (tmp_path / "out_attention.png").exists()
    code, _, err = jaxgen_command("edit", "in.png", RED, BLUE, "--model", folder, "-o", "out.png")
    assert (code, err) == (2, "error: out.png exists; give --overwrite to replace it\n")
    for arguments, says in (
        (["in.png", RED], "is what the picture shows; say also what it shall show"),
        (["gone.png", RED, BLUE], "gone.png"),
        ([RED, BLUE, SQUARE, "-o", "x.png"], "2 targets need a folder"),
    ):
        code, _, err = jaxgen_command("edit", *arguments, "--model", folder)
        assert code == 2
        assert says in err


def test_a_list_goes_on_where_it_stopped(folder, jaxgen_command, tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "in.png")
    lines = [
        {"name": "one", "picture": "in.png", "source": RED, "target": BLUE},
        {"source": RED, "target": [BLUE, SQUARE], "seed": 4, "replace": "0.5"},
        {"picture": "in.png", "target": BLUE, "method": "pnp"},
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    arguments = ("edit", "--list", "list.jsonl", "--model", folder, "-o", "out")
    code, _, err = jaxgen_command(*arguments)
    assert (code, err) == (0, "")
    found = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert "one.png" in found
    assert sum("sheet" in name for name in found) == 3
    assert len(found) == 7
    before = (tmp_path / "out" / "one.png").read_bytes()
    (tmp_path / "out" / "one.png").unlink()
    code, out, _ = jaxgen_command(*arguments)
    assert code == 0
    assert "2 of 3 were there already" in out
    assert (tmp_path / "out" / "one.png").read_bytes() == before


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 1: no JSON"),
        ('["a"]', "line 1: write an object"),
        ('{"source": "a"}', "say what it shall show: target"),
        ('{"source": "a", "target": 3}', "target is 3, of another type"),
        ('{"target": "a", "name": "../x"}', "is none of a file"),
        ('{"target": "a", "name": "' + 300 * "x" + '"}', "is too long"),
        ('{"target": "a", "name": "a\\u0000"}', "is none of a file"),
        ('{"target": "a", "seed": true}', "seed is True, of another type"),
        ('{"target": "a", "steps": ' + 5000 * "9" + "}", "no JSON"),
        (5000 * '{"a":', "no JSON"),
        ('{"target": "a", "picture": "none.png"}', "none.png"),
        ("", "holds no edits"),
    ],
)
def test_lists_that_cannot_be_read(tmp_path, line, says):
    from jaxgen.verbs.edit.files import read_list

    (tmp_path / "list.jsonl").write_text(line)
    with pytest.raises(UserError) as error:
        read_list(tmp_path / "list.jsonl", Request("", ()))
    assert says in str(error.value)
