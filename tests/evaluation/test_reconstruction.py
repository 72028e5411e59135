"""Reconstructions measured: from a model, from the command, and what the codes say."""

import json

import numpy as np
import pytest
from helpers import REPOSITORY, noise, run
from PIL import Image

import jaxgen
from jaxgen import config as configs
from jaxgen.errors import UserError
from jaxgen.evaluation import reconstruction
from jaxgen.metrics.psnr_ssim import psnr


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vqgan") / "run"
    changes = {"model.gan_start": -1, "train.steps": 1, "train.eval_every": -1}
    run(configs.load(f"{REPOSITORY}/configs/vqgan.py:tiny", changes), folder)
    return folder


def test_health_of_counts():
    found = reconstruction.health(np.array([4, 0, 4, 0]))
    np.testing.assert_allclose(
        [found["usage"], found["perplexity"], found["dead_codes"]], [0.5, 2.0, 2.0], rtol=1e-6
    )


def test_on_its_own_validation_pictures(trained):
    model = jaxgen.load(trained)
    report = reconstruction.evaluate_model(model, n=6)
    scores = report["scores"]
    assert report["pictures"] == 6
    assert scores["bits_per_pixel"] == 1.0  # 4 bits of 2 x 2 pixels
    assert {"psnr_rgb", "ssim_rgb", "usage", "read_whole", "rfd_random_vgg19"} <= scores.keys()
    assert 0 < scores["usage"] <= 1


def test_the_command_on_a_folder(trained, jaxgen_command, tmp_path):
    (tmp_path / "in").mkdir()
    pictures = [noise(17, 20, seed) for seed in range(2)]
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "in" / f"{i}.png")
    code, out, err = jaxgen_command("eval", "--model", trained, "--data", "in", "--json", "o.json")
    assert (code, err) == (0, "")
    assert "psnr_rgb" in out
    report = json.loads((tmp_path / "o.json").read_text())
    model = jaxgen.load(trained)
    wanted = np.mean([psnr(model.encode.reconstruct(p), p) for p in pictures])
    np.testing.assert_allclose(report["scores"]["psnr_rgb"], wanted)
    # 9 x 10 codes of 4 bits on 17 x 20 pixels.
    np.testing.assert_allclose(report["scores"]["bits_per_pixel"], 360 / 340)
    code, _, err = jaxgen_command("eval", "encode", "--model", trained, "--resize", "tf1")
    assert (code, err.count("\n")) == (2, 1)
    code, _, err = jaxgen_command("eval", "--model", trained, "--seed", 1)
    assert code == 2
    assert "--seed is for generated pictures" in err


def test_an_empty_folder(trained, tmp_path):
    with pytest.raises(UserError, match="no pictures in this folder"):
        reconstruction.evaluate_model(jaxgen.load(trained), tmp_path)
