"""`jaxgen index` and `jaxgen search` with models of both families, and what users get wrong."""

import json
import os

import numpy as np
import pytest
from helpers import REPOSITORY, run
from PIL import Image

import jaxgen
from jaxgen import config as configs
from jaxgen.errors import UserError
from jaxgen.verbs.retrieve.encoder import Asked, encoder_of


def trained_in(tmp_path_factory, family):
    folder = tmp_path_factory.mktemp(family) / "run"
    config = configs.load(f"{REPOSITORY}/configs/{family}.py:tiny", {"train.eval_every": -1})
    run(config, folder)
    return folder


@pytest.fixture(scope="module")
def tirg(tmp_path_factory):
    return trained_in(tmp_path_factory, "tirg")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return trained_in(tmp_path_factory, "clip")


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    for name in ("a.png", "b.png", "deep/c.png", "deep/d.png"):
        pixels = rng.integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "twin.png").write_bytes((tmp_path / "photos" / "b.png").read_bytes())
    return tmp_path / "photos"


def test_a_picture_and_words_through_the_commands(tirg, photos, tmp_path, jaxgen_command):
    (photos / "broken.jpg").write_bytes(b"no")
    code, out, err = jaxgen_command("index", photos, "-o", "index", "--model", tirg)
    assert code == 1
    assert "broken.jpg" in err
    assert "5 looked at" in out
    code, out, err = jaxgen_command("index", photos, "-o", "index", "--model", tirg)
    assert "0 looked at, 0 known by their content, 5 unchanged" in out

    code, out, err = jaxgen_command(
        "search", "index", "--image", "photos/a.png", "--text", "make red cube blue",
        "--sheet", "found.png", "--json", "found.json",
    )  # fmt: skip
    assert (code, err) == (0, "")
    held = json.loads((tmp_path / "found.json").read_text())
    paths = [one["path"] for one in held["results"]]
    assert "a.png" not in paths, "the source is no result"
    assert sorted(paths) == ["b.png", "deep/c.png", "deep/d.png"]
    assert "b.png  (also twin.png)" in out
    assert held["gallery"] == 5
    assert Image.open(tmp_path / "found.png").width > 100
    # The same as by hand.
    model = jaxgen.load(tirg)
    picture = np.asarray(Image.open(photos / "a.png"))
    query = model.retrieve([picture], ["make red cube blue"])[0]
    for one in held["results"]:
        own = model.retrieve.pictures([np.asarray(Image.open(photos / one["path"]))])[0]
        assert one["score"] == pytest.approx(float(own @ query), abs=2e-3)

    search = ("search", "index", "--model", tirg)
    code, out, _ = jaxgen_command(*search, "--like", "b.png", "--keep-source", "-k", 1)
    assert "b.png" in out
    assert len(out.splitlines()) == 1
    code, out, _ = jaxgen_command(*search, "--like", "b.png", "--where", "deep/*")
    assert [line.split()[1] for line in out.splitlines()] == sorted(
        ["deep/c.png", "deep/d.png"], key=out.index
    )
    for given, what in (
        (("--text", "red"), "reads words that change a picture: give --image"),
        (("--image", "photos/a.png", "--not", "red"), "has no features of texts to subtract"),
        (("--image", "photos/a.png", "--text", " "), "the text is empty"),
        ((), "give --image, --text or --like"),
        (("--like", "bb.png"), "--like bb.png is not in the index; did you mean b.png"),
        (("--image", "photos/none.png"), "no such file"),
        (("--like", "b.png", "--where", "x"), "no picture of the index matches --where x"),
    ):
        code, _, err = jaxgen_command(*search, *given)
        assert code == 2
        assert what in err
        assert err.count("\n") == 1


def test_a_clip_searches_by_words_alone_and_by_sums(clip, photos, jaxgen_command):
    code, _, err = jaxgen_command("index", photos, "-o", "index", "--model", clip)
    assert (code, err) == (0, "")
    code, out, err = jaxgen_command("search", "index", "--text", "a large red circle")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 4
    code, out, err = jaxgen_command(
        "search", "index", "--text", "a red circle", "--not", "a small square", "--image",
        "photos/a.png", "--weight", 0.5, "--min-score", 0.999,
    )  # fmt: skip
    assert code == 0
    assert "lower --min-score" in err or out

    model = jaxgen.load(clip)
    encoder = encoder_of(model, "clip")
    picture = np.asarray(Image.open(photos / "a.png"))
    alone = encoder.query(Asked([picture]))
    np.testing.assert_allclose(alone, model.embed.pictures([picture])[0], atol=1e-6)
    texts = model.embed.texts(["a red circle", "a small square"])
    both = alone + 0.5 * texts[0] - 0.5 * texts[1]
    found = encoder.query(Asked([picture], ["a red circle"], ["a small square"], 0.5))
    np.testing.assert_allclose(found, both / np.linalg.norm(both), atol=1e-5)
    with pytest.raises(UserError, match="cancels out"):
        encoder.query(Asked(texts=["a red circle"], weight=0.0))


def test_another_model_s_index_is_refused(tirg, clip, photos, jaxgen_command):
    jaxgen_command("index", photos, "-o", "index", "--model", tirg)
    for command in (
        ("index", photos, "-o", "index", "--model", clip),
        ("search", "index", "--image", "photos/a.png", "--model", clip),
    ):
        code, _, err = jaxgen_command(*command)
        assert code == 2
        assert "was made by" in err
        assert err.count("\n") == 1
    code, _, err = jaxgen_command("search", "photos", "--text", "a")
    assert code == 2
    assert "is no index" in err
    os.mkdir("empty")
    code, _, err = jaxgen_command("index", "empty", "-o", "i2", "--model", tirg)
    assert code == 2
    assert "holds no pictures" in err


def test_a_run_is_measured_by_the_command(tirg, tmp_path, jaxgen_command):
    code, out, err = jaxgen_command("eval", "--model", tirg, "--json", "found.json")
    assert code == 0, err
    assert "the source removed" in out
    held = json.loads((tmp_path / "found.json").read_text())
    assert held["gallery"] == 6 + 6 * 4
    assert held["queries"] == 24
    assert {"recall_at_1", "mean_rank", "ceiling_at_1"} <= held["scores"].keys()
