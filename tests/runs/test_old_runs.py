"""Runs and exports of the commit f244957, before the rooms: they open, compute the same, resume.

tests/golden/before_rooms holds `configs/{srgan,prompt_srgan,dfgan}.py:tiny` exported by that
commit, one of the runs whole (its last checkpoint), and what its code made of them.
"""

import tarfile

import numpy as np
import pytest
from helpers import REPOSITORY

import jaxgen
from jaxgen import config as configs
from jaxgen.train import loop

OLD = REPOSITORY / "tests" / "golden" / "before_rooms"


@pytest.fixture(scope="module")
def outputs():
    return np.load(OLD / "outputs.npz")


@pytest.fixture
def old_run(tmp_path):
    with tarfile.open(OLD / "srgan_run.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    return tmp_path / "srgan"


def assert_same_picture(ours, theirs):
    """To one level of 255: another CPU rounds differently."""
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_an_old_export_upscales_the_same(outputs):
    model = jaxgen.load(OLD / "srgan")
    assert (model.step, model.scale) == (8, 4)
    assert_same_picture(model.upscale(outputs["low"]), outputs["srgan"])


def test_an_old_export_takes_a_prompt_the_same(outputs):
    model = jaxgen.load(OLD / "prompt_srgan")
    low = outputs["low"]
    assert_same_picture(model.upscale(low), outputs["prompt_empty"])
    prompted = model.upscale(low, prompt="dots at the top", strength=1.5)
    assert_same_picture(prompted, outputs["prompt"])


def test_an_old_export_draws_the_same(outputs):
    model = jaxgen.load(OLD / "dfgan")
    assert_same_picture(model.generate("a large red circle", n=3, seed=1), outputs["dfgan"])


def test_an_old_run_opens_the_same(old_run, outputs):
    model = jaxgen.load(old_run)
    assert model.step == 8
    assert_same_picture(model.upscale(outputs["low"]), outputs["srgan"])


def test_an_old_run_resumes(old_run):
    config = configs.from_json(old_run / "config.json")
    config.train.steps = 10
    result = loop.train(config, old_run)
    assert (result.step, result.stopped) == (10, "done")
    lines = (old_run / "metrics.jsonl").read_text()
    assert '"step": 8' in lines, "what was logged before stays"
