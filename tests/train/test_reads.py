"""A value that the user set and that nothing reads is said, once, when it is known."""

import logging

import pytest
from helpers import REPOSITORY, run_code, tiny
from ml_collections import ConfigDict

from jaxgen.train import loop
from jaxgen.train.reads import Reads

SECTIONS = {
    "data": {"degradation": "bicubic", "blind": {"plain": 0.5}, "path": ""},
    "model": {"loss": {"pixel": 1.0, "l2": 2.0}},
    "train": {"steps": 3},
}


def test_leaves_sections_and_copies():
    config = ConfigDict(SECTIONS)
    asked = ["data.path", "data.blind", "data.blind.plain", "data.degradation", "model.loss.pixel",
             "model.loss.l2", "train.steps"]  # fmt: skip
    reads = Reads(config, asked)
    assert reads.unread() == asked[:-1], "of train and others nothing is said"
    assert reads.unread(last=False) == asked[:4]
    assert reads.config.data.degradation == "bicubic"
    assert reads.config.model.copy_and_resolve_references().loss.get("pixel") == 1.0
    assert reads.unread() == ["data.path", "data.blind", "data.blind.plain", "model.loss.l2"]
    assert reads.config.data.blind.to_dict() == {"plain": 0.5}
    assert reads.unread() == ["data.path", "model.loss.l2"]
    assert reads.config.to_dict() == config.to_dict()
    config.data.path = "of the original"
    assert reads.config.data.path == ""


def test_the_copy_is_as_locked_as_the_config():
    reads = Reads(ConfigDict(SECTIONS), ())
    with pytest.raises(KeyError):
        reads.config.data["more"] = 1


def test_a_run_says_them_at_its_start_and_those_of_losses_with_the_last_stage(tmp_path, caplog):
    config = tiny(train__steps=4, model__pretrain_steps=2, train__eval_every=-1)
    asked = ("data.blind.plain", "data.hr_size", "optimizer.g.gamma", "optimizer.g.lr",
             "model.loss.instance_noise_steps", "model.loss.pixel", "train.keep")  # fmt: skip
    with caplog.at_level(logging.INFO, "jaxgen"):
        loop.train(config, tmp_path, asked=asked)
    said = [record.getMessage() for record in caplog.records]
    told = [line.split(" ")[0] for line in said if "has no effect" in line]
    assert told == ["data.blind.plain", "optimizer.g.gamma", "model.loss.instance_noise_steps"]
    compiled = [i for i, line in enumerate(said) if line.startswith("step of")]
    where = [i for i, line in enumerate(said) if "has no effect" in line]
    assert compiled[0] < where[1] < compiled[1] < where[2]


def test_the_command_says_them(tmp_path):
    code = f"""
import sys
sys.argv = ["main", "--config={REPOSITORY}/configs/srgan.py:tiny", "--workdir={tmp_path}/run",
            "--config.data.blind.usm=False", "--config.train.steps=2",
            "--config.train.eval_every=-1"]
from jaxgen.main import run
run()
"""
    result = run_code(code)
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stderr.splitlines() if "has no effect" in line]
    assert len(lines) == 1
    assert "data.blind.usm has no effect" in lines[0]
