"""`jaxgen sweep`: the space, pruning, failures, going on where it stopped, and what it writes."""

import csv
import json
from pathlib import Path

import pytest
from helpers import REPOSITORY

from jaxgen.errors import UserError
from jaxgen.train import loop, sweep_study
from jaxgen.train import sweep as sweeps
from jaxgen.train.tally import NonFiniteError

SRRESNET = f"{REPOSITORY}/configs/srresnet.py:tiny"
SPACE = {
    "optimizer.pretrain.lr": {"log": (1e-4, 1e-2)},
    "train.batch_size": {"choice": (4, 8)},
    "train.steps": {"int": (2, 4)},
}


def make(folder, **changes):
    fields = {"config": SRRESNET, "space": SPACE, "metric": "score", "mode": "max"} | changes
    return sweep_study.Sweep(folder=Path(folder), **fields)


@pytest.fixture
def trained(monkeypatch):
    """A trainer of which a trial's score is known: higher for a higher learning rate."""
    calls = []

    def train(config, workdir, watch=None, asked=()):
        lr = float(config.optimizer.pretrain.lr)
        calls.append((Path(workdir).name, lr, config.train.batch_size))
        for step in (1, 2, 3):
            if not watch(step, {"score": lr * step}):
                return loop.Result(step, {"score": lr * step}, "pruned")
        return loop.Result(3, {"score": 3 * lr})

    monkeypatch.setattr(loop, "train", train)
    return calls


def test_the_first_trial_says_which_keys_have_no_effect(tmp_path, monkeypatch):
    told = []

    def train(config, workdir, watch, asked):
        told.append(asked)
        return loop.Result(1, {"score": 1.0})

    monkeypatch.setattr(loop, "train", train)
    sweep = make(tmp_path, overrides={"train.log_every": 1})
    sweeps.run(sweep, 2, say=lambda line: None)
    assert told == [("train.log_every", *SPACE), ()]


def test_best_values_table_and_plot(tmp_path, trained):
    said = []
    study = sweeps.run(make(tmp_path), 6, say=said.append)
    assert len(said) == len(trained) == len(study.trials) >= 6
    for _, lr, batch in trained:
        assert 1e-4 <= lr <= 1e-2
        assert batch in (4, 8)
    best = json.loads((tmp_path / "best.json").read_text())
    finished = [t.value for t in study.trials if t.value is not None]
    assert best["score"] == max(finished) == study.best_value
    assert best["overrides"]["optimizer.pretrain.lr"] == pytest.approx(best["score"] / 3)
    with open(tmp_path / "trials.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(study.trials)
    scores = [float(row["score"]) for row in rows if row["score"]]
    assert scores == sorted(scores, reverse=True)
    assert (tmp_path / "sweep.png").read_bytes()[:4] == b"\x89PNG"


def test_trials_behind_the_median_are_stopped(tmp_path, trained, monkeypatch):
    rates = iter([1e-2, 9e-3, 8e-3, 7e-3, 1e-4])
    monkeypatch.setattr(
        sweeps, "_suggest", lambda trial, key, entry: trial.suggest_float(key, 1e-5, 1)
    )
    space = {"optimizer.pretrain.lr": {"float": (1e-5, 1.0)}}
    sweep = make(tmp_path, space=space)
    study = sweep_study.SharedStudy(sweep, 0).study
    for rate in rates:
        study.enqueue_trial({"optimizer.pretrain.lr": rate})
    sweeps.run(sweep, 5, say=lambda line: None)
    states = [t.state.name for t in study.trials]
    assert states == ["COMPLETE"] * 4 + ["PRUNED"]


def test_a_stopped_sweep_goes_on_with_the_same_values_in_the_same_folder(
    tmp_path, trained, monkeypatch
):
    sweeps.run(make(tmp_path), 2, say=lambda line: None)
    whole, stopped = loop.train, []

    def interrupted(config, workdir, watch=None, **_):
        stopped.append((Path(workdir).name, float(config.optimizer.pretrain.lr)))
        return loop.Result(1, {}, "interrupted")

    monkeypatch.setattr(loop, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweeps.run(make(tmp_path), 3, say=lambda line: None)
    monkeypatch.setattr(loop, "train", whole)
    study = sweeps.run(make(tmp_path), 3, say=lambda line: None)
    assert trained[-1][:2] == stopped[0]
    assert sum(t.state.name == "COMPLETE" for t in study.trials) == 3
    before = len(trained)
    sweeps.run(make(tmp_path), 3, say=lambda line: None)
    assert len(trained) == before, "a finished sweep trains nothing"


def test_another_sweep_in_the_folder_is_refused(tmp_path, trained):
    sweeps.run(make(tmp_path), 1, say=lambda line: None)
    with pytest.raises(UserError, match="holds a sweep with another mode"):
        sweeps.run(make(tmp_path, mode="min"), 1)


def test_failed_trials_are_told_and_three_in_a_row_end_it(tmp_path, monkeypatch):
    def broken(config, workdir, watch=None, **_):
        raise NonFiniteError("the loss is not finite at step 3")

    monkeypatch.setattr(loop, "train", broken)
    said = []
    with pytest.raises(UserError, match=r"three trials in a row failed.*not finite at step 3"):
        sweeps.run(make(tmp_path), 5, say=said.append)
    assert len(said) == 3
    assert all("fail" in line for line in said)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SPACE = {}", "must hold SPACE"),
        ("SPACE = {'a': (1, 2)}", "give one of choice, int, float, log"),
        ("SPACE = {'a': {'log': (0, 2)}}", "positive"),
        ("SPACE = {'a': {'int': (5, 2)}}", r"needs \(lowest, highest\)"),
        ("SPACE = {", "line 1: no Python"),
    ],
)
def test_mistakes_in_the_space(tmp_path, text, message):
    (tmp_path / "space.py").write_text(text)
    with pytest.raises(UserError, match=message):
        sweeps.read_space(tmp_path / "space.py")
    with pytest.raises(UserError, match="no space file"):
        sweeps.read_space(tmp_path / "absent.py")


def test_unknown_key_and_metric(tmp_path):
    with pytest.raises(UserError, match=r"no key train\.stepz; did you mean train\.steps"):
        sweeps.run(make(tmp_path, space={"train.stepz": {"int": (1, 2)}}), 1)


def test_command_asks_for_a_metric_that_there_is(tmp_path, jaxgen_command, trained):
    (tmp_path / "space.py").write_text('SPACE = {"optimizer.pretrain.lr": {"log": (1e-4, 1e-2)}}')
    common = ("sweep", "--config", SRRESNET, "--space", tmp_path / "space.py", "--trials", "1")
    code, _, err = jaxgen_command(*common, "-o", tmp_path / "s")
    assert code == 2
    assert "--metric is missing" in err
    code, _, err = jaxgen_command(*common, "-o", tmp_path / "s", "--metric", "fid")
    assert code == 2
    assert "the evaluation gives score" in err


def test_command_on_a_tiny_config(tmp_path, jaxgen_command):
    (tmp_path / "space.py").write_text('SPACE = {"train.seed": {"choice": (0, 1)}}')
    code, out, err = jaxgen_command(
        "sweep", "--config", SRRESNET, "--space", tmp_path / "space.py", "--trials", "1",
        "--metric", "psnr_y", "--set", "train.steps=2", "-o", tmp_path / "t",
        "--storage", tmp_path / "journal",
    )  # fmt: skip
    assert code == 0, err
    assert "best: jaxgen train " in out
    best = json.loads((tmp_path / "t" / "best.json").read_text())
    assert best["psnr_y"] > 5
    assert best["overrides"]["train.steps"] == 2
    assert (tmp_path / "t" / best["folder"] / "checkpoints").is_dir()
    assert (tmp_path / "journal").is_file()
    assert not (tmp_path / "t" / "study.db").exists()
