"""The verb `embed`: published weights, the command, and what users get wrong."""

import json
import shutil

import numpy as np
import pytest
from helpers import REPOSITORY, run
from PIL import Image

import jaxgen
from jaxgen import config as configs
from jaxgen import weights
from jaxgen.data.text.clip_bpe import read_tokenizer
from jaxgen.errors import UserError
from jaxgen.runs.convert import write_own


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip") / "run"
    run(configs.load(f"{REPOSITORY}/configs/clip.py:tiny"), folder)
    return folder


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    for name in ("b.png", "deep/a.jpg"):
        array = rng.integers(0, 256, (30, 20, 3), np.uint8)
        Image.fromarray(array).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def test_published_weights_give_their_own_features(fixtures_dir, tmp_path):
    """Converted, opened and used: the golden features of OpenAI's code, at length 1."""
    golden = np.load(fixtures_dir / "openai_clip_tiny.npz")
    tensors = {k[3:]: golden[k] for k in golden.files if k.startswith("sd:")}
    weights.write_tensors(tmp_path / "w.safetensors", tensors)
    heads = '{"vision_config": {}, "text_config": {"num_attention_heads": 2}}'
    (tmp_path / "config.json").write_text(heads)
    write_own(tmp_path / "w.safetensors", tmp_path / "clip")
    model = jaxgen.load(tmp_path / "clip")
    verb = model.embed.verb
    nets = {"g": model.nets["g"]}
    tokens = golden["text"].astype(np.int32)
    found = np.asarray(verb.texts(nets, tokens, np.ones(tokens.shape, bool)))
    wanted = golden["text_features"]
    wanted = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    with pytest.raises(UserError, match="came without its vocabulary, so it reads no texts"):
        model.embed.texts(["a"])
    found = model.embed.pictures([np.zeros((70, 90, 3), np.uint8)])
    np.testing.assert_allclose(np.linalg.norm(found), 1.0, rtol=1e-5)


def test_a_converted_model_keeps_its_vocabulary(fixtures_dir, data_dir, tmp_path):
    """It reads texts where the file that it came with is gone."""
    [vocabulary] = data_dir.rglob("bpe_simple_vocab_16e6.txt.gz")
    tokenizer = read_tokenizer(vocabulary)
    golden = np.load(fixtures_dir / "openai_clip_tiny.npz")
    (tmp_path / "from").mkdir()
    tensors = {k[3:]: golden[k] for k in golden.files if k.startswith("sd:")}
    weights.write_tensors(tmp_path / "from" / "w.safetensors", tensors)
    shutil.copy(vocabulary, tmp_path / "from")
    said = write_own(tmp_path / "from" / "w.safetensors", tmp_path / "clip")
    assert "for train.init_from" not in said
    shutil.rmtree(tmp_path / "from")
    model = jaxgen.load(tmp_path / "clip")
    for text in ("a diagram", "Snowy Mountains: a naïve sketch, 3 times <|endoftext|>", ""):
        np.testing.assert_array_equal(
            model.embed.verb.read(text).tokens, tokenizer.encode(text).tokens
        )
    assert model.embed.texts(["a diagram"]).shape == (1, 32)


def test_the_command_writes_features_of_pictures_and_texts(
    trained, photos, jaxgen_command, tmp_path
):
    code, out, err = jaxgen_command("embed", photos, "--model", trained, "-o", "p.npz")
    assert (code, err) == (0, "")
    assert "p.npz  2 x 8" in out
    found = np.load(tmp_path / "p.npz")
    assert [name.rsplit("photos/")[1] for name in found["names"]] == ["b.png", "deep/a.jpg"]
    model = jaxgen.load(trained)
    images = [np.asarray(Image.open(photos / name)) for name in ("b.png", "deep/a.jpg")]
    np.testing.assert_allclose(found["features"], model.embed.pictures(images), atol=1e-6)
    assert str(found["model"]) == model.embed.fingerprint

    (tmp_path / "t.txt").write_text("a red circle\n\na square\n")
    code, _, err = jaxgen_command("embed", "--texts", "t.txt", "--model", trained, "-o", "t.npz")
    assert (code, err) == (0, "")
    assert list(np.load(tmp_path / "t.npz")["names"]) == ["a red circle", "a square"]


def test_a_picture_that_cannot_be_read_is_named_and_the_rest_done(
    trained, photos, jaxgen_command, tmp_path
):
    (photos / "c.png").write_bytes(b"no picture")
    code, out, err = jaxgen_command("embed", photos, "--model", trained, "-o", "p.npz")
    assert code == 1
    assert "2 x 8" in out
    assert err.startswith("error: ")
    assert "c.png" in err
    assert err.count("\n") == 1
    assert len(np.load(tmp_path / "p.npz")["features"]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-o", "p.npz"), "give pictures, or --texts FILE"),
        (("photos", "--texts", "t.txt", "-o", "p.npz"), "give pictures, or --texts FILE"),
        (("photos", "-o", "p.txt"), "must end in .npz"),
        (("nothing", "-o", "p.npz"), "nothing: no such file or folder"),
        (("--texts", "nothing.txt", "-o", "p.npz"), "nothing.txt: cannot be read"),
    ],
)
def test_mistakes_are_one_line(trained, photos, jaxgen_command, arguments, said):
    code, _, err = jaxgen_command("embed", *arguments, "--model", trained)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1


def test_pictures_and_names_that_are_none(trained):
    model = jaxgen.load(trained)
    with pytest.raises(UserError, match=r"uint8 \(h, w, 3\), not float64 \(4, 4, 3\)"):
        model.embed.pictures([np.zeros((4, 4, 3))])
    with pytest.raises(UserError, match="classify needs names"):
        model.embed.classify([], ["a"], ["no place for it"])


def test_eval_classifies_a_folder_of_classes(trained, jaxgen_command, tmp_path):
    """Against what `classify` says of each picture."""
    rng = np.random.default_rng(0)
    images: dict[str, list[np.ndarray]] = {"red": [], "dark_green": []}
    for name, found in images.items():
        (tmp_path / "classes" / name).mkdir(parents=True)
        for i in range(3):
            found.append(rng.integers(0, 256, (16, 16, 3), np.uint8))
            Image.fromarray(found[-1]).save(tmp_path / "classes" / name / f"{i}.png")
    (tmp_path / "templates.txt").write_text("a {} circle\nthe {}\n")
    code, out, err = jaxgen_command(
        "eval", "embed", "--model", trained, "--data", "classes",
        "--templates", "templates.txt", "--json", "report.json",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "top_1" in out
    report = json.loads((tmp_path / "report.json").read_text())
    names, embed = ["dark green", "red"], jaxgen.load(trained).embed
    right = {}
    for number, name in enumerate(names):
        chances = embed.classify(images[name.replace(" ", "_")], names, ["a {} circle", "the {}"])
        right[name] = (chances.argmax(axis=1) == number).mean()
        assert report["scores"][f"of_class {name}"] == pytest.approx(right[name])
    assert report["scores"]["top_1"] == pytest.approx(np.mean(list(right.values())))
    assert report["pictures"] == 6


def test_eval_goes_by_the_verb_and_names_what_is_missing(trained, jaxgen_command, tmp_path):
    code, out, err = jaxgen_command("eval", "--model", trained)
    assert (code, err) == (0, "")
    assert "held_out_attributes" in out
    code, _, err = jaxgen_command("eval", "embed", "--model", trained, "--data", tmp_path)
    assert code == 2
    assert "must hold a folder of pictures for each class" in err
