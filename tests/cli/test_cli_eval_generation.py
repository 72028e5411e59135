"""`jaxgen eval generate`: two folders, files of statistics, a text-to-image model."""

import json

import numpy as np
import pytest
from PIL import Image
from support.fake_family import SIZE, daubs, daubs_family
from support.tiny_model import tiny_model

from jaxgen import weights
from jaxgen.data.captioned import section
from jaxgen.data.captioned.records import validation_data
from jaxgen.encoders import inception
from jaxgen.evaluation import sets as generation
from jaxgen.metrics import features, frechet

__all__ = ["daubs_family"]
LABEL = "random_vgg19"


@pytest.fixture
def folders(tmp_path):
    """Two folders of nine small pictures of two sizes, a and b; one of b is a JPEG."""
    rng = np.random.default_rng(0)
    for name, cells in (("a", 3), ("b", 6)):
        (tmp_path / name).mkdir()
        for i in range(9):
            rough = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
            suffix = "jpg" if (name, i) == ("b", 3) else "png"
            rough.resize((64, 64 if i < 8 else 80)).save(tmp_path / name / f"{i}.{suffix}")
    return "--pictures", "a", "--data", "b"


@pytest.fixture
def weights_file(tmp_path):
    path = tmp_path / "narrow.safetensors"
    weights.write_safetensors(path, {inception.ARCH: inception.init_variables(0, 1 / 16)})
    return path


def report(tmp_path, name="o.json"):
    return json.loads((tmp_path / name).read_text())


def test_folders_by_a_random_network_are_not_called_fid(jaxgen_command, folders, tmp_path):
    code, out, err = jaxgen_command("eval", *folders, "--json", "o.json")
    assert (code, err) == (0, "")
    result = report(tmp_path)
    scores = result["scores"]
    assert set(scores) == {
        *(f"fd_{LABEL}", f"kd_{LABEL}", f"kd_{LABEL}_std", f"kd_{LABEL}_all"),
        *(f"precision_{LABEL}", f"recall_{LABEL}"),
    }
    for name in ("fd", "kd", "precision", "recall"):  # what each is, in a line
        assert sum(line.startswith(f"{name}_{LABEL}: ") for line in out.splitlines()) == 1
    for other in ("fid", "kid_", "│ is"):
        assert other not in out.lower()
    net = features.random_net()
    a, b = (
        features.measure(net, features.read_pictures(sorted((tmp_path / name).iterdir())))
        for name in ("a", "b")
    )
    expected = frechet.frechet_distance(a.statistics, b.statistics)
    assert scores[f"fd_{LABEL}"] == pytest.approx(expected, rel=1e-5)
    assert f"{scores[f'fd_{LABEL}']:.5g}" in out
    assert result["generated"]["n"] == result["reference"]["n"] == 9
    assert result["reference"]["formats"] == {".png": 8, ".jpg": 1}
    assert "note: 1 of the reference are lossily compressed" in out
    assert result["generated"]["weights"] == "He-normal, seed 0"


def test_inceptions_numbers_and_statistics_kept(jaxgen_command, folders, weights_file, tmp_path):
    options = ("--inception", weights_file.name, "--resize", "torch", "--splits", 3)
    code, out, err = jaxgen_command(
        "eval", *folders, *options, "--save-statistics", "b.npz", "--json", "o.json"
    )
    assert (code, err) == (0, "")
    first = report(tmp_path)
    names = {"fid", "kid", "kid_std", "kid_all", "is", "is_std", "precision", "recall"}
    assert set(first["scores"]) == names
    assert first["settings"]["splits"] == 3
    about = first["reference"]
    assert about["resize"] == "torch"
    assert about["weights"].startswith("narrow.safetensors sha256:")
    assert "resize torch" in out
    # From the file the numbers are the same, to the digits of float32 features.
    against = ("eval", "--pictures", "a", "--data", "b.npz")
    code, out, _ = jaxgen_command(*against, *options, "--json", "again.json")
    assert code == 0
    assert report(tmp_path, "again.json")["scores"] == pytest.approx(first["scores"], rel=1e-6)
    # Another resize, or network, or a second saving, is no comparison.
    for given, message in (
        (
            ("--inception", weights_file.name, "--splits", 3),
            "measured with resize 'torch', the pictures with 'tf1'",
        ),
        ((), "of two networks (--inception FILE?)"),
        ((*options, "--save-statistics", "c.npz"), "holds statistics already"),
    ):
        code, _, err = jaxgen_command(*against, *given)
        assert code == 2
        assert message in err
        assert err.count("\n") == 1


def test_a_model_on_its_own_captions(jaxgen_command, daubs_family, tmp_path):
    model = daubs()
    with model.config.unlocked():
        model.config.data = section.defaults()
        model.config.data.size = SIZE
    model.export(tmp_path / "model")
    command: tuple = ("eval", "--model", "model", "-n", 6, "--seed", 3, "--truncation", 0.5)
    code, out, err = jaxgen_command(*command, "--json", "o.json")
    assert (code, err) == (0, "")
    result = report(tmp_path)
    assert (result["model"], result["step"]) == ("model", 9)
    assert (result["generated"]["seed"], result["generated"]["truncation"]) == (3, 0.5)
    assert result["generated"]["n"] == result["reference"]["n"] == 6
    # Colour fields show no scene, and far from the data they are.
    for key in ("caption_accuracy", "held_out_accuracy"):
        assert result[key]["whole"] == 0.0
        assert {"valid", "shape", "colour", "size", "place"} <= set(result[key])
    assert result["scores"][f"fd_{LABEL}"] > 0
    # Diversity is of four pictures of a caption; a generator without noise has none.
    records = validation_data(model.config.data)
    texts = [records[i]["_captions"][0] for i in range(16)]
    drawn = model.generate(texts, 4, seed=3, truncation=0.5).astype(np.float64) / 255
    i, j = np.triu_indices(4, 1)
    apart = np.sqrt(np.square(drawn[:, i] - drawn[:, j]).mean(axis=(2, 3, 4))).mean()
    assert result["diversity"]["pixels"] == pytest.approx(apart, rel=1e-6)
    assert result["diversity"][f"features_{LABEL}"] > 0
    assert "diversity: pixels" in out
    assert "held out accuracy: whole" in out
    command = (*command[:7], "--option", "truncation=0.5")
    assert jaxgen_command(*command, "--json", "again.json")[0] == 0
    again = report(tmp_path, "again.json")
    assert again["scores"] == result["scores"]
    assert again["options"] == {"truncation": 0.5}


def test_options_that_do_not_apply_are_named(
    jaxgen_command, folders, daubs_family, tmp_path, monkeypatch
):
    def never(*args, **options):
        raise AssertionError("measured")

    monkeypatch.setattr(features, "measure", never)
    monkeypatch.setattr(generation, "report", never)
    monkeypatch.setattr("jaxgen.evaluation.sr.compare", never)
    daubs().export(tmp_path / "model")
    tiny_model().export(tmp_path / "sr")
    (tmp_path / "empty").mkdir()
    for given, message in (
        ((*folders, "--model", "model"), "--model measures a model; with --pictures"),
        ((*folders, "--blur"), "--blur is for super-resolution, not for --pictures"),
        ((*folders, "-n", 4), "-n is for pictures that a model draws"),
        (("--pictures", "a"), "--pictures needs --data"),
        ((*folders, "--resize", "clean"), "--resize is of Inception's numbers"),
        ((*folders, "--splits", 2), "--splits is of Inception's numbers"),
        ((*folders, "--inception", "no.pth"), "10 splits: lower"),
        ((*folders, "--inception", "no.pth", "--splits", 1), "no Inception weights at no.pth"),
        (("--pictures", "empty", "--data", "b"), "empty: no pictures in this folder"),
        (("--pictures", "a", "--data", "absent"), "absent: no such file or folder"),
        (("--model", "model", "--gray", "keep"), "--gray is for super-resolution; model draws"),
        (("--model", "model", "--truncation", 0), "truncation must be above 0"),
        (("--model", "model", "--option", "rate=1"), "has no option 'rate'"),
        ((*folders, "--option", "rate=1"), "--option is for pictures that a model draws"),
        (("--model", "sr", "--data", "b", "--splits", 2), "--splits is for generated pictures; sr"),
        (("--model", "sr", "--data", "b", "--seed", 2), "--seed is for generated pictures; sr"),
        (("--model", "sr"), "--data is needed"),
        (("generate", "--model", "sr"), "does not generate; it can: upscale"),
        (("upscale", "--model", "model", "--data", "b"), "does not upscale; it can: generate"),
        (("--model", "absent"), "no model 'absent'"),
        ((*folders, "--save-statistics", "x.json"), "statistics end in .npz"),
    ):  # fmt: skip
        code, out, err = jaxgen_command("eval", *given)
        assert (code, out) == (2, ""), given
        assert message in err, (given, err)
        assert err.count("\n") == 1, err


def test_alone_it_is_the_command_of_the_verb(jaxgen_command, folders, tmp_path):
    for name, verb in (("a.json", ()), ("b.json", ("generate",))):
        assert jaxgen_command("eval", *verb, *folders, "--json", name)[0] == 0
    assert report(tmp_path, "a.json") == report(tmp_path, "b.json")
    tiny_model().export(tmp_path / "sr")
    for name, verb in (("a.json", ()), ("b.json", ("upscale",))):
        given = ("--data", "a", "--model", "sr", "--json", name, "--blur")
        assert jaxgen_command("eval", *verb, *given)[0] == 0
    assert report(tmp_path, "a.json") == report(tmp_path, "b.json")
    assert "blur" in report(tmp_path, "a.json")["mean"]["model"]


def test_help_names_the_commands_and_their_options(jaxgen_command, tmp_path):
    tiny_model().export(tmp_path / "sr")
    for given, says in (
        (("--help",), ("upscale", "generate")),
        (("-h",), ("upscale", "generate")),
        (("upscale", "--help"), ("--shave", "--measure", "--lpips")),
        (("generate", "-h"), ("--inception", "--truncation", "--pictures")),
        (("--model", "sr", "--help"), ("--shave",)),
    ):
        code, out, _ = jaxgen_command("eval", *given)
        assert code == 0
        for text in says:
            assert text in out, given
    # A mistake in an option's name or value is told as by every other command.
    for given, message in (
        (("--nonesuch",), "No such option: --nonesuch"),
        (("--model", "sr", "--shave", "-1"), "Invalid value for '--shave'"),
        (("--model",), "'--model' requires an argument"),
    ):
        code, _, err = jaxgen_command("eval", *given)
        assert code == 2
        assert message in err
        assert "Traceback" not in err
