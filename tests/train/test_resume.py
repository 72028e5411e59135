"""A resumed run equals an uninterrupted one to the last bit, and refuses another config."""

import json

import pytest
from helpers import REPOSITORY, assert_bitwise, checkpoint_arrays, run, tiny

import jaxgen
from jaxgen import config as configs
from jaxgen.errors import UserError
from jaxgen.train.loop import evaluate
from jaxgen.weights.checkpoints import read_metrics

LATER = (("train", "power_ema"), ("train", "digests"), ("data", "recolour"))


@pytest.mark.parametrize("cut", [3, 5], ids=["in pre-training", "in the GAN stage"])
def test_resumed_equals_uninterrupted(tmp_path, cut):
    # Pre-training ends at step 4; dropout, label and instance noise make randomness matter.
    changes = {
        "model__discriminator__dropout": 0.3,
        "model__loss__instance_noise": 0.1,
        "model__loss__instance_noise_steps": 20,
        "model__loss__label_smoothing_kind": "uniform",
        "optimizer__g__schedule": "multistep",
        "optimizer__g__milestones": (2,),
        "optimizer__pretrain__schedule": "constant",
    }
    run(tiny(train__steps=8, **changes), tmp_path / "whole")
    run(tiny(train__steps=cut, **changes), tmp_path / "cut")
    run(tiny(train__steps=8, **changes), tmp_path / "cut")
    assert_bitwise(checkpoint_arrays(tmp_path / "whole", 8), checkpoint_arrays(tmp_path / "cut", 8))


def test_another_config_is_refused_by_key(tmp_path):
    run(tiny(train__steps=1), tmp_path)
    with pytest.raises(UserError, match=r"optimizer\.g\.lr: 0\.0002 -> 0\.1.*another --workdir"):
        run(tiny(train__steps=2, optimizer__g__lr=0.1), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["optimizer"]["g"]["lr"] == 2e-4


def test_log_has_each_step_once_after_a_resume(tmp_path):
    # The log was at step 4 when the run died; the newest checkpoint is that of step 2.
    run(tiny(train__steps=2, train__log_every=1), tmp_path)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "kind": "train", "pretrain/loss": 9.0}\n{"step": 4, "ki')
    run(tiny(train__steps=4, train__log_every=1), tmp_path)
    lines = [line for line in read_metrics(tmp_path) if line["kind"] == "train"]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(line["pretrain/loss"] < 9 for line in lines)


def test_finished_run_does_nothing_more(tmp_path):
    config = tiny(train__steps=2, train__eval_every=2)
    first = run(config, tmp_path)
    before = checkpoint_arrays(tmp_path, 2)
    result = run(config, tmp_path)
    assert result == first
    assert result.metrics  # of the last evaluation, also where there is none to come
    assert_bitwise(before, checkpoint_arrays(tmp_path, 2))


def test_a_run_of_before_later_keys_goes_on(tmp_path):
    """Its config.json lacks keys that came since: it resumes, is evaluated, loads and exports."""
    config = configs.load(f"{REPOSITORY}/configs/srgan.py:tiny", {"train.eval_every": -1})
    config.train.steps = 2
    run(config, tmp_path / "whole")
    run(config, tmp_path / "run")
    older = json.loads((tmp_path / "run/config.json").read_text())
    for section, key in LATER:
        del older[section][key]
    for settings in older["optimizer"].values():
        del settings["factors"], settings["decays"]
    (tmp_path / "run/config.json").write_text(json.dumps(older))

    jaxgen.load(tmp_path / "run").export(tmp_path / "exported")
    assert jaxgen.load(tmp_path / "exported").step == 2
    evaluate(configs.from_json(tmp_path / "run/config.json"), tmp_path / "run")
    for key, value in (("data.recolour", 0.5), ("train.power_ema", True)):
        changed = configs.from_json(tmp_path / "whole/config.json")
        configs.set_key(changed, key, value)
        with pytest.raises(UserError, match=f"{key}: .* -> {value}.*another --workdir"):
            run(changed, tmp_path / "run")
    config.train.steps = 4
    run(config, tmp_path / "whole")
    run(config, tmp_path / "run")
    assert_bitwise(*(checkpoint_arrays(tmp_path / name, 4) for name in ("whole", "run")))
