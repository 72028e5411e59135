"""`jaxgen eval`, `models`, `export`, `prepare`: what they write and say, and their exit codes."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.tiny_model import model, own_cache, picture, read, save, tiny_model, write_run

from jaxgen.data.triplets import css, section
from jaxgen.weights import places

__all__ = ["model", "own_cache"]


def test_eval_measures_model_and_bicubic(jaxgen_command, model, tmp_path):
    for i, channels in enumerate((3, 3, 0)):
        save(tmp_path / "set" / f"{i}.png", picture(66, 81, channels, seed=i))
    code, out, _ = jaxgen_command("eval", "--model", model, "--data", "set", "--json", "o.json")
    assert code == 0
    assert "mean of 3" in out
    assert "PSNR-Y: dB between the brightness of result and original; higher" in out
    report = json.loads(Path("o.json").read_text())
    assert (report["scale"], report["shave"], report["gray"]) == (4, 4, "keep")
    assert [row["name"] for row in report["images"]] == ["0.png", "1.png", "2.png"]
    for kind in ("model", "bicubic"):
        values = [row[kind]["psnr_y"] for row in report["images"]]
        assert report["mean"][kind]["psnr_y"] == pytest.approx(np.mean(values))
        assert f"{report['mean'][kind]['psnr_y']:.3f}" in out
    # Another shave and another reading of gray pictures are other numbers.
    jaxgen_command("eval", "--model", "bicubic", "--data", "set", "--json", "r.json", "--gray",
                   "replicate", "--shave", 0)  # fmt: skip
    other = json.loads(Path("r.json").read_text())
    assert "model" not in other["mean"]
    assert other["images"][2]["bicubic"] != report["images"][2]["bicubic"]


def test_eval_of_equal_pictures_is_valid_json(jaxgen_command, tmp_path):
    save(tmp_path / "set" / "flat.png", np.full((64, 64, 3), 77, np.uint8))
    code, out, _ = jaxgen_command(
        "eval", "--model", "bicubic", "--scale", 2, "--data", "set", "--json", "o.json"
    )
    assert code == 0
    assert "inf" in out
    assert json.loads(Path("o.json").read_text())["mean"]["bicubic"]["psnr_y"] is None


def test_eval_bicubic_gives_the_published_number(jaxgen_command, data_dir):
    """Set5 x4 by MATLAB's bicubic: 28.42 dB / 0.8104 in papers, 28.43 / 0.8113 as measured here."""
    code, *_ = jaxgen_command(
        "eval", "--model", "bicubic", "--data", data_dir / "sr" / "Set5_swinir" / "HR", "--json",
        "o.json",
    )  # fmt: skip
    assert code == 0
    mean = json.loads(Path("o.json").read_text())["mean"]["bicubic"]
    assert mean["psnr_y"] == pytest.approx(28.42, abs=0.02)
    assert mean["ssim_y"] == pytest.approx(0.8104, abs=0.002)


def test_eval_mistakes(jaxgen_command, model, tmp_path):
    (tmp_path / "void").mkdir()
    save(tmp_path / "tiny" / "small.png", picture(12, 12))
    save(tmp_path / "set" / "a.png", picture(64, 64))
    (tmp_path / "void" / "a").write_text("a file where a folder should be")
    for args, message in (
        (["--model", "bicubic", "--data", "nowhere"], "nowhere: no such file"),
        (["--model", "bicubic", "--data", "void"], "holds no pictures"),
        (["--model", "bicubic", "--data", "tiny"], "small.png: a picture is smaller than 11x11"),
        (["--model", model, "--data", "set", "--scale", "2"], "upscales by 4, not by 2"),
        (["--model", "bicubic", "--data", "set", "--json", "void/a/o.json"], "cannot write"),
    ):
        code, _, err = jaxgen_command("eval", *args)
        assert code == 2, args
        assert message in err, args
        assert err.count("\n") == 1, args


def test_models_lists_the_bundled(jaxgen_command, monkeypatch, tmp_path):
    monkeypatch.setattr(places, "BUNDLED", tmp_path / "bundled")
    code, _, err = jaxgen_command("models")
    assert code == 2
    assert "no model is bundled" in err
    tiny_model().export(places.BUNDLED / "srresnet_photo_x4")
    code, out, _ = jaxgen_command("models")
    assert code == 0
    for text in ("srresnet_photo_x4", "x4", f"{tiny_model().parameters:,}", "psnr_y 25.5"):
        assert text in out
    # The default model of `upscale` is that name.
    save(tmp_path / "a.png", picture())
    assert jaxgen_command("upscale", "a.png", "-o", "o.png")[0] == 0
    # Another doubles.
    code, _, err = jaxgen_command("upscale", "a.png", "-o", "two.png", "--scale", 2)
    assert code == 2
    assert "srresnet_photo_x2" in err
    tiny_model().export(places.BUNDLED / "srresnet_photo_x2")
    assert jaxgen_command("upscale", "a.png", "-o", "two.png", "--scale", 2)[0] == 0


def test_export_of_a_run_and_use_of_both(jaxgen_command, tmp_path):
    write_run(tmp_path / "runs" / "srgan")
    save(tmp_path / "a.png", picture())
    code, out, _ = jaxgen_command("export", "runs/srgan", "-o", "shared")
    assert code == 0
    assert "step 8" in out
    for name, target in (("runs/srgan", "o1.png"), ("shared", "o2.png")):
        assert jaxgen_command("upscale", "a.png", "-o", target, "--model", name)[0] == 0
    assert np.array_equal(read("o1.png"), read("o2.png"))
    code, _, err = jaxgen_command("export", "runs/srgan", "-o", "shared", "--step", 4)
    assert code == 2
    assert "exists and is not empty" in err
    code, out, _ = jaxgen_command(
        "export", "runs/srgan", "-o", "shared", "--step", 4, "--overwrite"
    )
    assert code == 0
    assert "step 4" in out
    code, _, err = jaxgen_command("export", "runs/srgan", "-o", "b", "--step", 4, "--best")
    assert code == 2


def test_prepare(jaxgen_command, tmp_path):
    code, out, _ = jaxgen_command("prepare", "photos", "--data-dir", "tfds")
    assert code == 0
    assert str(tmp_path / "tfds") in out or "tfds/photos" in out
    code, _, err = jaxgen_command("prepare", "nonesuch_set", "--data-dir", "tfds")
    assert code == 2
    assert "nonesuch_set" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "name",
    ["", " ", ".", "../photos", "photos/../..", "/etc/passwd", "photos/x", "a\nb", "x" * 300,
     "\udcff", "emoji/0", "emoji/x", "emoji/99999", "captioned_shapes/32_four", "div2k/",
     "captioned_shapes/0_one", "div2k/bicubic_x4/extra", "codes/x", "%s{}", "emoji/" + "9" * 5000,
     "captioned_shapes/32_one_" + "9" * 5000, "captioned_shapes/32_one_999999999"],
)  # fmt: skip
def test_prepare_of_odd_names(jaxgen_command, tmp_path, name):
    code, out, err = jaxgen_command("prepare", name, "--data-dir", "tfds")
    assert code == 2, (out, err)
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert len(err) < 1000
    assert list(tmp_path.iterdir()) == []


def test_scenes_of_composed_retrieval_are_prepared_and_read_again(tmp_path, jaxgen_command):
    few = ("--set", "data.scenes=3", "--set", "data.changes=2")
    code, out, err = jaxgen_command("prepare", "css", "-o", "scenes", *few)
    assert code == 0, err
    assert "9 of the split test" in out
    assert len(list((tmp_path / "scenes" / "images").glob("css_t*.png"))) == 18
    data = section.defaults()
    data.update(path=str(tmp_path / "scenes"), render="files")
    drawn = section.defaults()
    drawn.update(scenes=3, changes=2)
    again, first = (css.open_split(one, "test") for one in (data, drawn))
    assert again.queries == first.queries
    assert (again.picture(4) == first.picture(4)).all()
    for wrong in (
        ("-o", "scenes"), ("-o", "new", "--set", "data.scenes=none"), (), ("-o", "new", "--join"),
        ("-o", "new", "--set", "data.path=scenes"), ("-o", "new", "--set", "data.scene=3"),
    ):  # fmt: skip
        code, _, err = jaxgen_command("prepare", "css", *wrong)
        assert (code, err.count("\n")) == (2, 1), wrong
    assert not (tmp_path / "new").exists()
