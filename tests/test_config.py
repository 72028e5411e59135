"""Configs: variants, overrides, JSON, comparison; mistakes get one line."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from helpers import REPOSITORY, TINY, command
from support import key_tables

from jaxgen import config as configs
from jaxgen import keys
from jaxgen.data.captioned import section as captioned
from jaxgen.data.scenes import examples as scenes
from jaxgen.data.sr import section as data
from jaxgen.data.triplets import section as triplets
from jaxgen.encoders import perceptual
from jaxgen.errors import UserError
from jaxgen.log import log
from jaxgen.losses import adversarial
from jaxgen.losses.perceptual import DISTANCES
from jaxgen.tasks.sr import config as sr_config
from jaxgen.tasks.sr import losses as sr_losses
from jaxgen.tasks.t2i import config as t2i_config
from jaxgen.tasks.t2i import task as t2i_task
from jaxgen.train import family, loop

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
    family.check(config)
    if config.family in ("tirg", "tirg_decoder"):
        keys.check(config.data, triplets.KEYS, "data")  # the sets lie in folders of the user's
    elif "tokenizer" in config.data:
        captioned.check(config.data, captioned=False)  # families ask for captions themselves
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


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.train.stps=3", "the config has no key train.stps; did you mean train.steps?"),
        ("--config.train.steps=many", "train.steps must be an integer, not 'many'"),
        ("--config.train.steps=0", "train.steps must be at least 1, not 0"),
        ("--config.train=3", "config key train is a section; set one of its keys"),
        ("--config.train.dtype=float16", "train.dtype must be float32 or bfloat16, not 'float16'"),
        ("--config.data.degradation=blnd", "not 'blnd'; did you mean blind?"),
        ("--config.optimizer.g.b1=nan", "optimizer.g.b1 must be a number, at least 0 and below 1"),
        ("--noconfig.train.tensorboard=3", "give --config.train.tensorboard=VALUE"),
    ],
)
def test_overrides_that_cannot_be_name_key_and_values(flag, message):
    with pytest.raises(UserError) as caught:
        overridden(flag)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def overridden(*flags):
    """The tiny config with flags of the command line, checked."""
    from jaxgen import main
    from jaxgen.train import command

    main._parse(["main", f"--config={TINY}", *flags])
    config = command.load(TINY, main._overrides)
    configs.check(config)
    family.check(config)
    return config


def test_overrides_are_read_as_their_keys_types():
    flags = ["--config.train.steps=0x10", "--noconfig.train.tensorboard", "--config.data.name=7"]
    flags += ["--config.optimizer.g.lr=1", "--config.data.blur_sigma=(1, 2)"]
    config = overridden(*flags)
    assert config.train.steps == 16
    assert config.train.tensorboard is False
    assert config.data.name == "7"
    assert config.optimizer.g.lr == 1.0
    assert config.data.blur_sigma == (1, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:", "line 1: no Python (invalid syntax)"),
        ("x = 1", 'has no function get_config(arg="")'),
        ("import sys\nsys.exit(3)", "line 2: it must give values, not leave the program"),
        ("def get_config(arg=''):\n    return {}['foo']", "line 2: KeyError: foo"),
        ("def get_config(arg=''):\n    return {'a': 1}", "must return a ConfigDict, not {'a': 1}"),
        ("def get_config():\n    pass", "TypeError: get_config() takes 0 positional arguments"),
        ("def get_config(arg=''):\n    get_config()", "RecursionError"),
        ("import nonesuch", "line 1: ModuleNotFoundError: No module named"),
        ("\0", "line 1: no Python"),
        ("x = 1\nraise GeneratorExit", "line 2: GeneratorExit: GeneratorExit"),
        ("class E(BaseException): pass\nraise E('a\\nb')", "line 2: E: a b"),
    ],
)
def test_files_that_do_not_work_are_named_with_line_and_cause(text, message, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        configs.load(file)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_and_variants_that_are_not_there_come_with_the_nearest():
    with pytest.raises(UserError, match=r"no config file at .*sragn\.py; did you mean srgan\.py"):
        configs.load(REPOSITORY / "configs" / "sragn.py")
    with pytest.raises(UserError, match=r"unknown variant ':tinny'.*did you mean tiny"):
        configs.load(f"{SRGAN}:tinny")


def test_the_whole_error_on_request(tmp_path):
    (tmp_path / "mine.py").write_text("def get_config(arg=''):\n    return {}['foo']")
    done = command("jaxgen.main", f"--config={tmp_path}/mine.py", JAXGEN_TRACEBACK="1")
    assert "return {}['foo']" in done.stderr
    assert "Traceback" in done.stderr


def test_declared_choices_are_those_that_the_code_has():
    assert sr_config.LOSS["pixel_kind"].choices == tuple(sr_losses.PIXEL)
    assert sr_config.LOSS["perceptual_kind"].choices == tuple(DISTANCES)
    assert sr_config.LOSS["perceptual_net"].choices == tuple(perceptual.NETS)
    assert set(sr_config.LOSS["adversarial_kind"].choices) == set(adversarial.KINDS)
    assert set(t2i_config.LOSS["kind"].choices) == set(adversarial.ONE_SIDED)
    assert set(t2i_config.TEXT["kind"].choices) == set(t2i_task.ENCODERS)
    assert t2i_config.TEXT["trained_by"].choices == t2i_task.TRAINED_BY


def test_documented_tables_are_the_declarations():
    page = key_tables.PAGE.read_text()
    assert key_tables.filled(page) == page, "run python tests/support/key_tables.py"


def test_every_key_says_what_it_does():
    for name, _ in variants():
        config = configs.load(f"{REPOSITORY}/{name}")
        tables = {**family.own_keys(config), **configs.SHARED}
        listed = {key: entry for key, _, entry in keys.leaves(config, tables)}
        assert set(configs.flatten(config)) - {"family"} == set(listed), name
        dumb = [key for key, entry in listed.items() if not entry.says]
        assert not dumb, name


def test_default_workdir():
    from jaxgen.train.command import default_workdir

    assert default_workdir("configs/srgan.py") == "runs/srgan"
    assert default_workdir(str(Path("a") / "dfgan.py:cub")) == "runs/dfgan-cub"


@pytest.mark.parametrize(
    ("key", "value"),
    [("mesh.rules", (("(", (None,)),)), ("optimizer.pretrain.factors", (("(", 1.0),))],
)
def test_patterns_that_are_none_are_named(key, value):
    config = configs.load(f"{REPOSITORY}/configs/srresnet.py:tiny")
    configs.set_key(config, key, value)
    with pytest.raises(UserError, match=f"{key} must be .*a regular expression") as caught:
        configs.check(config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"form": "relationship", "pool": "2"}, ""),
        ({"pool": "2", "form": "relationship"}, ""),
        ({"pool": "2"}, "unknown config key model.compose.pool"),
        ({"form": "relationship", "pol": "2"}, "did you mean model.compose.pool"),
        ({"form": "relationship", "pool": "wide"}, "model.compose.pool must be an integer"),
        ({"pool.rate": "1"}, "no key model.compose.pool.rate"),
        ({"form.rate": "1"}, "no key model.compose.form.rate"),
    ],
)
def test_what_follows_from_a_form_can_be_set_from_the_command_line(overrides, said):
    from jaxgen.train import command

    def use():
        given = [(f"model.compose.{key}", text) for key, text in overrides.items()]
        config = command.load(f"{REPOSITORY}/configs/tirg.py", given)
        family.check(config)
        return config

    if said:
        with pytest.raises(UserError, match=said):
            use()
    else:
        assert use().model.compose.pool == 2


def test_a_key_that_the_file_leaves_at_its_default_is_listed_and_can_be_set():
    from jaxgen.train import command

    config = command.load(
        f"{REPOSITORY}/configs/vae.py", [("model.autoencoder.patch", "2"), ("train.steps", "7")]
    )
    family.check(config)
    assert config.model.autoencoder.patch == 2
    unset = configs.load(f"{REPOSITORY}/configs/vae.py")
    listed = {
        name: value
        for name, value, _ in keys.leaves(family.completed(unset, unset), family.own_keys(unset))
    }
    assert listed["model.autoencoder.patch"] == 1
    with pytest.raises(UserError, match=r"no key train\.stepz"):
        command.load(f"{REPOSITORY}/configs/vae.py", [("train.stepz", "7")])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2), ("1e-3", 1e-3), ("True", True), ("false", False), ("(1, 2)", (1, 2)),
        ("[1]", (1,)), ("gelu", "gelu"), ("(1", "(1"), ("", ""),
    ],
)  # fmt: skip
def test_what_a_text_most_likely_means(text, value):
    guessed = keys.guessed(text)
    assert guessed == value
    assert type(guessed) is type(value)
