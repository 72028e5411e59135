"""`parts.text`: a fixed text encoder is neither trained nor saved, and all else stays the same."""

import numpy as np
import pytest
from helpers import REPOSITORY, checkpoint_arrays, run

import jaxgen
from jaxgen import config as configs
from jaxgen.errors import UserError
from jaxgen.runs.interpolation import interpolate
from jaxgen.runs.precompute import of_model
from jaxgen.train import loop, start
from jaxgen.weights.parts import open_whole

FIXED = {"model.text.trained_by": "none", "train.eval_every": -1}


def dfgan(**changes):
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    return configs.load(f"{REPOSITORY}/configs/dfgan.py:tiny", changes)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run, and two that go on with its text encoder: as a part and by train.init_from."""
    home = tmp_path_factory.mktemp("text")
    run(dfgan(train__eval_every=-1), home / "first")
    source = str(home / "first")
    run(dfgan(**FIXED, parts__text=source), home / "part")
    run(dfgan(**FIXED, train__init_from__text=source), home / "begun")
    return home


def test_the_step_computes_the_same_and_saves_less(runs):
    part, begun = (checkpoint_arrays(runs / name, 4) for name in ("part", "begun"))
    extra = {key for key in begun if key.split("/")[0] in ("net_text", "ema_text")}
    assert extra
    assert part.keys() == begun.keys() - extra
    for key, value in part.items():
        np.testing.assert_allclose(value, begun[key], rtol=1e-5, atol=1e-6, err_msg=key)


def test_the_model_reads_prompts_by_its_part(runs, tmp_path):
    model, begun = jaxgen.load(runs / "part"), jaxgen.load(runs / "begun")
    assert sorted(model.nets) == ["g", "text"]
    pictures = model.generate("a red circle", n=2)
    difference = np.abs(pictures.astype(int) - begun.generate("a red circle", n=2))
    assert difference.max() <= 1
    again = jaxgen.load(model.export(tmp_path / "exported"))
    np.testing.assert_array_equal(again.generate("a red circle", n=2), pictures)
    assert loop.evaluate(dfgan(**FIXED, parts__text=str(runs / "first")), runs / "part")
    mixed = interpolate(model, again, 0.5)
    np.testing.assert_array_equal(mixed.generate("a red circle", n=2), pictures)


def test_others_find_the_encoder_in_it(runs, tmp_path):
    wanted = open_whole(runs / "first", ("text",)).nets["text"]["params"]
    found = open_whole(runs / "part", ("text",)).nets["text"]["params"]
    assert all(np.array_equal(found[key], wanted[key]) for key in wanted)
    words, _ = of_model(runs / "part").encode(["a red circle"])[0]
    assert np.array_equal(words, of_model(runs / "first").encode(["a red circle"])[0][0])
    config = dfgan(**FIXED, parts__text=str(runs / "part"))
    (chained,) = start.find_parts(loop.resolve(config), tmp_path / "new").values()
    assert all(np.array_equal(chained.nets["text"]["params"][key], wanted[key]) for key in wanted)


def test_a_second_stage_on_a_fixed_first(tmp_path):
    tiny = f"{REPOSITORY}/configs/stackgan.py:tiny"
    first = {"train.eval_every": -1, "train.steps": 2, "model.stages": (1,), "model.gan_stop": 0}
    run(configs.load(tiny, first), tmp_path / "one")
    source = str(tmp_path / "one")
    second = {
        "data.size": 32,
        "model.stages": (2,),
        "train.init_from.g": source,
        "parts.text": source,
    }
    run(configs.load(tiny, {**first, **FIXED, **second}), tmp_path / "two")
    nets = {key.split("/")[0] for key in checkpoint_arrays(tmp_path / "two", 2)}
    assert {"net_g", "net_g2", "net_d2"} <= nets
    assert "net_text" not in nets
    assert jaxgen.load(tmp_path / "two").generate("a red circle").shape == (1, 32, 32, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.text.trained_by": "d"}, "set model.text.trained_by=none"),
        ({"train.init_from.text": "runs/other"}, "both give the net 'text'"),
        ({"model.text.width": 16}, "parts.text does not fit this config"),
        ({"data.vocabulary": ("red",)}, "was trained with another data.vocabulary"),
        ({"parts.text": "srgan_x4"}, "parts.text: .*lacks the net 'text'"),
    ],
)
def test_what_does_not_go_together_is_one_line(runs, tmp_path, changes, message):
    config = dfgan(**{**FIXED, "parts.text": str(runs / "first"), **changes})
    with pytest.raises(UserError, match=message) as caught:
        run(config, tmp_path / "run")
    assert "\n" not in str(caught.value)
