"""What is found of a picture is kept and used again; strips of an option's values."""

import jax
import numpy as np
import pytest
from helpers import noise
from PIL import Image
from support.tiny_ldm import tiny_ldm_config, tiny_nets

from jaxgen.errors import UserError
from jaxgen.runs.model import Model
from jaxgen.verbs.edit.contract import Request
from jaxgen.verbs.edit.found import Found
from jaxgen.verbs.edit.sweep import read, strip, sweep

RED, BLUE, SQUARE = "a large red circle", "a large blue circle", "a large red square"
QUICK = {"steps": 4}
LEARN = {"learn_steps": 3, "tune_steps": 3, "times": 2, "steps": 3, "rank": 2}


def made(seed=0):
    config = tiny_ldm_config(model__target="eps", model__schedule__kind="scaled-linear")
    return Model("ldm", config, tiny_nets(config, seed), step=4)


@pytest.fixture(scope="module")
def model():
    return made()


@pytest.fixture(scope="module")
def picture():
    return noise(16, 16)


def levels(a, b):
    return np.abs(a.astype(int) - b).max()


@pytest.mark.parametrize("inversion", ["direct", "null-text", "ddpm"])
def test_an_inversion_that_was_kept_edits_alike(model, picture, tmp_path, inversion):
    options = {**QUICK, "inversion": inversion}
    first = model.edit(picture, RED, BLUE, keep=True, **options)
    first.found.save(tmp_path / "kept.safetensors")
    again = model.edit(picture, RED, BLUE, inversion=str(tmp_path / "kept.safetensors"))
    assert levels(again.pictures, first.pictures) <= 1
    assert levels(again.reconstruction, first.reconstruction) <= 1
    if inversion == "direct":
        other = model.edit(picture, RED, BLUE, method="masactrl", found=first.found)
        alone = model.edit(picture, RED, BLUE, method="masactrl", **options)
        assert levels(other.pictures, alone.pictures) <= 1


def test_edit_friendly_noise_without_control_is_the_method_ddpm(model, picture):
    ours = model.edit(picture, RED, BLUE, inversion="ddpm", replace="0", self="0", **QUICK)
    plain = model.edit(
        picture, RED, BLUE, method="ddpm", strength=1.0, source_guidance=2.0, guidance=2.0, **QUICK
    )
    np.testing.assert_array_equal(ours.reconstruction, picture)
    assert levels(ours.pictures, plain.pictures) <= 1


def test_proximal_guidance_of_a_kept_inversion(model, picture):
    options = {**QUICK, "inversion": "negative"}
    kept = model.edit(picture, RED, BLUE, keep=True, **options).found

    def edited(**more):
        return model.edit(picture, RED, BLUE, found=kept, replace="0", self="0", **more)

    nothing = edited(proximal="l0", quantile=1.0, pull=0.0)
    assert levels(nothing.pictures[0], nothing.reconstruction) <= 1  # all is small
    assert levels(nothing.pictures, edited(proximal="l0", quantile=0.2).pictures) > 0
    for options, says in (
        ({"found": kept, "proximal": "l0", "guidance": 1.0}, "acts by guidance"),
        ({"proximal": "l1"}, "give a picture, and inversion=negative"),
        ({"proximal": "l2"}, "the proximal must be one of"),
        ({"found": kept, "negative_slerp": 0.5}, "was made with negative_slerp=0.0"),
    ):
        with pytest.raises(UserError) as error:
            model.edit(picture, RED, BLUE, **options)
        assert says in str(error.value)


def test_what_imagic_learnt_is_used_again(model, picture, tmp_path):
    first = model.edit(picture, BLUE, method="imagic", keep=True, **LEARN)
    first.found.save(tmp_path / "learnt.safetensors")
    found = Found.load(tmp_path / "learnt.safetensors")
    assert found.options["learn_steps"] == 3
    again = model.edit(picture, BLUE, method="imagic", found=found)
    assert levels(again.pictures, first.pictures) <= 1
    other = model.edit(picture, SQUARE, method="imagic", found=found, eta=1.5)
    assert levels(other.pictures, first.pictures) > 0
    whole = model.edit(picture, BLUE, method="imagic", keep=True, **{**LEARN, "rank": 0}).found
    sizes = [sum(x.size for x in jax.tree.leaves(one.arrays)) for one in (found, whole)]
    assert sizes[0] < sizes[1] / 4


def test_a_strip_learns_once(model, picture):
    request = Request("", (BLUE,), picture, method="imagic", options=LEARN)
    program = model.edit.method("imagic").program
    values = [0.0, 0.5, 1.0]
    found = sweep(model.edit, request, "eta", values)
    before = program._cache_size()
    others = sweep(model.edit, request, "eta", [0.2, 0.4, 0.5, 0.8])
    assert program._cache_size() == before
    assert levels(found[0].pictures[0], found[0].reconstruction) <= 1
    assert levels(found[1].pictures, others[2].pictures) <= 1
    assert levels(found[1].pictures, found[2].pictures) > 0
    assert strip(request, "eta", values, found).ndim == 3


def test_what_does_not_fit_is_one_line(model, picture, tmp_path):
    kept = model.edit(picture, RED, BLUE, keep=True, **QUICK).found
    kept.save(tmp_path / "kept.safetensors")
    other = made(seed=1)
    (tmp_path / "none.safetensors").write_bytes((tmp_path / "kept.safetensors").read_bytes()[:99])
    broken = Found(kept.kind, kept.weights, kept.picture, kept.source, kept.options,
                   {**kept.arrays, "noise": kept.arrays["noise"][:4]})  # fmt: skip
    for call, says in (
        (lambda: other.edit(picture, RED, BLUE, found=kept), "is another model's"),
        (lambda: model.edit(noise(16, 16, seed=2), RED, BLUE, found=kept), "is another picture's"),
        (lambda: model.edit(picture, SQUARE, BLUE, found=kept), "for the caption 'a large red ci"),
        (lambda: model.edit(picture, RED, BLUE, found=kept, steps=9), "was made with steps=4"),
        (lambda: model.edit(picture, BLUE, method="imagic", found=kept), "begins from imagic"),
        (lambda: model.edit(picture, BLUE, method="sdedit", found=kept), "seeks nothing that"),
        (lambda: model.edit(picture, BLUE, method="sdedit", keep=True), "seeks nothing that"),
        (lambda: model.edit(None, RED, BLUE, keep=True), "is of a picture: give the picture"),
        (lambda: model.edit(picture, RED, BLUE, found=broken), "of another size"),
        (lambda: model.edit(picture, BLUE, SQUARE, inversion="gone.safetensors"), "gone"),
        (lambda: Found.load(tmp_path / "none.safetensors"), "none.safetensors"),
        (lambda: kept.save(tmp_path / "kept.npz"), "is kept in a .safetensors file"),
        (lambda: model.edit(picture, [BLUE, RED], method="imagic", keep=True), "of one target"),
    ):
        with pytest.raises(UserError) as error:
            call()
        assert says in str(error.value)
        assert "\n" not in str(error.value)


def test_strips_of_other_options(model, picture):
    base = Request(RED, (BLUE,), picture, method="p2p", options=QUICK)
    for name, values in (("replace", ["0.2", "0.8,blue:0.1"]), ("steps", [2, 4])):
        for value, one in zip(values, sweep(model.edit, base, name, values), strict=True):
            alone = model.edit(picture, RED, BLUE, **{**QUICK, name: value})
            assert levels(alone.pictures, one.pictures) <= 1
    with pytest.raises(UserError, match="of one target"):
        sweep(model.edit, base._replace(targets=(BLUE, SQUARE)), "steps", [2, 4])
    options = model.edit.method("p2p").options
    assert read("replace=0.1;0.8,blue:0.1", options) == ("replace", ["0.1", "0.8,blue:0.1"])
    for text, says in (
        ("replace", "give OPTION=VALUE,VALUE"),
        ("replace=1", "give OPTION=VALUE,VALUE"),
        ("repalce=0,1", "no option 'repalce'"),
    ):
        with pytest.raises(UserError, match=says):
            read(text, options)


# ---- the command ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return model.export(tmp_path_factory.mktemp("edit") / "ldm")


def test_the_command_keeps_sweeps_and_repeats(folder, jaxgen_command, tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "in.png")

    def run(*arguments, code=0):
        found, out, err = jaxgen_command("edit", *arguments)
        assert found == code, err
        return out if code == 0 else err

    given = ("in.png", RED, BLUE, "--model", folder)
    run(*given, "--steps", 4, "--save-inversion", "i.safetensors", "-o", "a.png")
    run(*given, "--inversion", "i.safetensors", "-o", "b.png")
    run("--from-png", "b.png", "-o", "c.png")
    a, b, c = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in "abc")
    assert levels(a, b) <= 1
    np.testing.assert_array_equal(b, c)
    out = run(*given, "--steps", 4, "--sweep", "replace=0.2,0.8", "-o", "strip.png")
    assert "strip.png\n2 edits" in out
    (tmp_path / "moved").mkdir()
    (tmp_path / "in.png").rename(tmp_path / "moved" / "in.png")
    again = ("--from-png", "b.png", "-o", "d.png")
    run("moved/in.png", *again)
    Image.fromarray(noise(16, 16, seed=5)).save(tmp_path / "in.png")
    for arguments, says in (
        (again, "in.png is not the picture that was used: give the picture where that is now"),
        (("moved/in.png", RED, *again), "edits the same again: leave out the texts"),
        ((*again, "--steps", 3), "leave out --steps"),
        (("--from-png", "in.png"), "does not say how it was edited"),
        (("--from-png", "strip.png"), "does not say how it was edited"),
        (("moved/in.png", *again, "--mask", "in.png"), "was made without a mask"),
        ((*given, "--save-inversion", "i.safetensors"), "exists; give --overwrite"),
        ((*given, "--save-inversion", "i.npz"), "kept in a .safetensors file"),
        ((*given, "--sweep", "eta=0,1"), "no option 'eta'"),
        ((*given, "--sweep", "steps=2,x"), "steps must be an integer"),
        ((*given, "--sweep", "steps=2,3", "--steps", 4), "leave out its other value"),
        ((*given, "--inversion", "i.safetensors", "-o", "e.png"), "another picture's"),
    ):
        err = run(*arguments, code=2)
        assert says in err
        assert err.count("\n") == 1
