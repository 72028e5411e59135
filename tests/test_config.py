"""Configs: variants, overrides, JSON, comparison; mistakes get one line."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from helpers import REPOSITORY, TINY, command

from jaxgen import config as configs
from jaxgen.data.captioned import section as captioned
from jaxgen.data.scenes import examples as scenes
from jaxgen.data.sr import section as data
from jaxgen.errors import UserError
from jaxgen.log import log
from jaxgen.train import loop

SRGAN = str(REPOSITORY / "configs" / "srgan.py")


def variants():
    """FILE.py:NAME of everything in configs/."""
    for path in sorted((REPOSITORY / "configs").glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"listed_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for name in module.VARIANTS:
            yield f"configs/{path.name}:{name}", module.__doc__


@pytest.mark.parametrize(
    ("name", "doc"), variants(), ids=lambda v: v if "configs/" in v[:8] else ""
)
def test_variants_load_pass_the_checks_and_are_described(name, doc):
    config = configs.load(f"{REPOSITORY}/{name}")
    configs.check(config)
    if "tokenizer" in config.data:
        section = captioned
    else:
        section = scenes if config.data.source == "scenes" else data
    section.check(config.data)
    variant = name.partition(":")[2]
    assert not variant or re.search(rf"^  {variant} ", doc, re.MULTILINE), "not in the docstring"
    assert (REPOSITORY / "jaxgen" / "models" / config.family).is_dir()


def test_srresnet_is_the_first_stage_alone(tmp_path):
    result = loop.train(configs.load(f"{REPOSITORY}/configs/srresnet.py:tiny"), tmp_path)
    assert result.stopped == "done"
    assert {path.name for path in (tmp_path / "checkpoints" / "4").glob("net_*")} == {"net_g"}


def test_json_round_trip_keeps_values_and_types(tmp_path):
    config = configs.load(SRGAN + ":paper")
    (tmp_path / "config.json").write_text(configs.to_json(config))
    back = configs.from_json(tmp_path / "config.json")
    assert configs.differences(config, back, free=()) == []
    assert back.optimizer.g.milestones == (100_000,)
    assert isinstance(back.train.steps, int)


def test_differences_name_keys_and_leave_out_the_free_ones():
    a = configs.load(TINY)
    b = configs.load(TINY, {"train.steps": 99, "mesh.fsdp": 4, "data.hr_size": 64})
    assert configs.differences(a, b) == ["data.hr_size: 32 -> 64"]


def test_keys_that_a_later_version_brought_do_not_stop_a_resume(tmp_path, monkeypatch, caplog):
    config = configs.load(TINY, {"train.steps": 2, "train.eval_every": -1})
    loop.train(config, tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    del saved["data"]["rescale"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    config.train.steps = 3
    monkeypatch.setattr(log, "propagate", True)
    with caplog.at_level("INFO", logger=log.name):
        assert loop.train(config, tmp_path).step == 3
    assert "began without the config keys data.rescale" in caplog.text


def test_section_added_by_hand_is_unknown():
    config = configs.load(TINY)
    with config.unlocked():
        config.trian = {"steps": 3}
    with pytest.raises(UserError, match="unknown config section 'trian'"):
        configs.check(config)
    config = configs.load(TINY)
    with config.unlocked():
        config.train.learning_rate = 3
    with pytest.raises(UserError, match=r"unknown config key train\.learning_rate"):
        configs.check(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.batch_size": 8, "train.accumulate": 3}, "train.accumulate=3 equal micro-batches"),
        ({"train.steps": 0}, "train.steps must be at least 1"),
        ({"train.dtype": "float16"}, "must be float32 or bfloat16"),
        ({"train.best_mode": "most"}, "max or min"),
    ],
)
def test_impossible_values(changes, message):
    with pytest.raises(UserError, match=message):
        configs.check(configs.load(TINY, changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "srgam"}, "unknown family 'srgam'"),
        ({"data.scale": 3, "data.hr_size": 96}, "SRGAN upscales by 2, 4 or 8"),
        ({"model.generator.form": "edsr"}, "model.generator.form must be one of srresnet, keras"),
        (
            {"model.discriminator.head": "flat"},
            "must be dense or pool, not 'flat'",
        ),
        (
            {"model.loss.pixel_kind": "l3"},
            "must be one of mse, l1, charbonnier, not 'l3'",
        ),
        ({"model.loss.perceptual_weights": "file:/no/vgg.pth"}, "no perceptual weights at"),
        ({"data.source": "cloud"}, "data.source must be one of"),
        ({"data.hr_size": 2048}, "2048"),
        ({"train.init_from.g": "/no/such/run"}, "neither a run, nor an exported model"),
    ],
)
def test_mistakes_of_the_family_and_the_data(changes, message, tmp_path):
    with pytest.raises(UserError, match=message) as caught:
        loop.train(configs.load(TINY, changes), tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_unknown_model_setting(tmp_path):
    config = configs.load(TINY)
    with config.unlocked():
        config.model.generator.depth = 3
    with pytest.raises(UserError, match=r"config\.model\.generator: .*unexpected.*'depth'"):
        loop.load_task(config)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/srgan.py:huge"], "unknown variant ':huge'"),
        (["--config=configs/nothing.py"], "nothing.py"),
        (["--config=configs/srgan.py:tiny", "--config.train.stps=3"], "stps"),
        (["--config=configs/srgan.py:tiny", "--config.train.steps=many"], "many"),
        (["--config=configs/srgan.py:tiny", "--colour=red"], "colour"),
        (["--config=configs/srgan.py:tiny", "train"], "unexpected argument 'train'"),
        ([], "--config is missing"),
        (["--config=configs/srgan.py:tiny", "--mode=eval", "--workdir=/tmp/no/run"], "checkpoint"),
    ],
)
def test_command_line_mistakes_end_in_one_line_and_status_2(arguments, message):
    done = command("jaxgen.main", *arguments)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert lines[-1].startswith("error: "), done.stderr
    assert message in lines[-1]
    assert "Traceback" not in done.stderr


def test_default_workdir():
    from jaxgen.main import default_workdir

    assert default_workdir("configs/srgan.py") == "runs/srgan"
    assert default_workdir(str(Path("a") / "dfgan.py:cub")) == "runs/dfgan-cub"
