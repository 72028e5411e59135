"""Pictures of texts: what each one depends on, and what a model of them is saved as."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from support.fake_family import SIZE, daubs, daubs_family

from jaxgen import devices
from jaxgen.errors import UserError
from jaxgen.runs import model as run
from jaxgen.verbs import offered as verbs
from jaxgen.verbs.generate import draw as generate
from jaxgen.verbs.generate.contract import Generate
from jaxgen.verbs.generate.draw import Draw

__all__ = ["daubs_family"]
pytestmark = pytest.mark.usefixtures("daubs_family")


@pytest.fixture(scope="module")
def model():
    return daubs()


# ---------------------------------------------------------------------- what a picture depends on


def test_one_text_or_several(model):
    one = model.generate("a red circle", 3, seed=1)
    assert (one.shape, one.dtype) == ((3, SIZE, SIZE, 3), np.uint8)
    several = model.generate(["a blue square", "a red circle"], 3, seed=1)
    assert several.shape == (2, 3, SIZE, SIZE, 3)
    np.testing.assert_array_equal(several[1], one)
    assert np.unique(several.reshape(6, -1), axis=0).shape[0] == 6


def test_a_picture_depends_on_seed_text_and_number_alone(model):
    eight = model.generate("a red circle", 8, seed=1, batch=3)
    np.testing.assert_array_equal(model.generate("a red circle", 4, seed=1, batch=3), eight[:4])
    np.testing.assert_array_equal(model.generate("A  red circle!", seed=1, first=5)[0], eight[5])
    other = model.generate("a red circle", 8, seed=1, batch=5)
    assert np.abs(other.astype(int) - eight).max() <= 1
    assert np.any(model.generate("a red circle", 4, seed=2) != eight[:4])


def test_noise_is_each_texts_own_or_shared(model):
    verb = model.verbs["generate"]
    texts = ["a red circle", "a blue square"]
    one, other = (generate.text_number(model.generate.read(text)) for text in texts)
    assert one != other
    assert np.any(generate.noise(verb, Draw(1, one, 0)) != generate.noise(verb, Draw(1, other, 0)))
    own, shared = (model.generate(texts, seed=1, same_noise=same) for same in (False, True))
    assert np.any(own != shared)
    np.testing.assert_array_equal(shared[1], model.generate(texts[1], seed=1, same_noise=True))


def test_noise_is_normal_and_truncation_keeps_its_order(model):
    verb = Generate((), SIZE, (20_000,), None, None, None)
    whole, cut, half = (generate.noise(verb, Draw(3, 4, 5), t) for t in (1.0, 1 - 1e-7, 0.5))
    assert abs(whole.mean()) < 0.02
    assert abs(whole.std() - 1) < 0.02
    assert np.abs(whole).max() > 3
    assert np.abs(cut).max() <= 2
    assert np.abs(cut).max() > 1.99
    np.testing.assert_allclose(half, 0.5 * cut, rtol=1e-6)
    np.testing.assert_array_equal(np.argsort(whole, kind="stable"), np.argsort(cut, kind="stable"))
    assert np.all(whole * cut >= 0)


def test_lower_truncation_varies_less(model):
    spread = [model.generate("a red circle", 16, truncation=t).std(axis=0).mean() for t in (1, 0.3)]
    assert spread[1] < 0.5 * spread[0]


def test_masks_come_with_the_pictures(model):
    masked = daubs(masks=True)
    masked.generate.check_masks()
    pictures, masks = masked.generate.with_masks(["a red circle", "a square"], 3)
    assert [m.shape for m in masks] == [(2, 3, 4, 4), (2, 3, SIZE, SIZE)]
    assert all(m.min() >= 0 and m.max() <= 1 and m.dtype == np.float32 for m in masks)
    np.testing.assert_array_equal(pictures, masked.generate(["a red circle", "a square"], 3))
    assert masked.generate.with_masks("a red circle", 3)[1][0].shape == (3, 4, 4)
    assert model.generate.with_masks("a red circle")[1] == ()
    with pytest.raises(UserError, match="has no masks to show"):
        model.generate.check_masks()


def test_progress_counts_pictures(model):
    seen = []
    model.generate(["a", "red"], 3, batch=4, progress=lambda *at: seen.append(at))
    assert seen == [(4, 6), (6, 6)]


def test_unknown_and_cut_words_are_named(model, caplog):
    model.generate(["a rad circle", "a a a a a large red"], batch=2)
    assert "the model does not know rad (nearest: red)" in caplog.text
    assert "left out: large red" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed must be"),
        ({"seed": 2**32}, "seed must be"),
        ({"n": 0}, "at least 1 picture"),
        ({"first": -1}, "numbered from 0"),
        ({"truncation": 0}, "truncation must be"),
        ({"truncation": 1.5}, "truncation must be"),
        ({"truncation": float("nan")}, "truncation must be"),
        ({"batch": 0}, "batch must be"),
        ({"batch": 10**400}, "batch must be from 1 to 65536, not 10000"),
        ({"n": 10**400}, "not 0 and so on, 10000"),
        ({"truncation": True}, "truncation must be"),
        ({"truncation": 10**400}, "truncation must be"),
        ({"prompts": []}, "at least one text"),
    ],
)
def test_settings_out_of_range(model, changes, message):
    with pytest.raises(UserError, match=message):
        model.generate(**{"prompts": "a red circle", **changes})


def test_what_surely_does_not_fit_is_told_before_it_is_made(model, monkeypatch):
    model.generate("a red circle", 1)
    monkeypatch.setattr(devices, "_available", lambda: 3e6)
    assert len(model.generate("a red circle", 1, batch=1)) == 1
    for size in (4096, 65536):
        says = f"{size} pictures of {SIZE} x {SIZE} pixels need at least .*; give a smaller batch"
        with pytest.raises(UserError, match=says):
            model.generate("a red circle", 1, batch=size)


def test_large_pictures_are_looked_at_before_their_noise_is_drawn(model, monkeypatch):
    monkeypatch.setattr(generate, "LARGE", 1)
    monkeypatch.setattr(generate, "noise", None)
    monkeypatch.setattr(devices, "_available", lambda: 3e5)
    with pytest.raises(UserError, match=r"64 pictures of .* need .* of memory, and 0 MB are free"):
        model.generate("a red circle", 1, batch=64)


# ------------------------------------------------------------------------------------ interpolation


def test_between_texts_the_noise_stays(model):
    way = model.generate.between("a red circle", "a blue square", 5, seed=1, first=2)
    assert way.shape == (5, SIZE, SIZE, 3)
    np.testing.assert_array_equal(way[0], model.generate("a red circle", seed=1, first=2)[0])
    # Linear in the features: this family's atanh of a picture is linear in them, too.
    line = np.arctanh(np.clip(way / 127.5 - 1, -0.99, 0.99))
    inner = np.abs(line).max(axis=0) < 2
    assert inner.mean() > 0.5
    np.testing.assert_allclose(line[2][inner], (line[0] + line[4])[inner] / 2, atol=0.15)


def test_between_noises_the_text_stays(model):
    way = model.generate.between("a red circle", steps=4, seed=1, first=2)
    ends = model.generate("a red circle", 2, seed=1, first=2)
    np.testing.assert_array_equal(way[[0, 3]], ends)
    z = [np.random.default_rng(s).normal(0, 1, (3, 50)).astype(np.float32) for s in (0, 1)]
    middle = generate.between_noises(*z, 0.5)
    assert (middle.shape, middle.dtype) == ((3, 50), np.float32)
    length = np.linalg.norm(middle)
    assert abs(length - np.sqrt(150)) < 1.5  # on the straight line it would be 8.7, not 12.2
    np.testing.assert_allclose(generate.between_noises(z[0], z[0], 0.3), z[0], rtol=1e-6)
    np.testing.assert_array_equal(generate.between_noises(*z, 1.0), z[1])


def test_a_way_needs_two_steps(model):
    with pytest.raises(UserError, match="at least 2 steps"):
        model.generate.between("a red circle", steps=1)


# ---------------------------------------------------------------------------------- export and load


def test_exported_with_what_the_verb_needs(model, tmp_path):
    folder = model.export(tmp_path / "out")
    again = run.load(folder)
    assert sorted(again.nets) == ["g", "text"]
    np.testing.assert_array_equal(again.generate("a square", 2), model.generate("a square", 2))
    card = (folder / "README.md").read_text()
    assert f"Text to image, {SIZE} x {SIZE} pixels, family daubs" in card
    assert 'model.generate("a large red circle", n=8)' in card
    assert 'jaxgen generate "a large red circle" --model out -n 8 --seed 1 -o out.png' in card
    assert "upscale" not in card


def test_weights_that_do_not_fit_are_refused_in_one_line(model, tmp_path):
    def damaged(nets):
        folder = tmp_path / "damaged"
        broken = run.Model("damaged", model.config, nets, 1, verbs={})
        broken.export(folder, overwrite=True)
        with pytest.raises(UserError) as caught:
            run.load(folder)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "lacks the net 'text'" in damaged({"g": model.nets["g"]})
    wrong = {"params": {"table": np.zeros((9, 5), np.float32)}}
    assert "do not fit its config.json" in damaged({**model.nets, "text": wrong})


def test_a_converted_generator_alone_is_for_training(model):
    config = model.config.copy_and_resolve_references()
    config.origin = ConfigDict({"net": "g", "file": "netG.pth", "layout": "x", "sizes": {}})
    assert verbs.verbs_of(config) == {}
    alone = run.Model("netG.pth", config, {"g": model.nets["g"]}, 0)
    assert list(alone.nets) == ["g"]
    with pytest.raises(UserError, match="does not generate"):
        alone.generate("a red circle")
