"""What a newcomer adds: a family, a verb with its command, a captioned source, a metric.

All four come from tests/support, none of jaxgen's modules is edited but by what their own rooms ask
for: one line in `cli.COMMANDS` and one entry in `evaluation.sr.MEASURES`.
"""

import json

import numpy as np
import pytest
from helpers import run
from PIL import Image
from support.toy_house import toy_config, toy_house
from support.toy_source import toy_source

import jaxgen
from jaxgen.errors import UserError
from jaxgen.evaluation import sr

__all__ = ["toy_house", "toy_source"]


@pytest.fixture
def trained(toy_house, toy_source, tmp_path):
    """A run of the toy family on the toy source."""
    run(toy_config(toy_source), tmp_path / "run")
    return tmp_path / "run"


def test_a_toy_verb_source_and_metric_through_load_and_the_command(
    trained, jaxgen_command, tmp_path, monkeypatch
):
    picture = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "in.png")

    # The source: its pictures' mean colour is what was learned.
    model = jaxgen.load(trained)
    mean = np.mean([(220, 30, 30), (30, 160, 60), (40, 80, 220)], axis=0)
    np.testing.assert_allclose(model.tint(picture, amount=1.0)[0, 0], mean, atol=8)
    assert sorted(model.verbs) == ["tint", "upscale"]

    # The verb: another option is another argument, not another program.
    results = [model.tint(picture, amount=amount) for amount in (0.0, 0.3, 1.0)]
    np.testing.assert_array_equal(results[0], picture)
    assert model.verbs["tint"].program._cache_size() == 1
    with pytest.raises(UserError, match="amount must be at least 0 and at most 1, not 2"):
        model.tint(picture, amount=2)
    with pytest.raises(UserError, match="no option 'amont'; it takes amount"):
        model.tint(picture, amont=1)
    with pytest.raises(UserError, match="does not generate; it can: tint, upscale"):
        model.generate("a text")

    # Exported, its header and card speak of it; the command uses it.
    code, _, err = jaxgen_command("export", trained, "-o", "mine")
    assert (code, err) == (0, "")
    card = (tmp_path / "mine" / "README.md").read_text()
    for said in ("Tints pictures, Super-resolution x2", "model.tint(array)", "jaxgen tint in.png"):
        assert said in card
    again = jaxgen.load(tmp_path / "mine")
    assert json.loads(again.facts()["verbs"]) == {"tint": {"colours": 1}, "upscale": {"scale": 2}}
    code, _, err = jaxgen_command("tint", "in.png", "out.png", "--model", "mine", "--amount", 0.3)
    assert (code, err) == (0, "")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), results[1])
    code, out, _ = jaxgen_command("--help")
    assert "Tint a picture." in out

    # The metric: one entry, and the command and Python have it.
    red = sr.Measure("RED", lambda x: float(x[..., 0].mean()), alone=True)
    monkeypatch.setitem(sr.MEASURES, "red", red)
    (tmp_path / "set").mkdir()
    Image.fromarray(picture).save(tmp_path / "set" / "a.png")
    code, out, err = jaxgen_command(
        "eval", "--model", "mine", "--data", "set", "--measure", "red", "--json", "o.json"
    )
    assert (code, err) == (0, "")
    assert "RED" in out
    scores = json.loads((tmp_path / "o.json").read_text())["images"][0]
    assert scores["original"]["red"] == picture[2:-2, 2:-2, 0].mean()
