"""`jaxgen eval upscale`: columns and JSON of the further measures, and their mistakes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.lpips_weights import random_heads, random_trunk
from support.tiny_model import picture, tiny_model

from jaxgen import cli, weights
from jaxgen.data.resize import imresize
from jaxgen.data.sr.examples import folder_pairs
from jaxgen.encoders import lpips
from jaxgen.evaluation import sr
from jaxgen.metrics.no_reference import blur


@pytest.fixture
def evaluate(monkeypatch, capsys, tmp_path):
    """Calls `jaxgen eval` in this process: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / ".cache"))

    def call(*args, width=200):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys, "argv", ["jaxgen", "eval", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return call


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Random weights: {"trunk": path, "heads": path}."""
    folder = tmp_path_factory.mktemp("weights")
    parts = {"trunk": random_trunk("alex"), "heads": random_heads("alex")}
    for name, tensors in parts.items():
        weights.write_safetensors(folder / f"{name}.safetensors", tensors)
    return {name: folder / f"{name}.safetensors" for name in parts}


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return array


def smooth(channels, seed):
    return imresize(picture(23, 27, channels, seed=seed), scale=4)  # 92 x 108


def report():
    return json.loads(Path("o.json").read_text())


def test_lpips_and_blur_of_model_bicubic_and_original(evaluate, files, tmp_path):
    model = tiny_model().export(tmp_path / "model")
    originals = [
        save(tmp_path / "set" / f"[{i}].png", smooth(channels, i))
        for i, channels in enumerate((3, 0))
    ]
    code, out, err = evaluate(
        "--model", model, "--data", "set", "--json", "o.json",
        "--lpips", files["heads"], "--lpips", files["trunk"], "--blur",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "[0].png" in out
    for head in ("LPIPS-alex", "blur", "original"):
        assert head in out
    result = report()
    measure = lpips.picture_distance(lpips.load(files["trunk"], files["heads"]))
    for row, original in zip(result["images"], originals, strict=True):
        small = imresize(original, scale=0.25)
        bicubic = imresize(small.astype(np.float64), scale=4, mode="float")
        bicubic = np.clip(np.round(bicubic), 0, 255).astype(np.uint8)
        inside = np.s_[4:-4, 4:-4]
        assert row["bicubic"]["lpips_alex"] == pytest.approx(
            measure(bicubic[inside], original[inside]), rel=1e-3
        )
        assert row["bicubic"]["blur"] == pytest.approx(blur(bicubic[inside]), abs=1e-3)
        assert row["original"] == {"blur": blur(original[inside])}
        assert row["model"]["lpips_alex"] > 0
        assert row["model"].keys() == row["bicubic"].keys()
    for kind, key in (("model", "lpips_alex"), ("bicubic", "blur"), ("original", "blur")):
        values = [row[kind][key] for row in result["images"]]
        assert result["mean"][kind][key] == pytest.approx(np.mean(values))
        assert f"{result['mean'][kind][key]:.4f}" in out


def test_columns_only_when_asked(evaluate, files, tmp_path):
    save(tmp_path / "set" / "a.png", smooth(3, 0))
    bicubic = ("--model", "bicubic", "--scale", 2, "--data", "set", "--json", "o.json")
    code, out, _ = evaluate(*bicubic)
    assert code == 0
    assert "LPIPS" not in out
    assert "blur" not in out
    assert report()["mean"].keys() == {"bicubic"}
    assert report()["mean"]["bicubic"].keys() == {"psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb"}
    _, out, _ = evaluate(*bicubic, "--blur", "--shave", 0)
    assert "LPIPS" not in out
    assert report()["mean"]["original"] == {"blur": blur(smooth(3, 0))}
    _, out, _ = evaluate(*bicubic, "--lpips", files["trunk"], "--lpips", files["heads"])
    assert report()["mean"].keys() == {"bicubic"}
    assert f"{report()['mean']['bicubic']['lpips_alex']:.4f}" in out


def test_a_narrow_terminal_gets_a_table_for_each_kind(evaluate, tmp_path, monkeypatch):
    from rich.console import Console

    model = tiny_model().export(tmp_path / "model")
    save(tmp_path / "set" / "a.png", smooth(3, 0))
    command = sys.modules["jaxgen.cli.evaluate.upscale"]
    lines = {}
    for width in (200, 70):
        monkeypatch.setattr(command, "console", lambda width=width: Console(width=width))
        _, out, _ = evaluate("--model", model, "--data", "set", "--blur", "--json", "o.json")
        lines[width] = [line for line in out.splitlines() if "mean of 1" in line]
        for kind, scores in report()["mean"].items():
            assert any(f"{scores['blur']:.4f}" in line for line in lines[width]), kind
    assert (len(lines[200]), len(lines[70])) == (1, 3)


def test_mistakes_are_one_line_before_anything_is_measured(evaluate, files, tmp_path, monkeypatch):
    def never(*args, **options):
        raise AssertionError("measured")

    save(tmp_path / "set" / "a.png", smooth(3, 0))
    monkeypatch.setattr("jaxgen.evaluation.sr.compare", never)
    weights.write_safetensors(tmp_path / "squeeze.safetensors", random_heads("squeeze"))
    for given, message in (
        (["alex"], "no LPIPS weights at alex: "),
        ([files["trunk"]], "no LPIPS heads"),
        ([files["heads"]], "no trunk of LPIPS"),
        ([files["trunk"], files["trunk"]], "is in the other file too"),
        ([files["trunk"], "squeeze.safetensors"], "the heads are those of LPIPS-squeeze"),
    ):
        options = [text for file in given for text in ("--lpips", file)]
        code, out, err = evaluate("--model", "bicubic", "--data", "set", *options)
        assert (code, out) == (2, ""), given
        assert message in err, given
        assert err.count("\n") == 1, given


def test_a_picture_too_small_for_lpips_is_named(evaluate, files, tmp_path):
    save(tmp_path / "set" / "small.png", picture(36, 60))
    args = ("--lpips", files["trunk"], "--lpips", files["heads"], "--model", "bicubic")
    code, _, err = evaluate("--data", "set", *args)
    assert code == 2
    assert "small.png: AlexNet needs pictures of at least 31x31 pixels; this one is 52x28" in err
    assert evaluate("--data", "set", *args, "--shave", 0)[0] == 0


def test_one_entry_of_the_table_is_a_metric_everywhere(evaluate, tmp_path, monkeypatch):
    """Toys of pairs, of a picture alone, and with weights: in the command and in Python."""

    def darker(sr, hr):
        assert sr.shape == hr.shape == (84, 100, 3)  # without the border
        return float(hr.mean() - sr.mean())

    def load(files):
        factor = sum(float(file.read_text()) for file in files)
        return "sum", lambda sr, hr: factor * darker(sr, hr)

    table = {
        "darker": sr.Measure("DARK", darker, digits=1),
        "bright": sr.Measure(
            "BRIGHT", lambda x: float(x.mean()), larger_is_better=True, alone=True
        ),
        "scaled": sr.Measure("SCALED", load=load),
    }
    for name, measure in table.items():
        monkeypatch.setitem(sr.MEASURES, name, measure)
    model = tiny_model()
    model.export(tmp_path / "model")
    save(tmp_path / "set" / "a.png", smooth(3, 0))
    for i in (2, 3):
        (tmp_path / f"{i}.txt").write_text(str(i))
    asked = [text for name in ("scaled=2.txt", "darker", "bright", "scaled=3.txt")
             for text in ("--measure", name)]  # fmt: skip
    for verb in ((), ("upscale",)):
        given = (*verb, "--model", "model", "--data", "set", "--json", "o.json", *asked)
        code, out, err = evaluate(*given)
        assert (code, err) == (0, "")
        heads = ("DARK", "BRIGHT", "SCALED-sum", "lower is better: DARK", "higher is better: PSNR")
        for head in heads:
            assert head in out
        scores = report()["images"][0]
        assert scores["original"] == {"bright": smooth(3, 0)[4:-4, 4:-4].mean()}
        for kind in ("model", "bicubic"):
            assert scores[kind]["scaled_sum"] == pytest.approx(5 * scores[kind]["darker"])
            assert f"{scores[kind]['darker']:.1f}" in out
    asked = {"darker": (), "bright": (), "scaled": [Path("2.txt"), Path("3.txt")]}
    found = sr.measure(model.upscale, folder_pairs("set", 4), asked)
    assert {"mean": found.mean, "images": found.images} == {
        key: report()[key] for key in ("mean", "images")
    }
    # Nothing of it where it is not asked for.
    code, out, _ = evaluate("--model", "model", "--data", "set", "--json", "o.json")
    assert "DARK" not in out
    assert report()["mean"].keys() == {"model", "bicubic"}


def test_measures_that_there_are_not(evaluate, tmp_path):
    save(tmp_path / "set" / "a.png", smooth(3, 0))
    for asked, message in (
        ("nonesuch", "no measure 'nonesuch'; there are psnr_y"),
        ("blur=file", "blur is measured without weights: leave out file"),
        ("lpips", "no trunk of LPIPS"),
    ):
        code, out, err = evaluate("--model", "bicubic", "--data", "set", "--measure", asked)
        assert (code, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1
