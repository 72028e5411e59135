"""`jaxgen config`: a config resolved and checked, and its keys explained."""

import json

import pytest
from helpers import REPOSITORY

from jaxgen import config as configs
from jaxgen import errors

SRGAN = str(REPOSITORY / "configs" / "srgan.py")


def test_it_prints_the_config_as_training_takes_it(jaxgen_command):
    code, out, err = jaxgen_command("config", f"{SRGAN}:tiny", "--set", "train.steps=20")
    assert (code, err) == (0, "")
    assert out == configs.to_json(configs.load(f"{SRGAN}:tiny", {"train.steps": 20}))
    assert json.loads(out)["train"]["steps"] == 20


def test_keys_come_with_what_they_may_be(jaxgen_command):
    code, out, _ = jaxgen_command("config", f"{SRGAN}:tiny", "--keys")
    assert code == 0
    lines = {line.split("│")[1].strip(): line for line in out.splitlines() if "│" in line}
    assert "from 1 to 65536" in lines["model.generator.features"]
    assert "channels of the trunk" in lines["model.generator.features"]
    assert "float32 or bfloat16" in lines["train.dtype"]
    assert "'linear'" in lines["model.generator.output"]
    assert set(configs.flatten(configs.load(f"{SRGAN}:tiny"))) - {"family"} <= set(lines)


def test_a_name_is_enough_in_any_folder(jaxgen_command, monkeypatch):
    assert jaxgen_command("config", "srgan:tiny")[0] == 0
    monkeypatch.chdir(REPOSITORY)
    assert jaxgen_command("config", "srgan:tiny")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((f"{SRGAN}:tiny", "--set", "model.ema=nan"), "model.ema must be a number, at least 0"),
        (
            (f"{SRGAN}:tiny", "--set", "train.stps=3"),
            "did you mean train.steps?",
        ),
        ((f"{SRGAN}:tnyi",), "unknown variant ':tnyi'"),
    ],
)
def test_mistakes(jaxgen_command, arguments, message):
    code, out, err = jaxgen_command("config", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_pip_hints_fit_where_jaxgen_runs_from(monkeypatch, tmp_path):
    assert errors.pip_install("sweep") == 'pip install -e ".[sweep]"'
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "site-packages/jaxgen/errors.py"))
    assert errors.pip_install("sweep") == 'pip install "jaxgen[sweep]"'


def test_hints_name_models_that_can(jaxgen_command, tmp_path):
    code, _, err = jaxgen_command("generate", "a", "--model", "srgan_x4", "-o", tmp_path / "x.png")
    assert code == 2
    assert "it can: upscale; bundled models that do: dfgan_shapes" in err


def test_errors_of_the_system_are_one_line(monkeypatch, jaxgen_command):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", "/somewhere/file")

    monkeypatch.setattr(configs, "load", refuse)
    code, _, err = jaxgen_command("config", "srgan")
    assert (code, err) == (2, "error: /somewhere/file: Permission denied\n")


def test_an_exception_of_ml_collections_is_told_without_its_list():
    config = configs.base("srgan")
    config.lock()
    with pytest.raises(AttributeError) as caught:
        config.trian = 3
    said = errors.one_line(caught.value)
    assert said.startswith('Key "trian" does not exist')
    assert 'Did you mean "train"' in said
    assert "Other fields" not in said
