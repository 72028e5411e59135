"""`jaxgen train`, `configs`, --device, completion, and help in 80 columns."""

import contextlib
import io
import os
import subprocess
import sys
import tomllib

import pytest
from helpers import REPOSITORY, process_environment

from jaxgen import backend, shipped, user_file
from jaxgen import config as configs
from jaxgen.cli import make_command
from jaxgen.cli.common import complete_config
from jaxgen.errors import UserError, mendable
from jaxgen.train import command


@pytest.fixture
def started(monkeypatch):
    """What `jaxgen train` starts."""
    calls = []

    def start(name, overrides, *rest, after):
        calls.append((configs.to_json(command.load(name, overrides)), *rest))
        return 0

    monkeypatch.setattr(command, "start", start)
    return calls


def test_a_name_or_a_path_is_enough_everywhere(jaxgen_command, started):
    for name in ("srgan:tiny", "configs/srgan.py:tiny", REPOSITORY / "configs" / "srgan.py:tiny"):
        code, out, err = jaxgen_command("train", name, "--set", "train.steps=6", "-o", "here",
                                        "--config.train.digests=false", "--debug")  # fmt: skip
        assert (code, out, err) == (0, "", "")
    overrides = {"train.steps": 6, "train.digests": False}
    wanted = configs.load(REPOSITORY / "configs" / "srgan.py:tiny", overrides)
    assert started == [(configs.to_json(wanted), "here", "train", True, "auto")] * 3
    assert command.default_workdir("srgan:tiny") == "runs/srgan-tiny"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["srgn"], "no config file at configs/srgn.py; did you mean srgan?"),
        (["qqq"], "`jaxgen configs` lists the shipped ones"),
        (["srgan:tiny", "--config.train.stps=3"], "did you mean train.steps?"),
        (["srgan:tiny", "--set", "train.steps"], "give KEY=VALUE"),
        (["srgan:tiny", "--mode", "both"], "--mode must be one of train, eval"),
        (["srgan:tiny", "--steps=3"], "unexpected argument '--steps=3'"),
    ],
)
def test_mistakes_are_one_line(jaxgen_command, started, monkeypatch, arguments, says):
    monkeypatch.setattr(command, "end", _end)
    code, _, err = jaxgen_command("train", *arguments)
    assert (code, started) == (2, [])
    assert says in err
    assert err.count("\n") == 1


def _end(line, status):
    print(line, file=sys.stderr)
    raise SystemExit(status)


def test_a_sweep_finds_them_too(jaxgen_command, tmp_path):
    (tmp_path / "space.py").write_text('SPACE = {"train.batch_size": {"choice": (8,)}}')
    for name in ("rdn:tiny", "configs/rdn.py:tiny"):
        code, _, err = jaxgen_command(
            "sweep", "--config", name, "--space", "space.py", "--trials", 1
        )
        assert code == 2
        assert f"--metric is missing: {name} has no train.best_metric" in err


def test_configs_are_listed_with_data_steps_and_what_they_take(jaxgen_command):
    code, out, _ = jaxgen_command("configs")
    assert code == 0
    for name in shipped.names():
        variants = user_file.run(shipped.folder() / f"{name}.py", "config")["VARIANTS"]
        assert list(shipped.variants(name)) == list(variants), f"COSTS of configs/{name}.py"
        for variant in variants:
            row = f"{name}:{variant} " if variant else f"{name} "
            assert sum(line.startswith(row) for line in out.splitlines()) == 1
    line = next(line for line in out.splitlines() if line.startswith("dfgan:paper"))
    assert line.split("  ")[0] == "dfgan:paper"
    assert "cub, 256 px" in line
    assert "410,000" in line
    assert "a GPU with 12 GB" in line
    assert max(map(len, out.splitlines()[1:])) <= 100


def test_the_package_holds_the_configs(monkeypatch, tmp_path):
    """In a wheel they lie beside the modules; there is one source of them."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["only-include"] == ["jaxgen", "configs"]
    assert wheel["sources"] == {"configs": "jaxgen/configs"}
    assert shipped.folder() == REPOSITORY / "configs"
    package = tmp_path / "site-packages" / "jaxgen"
    (package / "configs").mkdir(parents=True)
    (package / "configs" / "srgan.py").write_text((REPOSITORY / "configs/srgan.py").read_text())
    monkeypatch.setattr(shipped, "__file__", str(package / "shipped.py"))
    monkeypatch.chdir(tmp_path)
    assert shipped.names() == ["srgan"]
    for name in ("srgan:paper", "configs/srgan.py:paper"):
        assert configs.load(name).train.steps == 1_200_000
    # A folder configs of one's own comes first.
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "srgan.py").write_text(
        "from jaxgen import config\ndef get_config(arg=''):\n    return config.base('mine')\n"
    )
    assert configs.load("srgan").family == configs.load("configs/srgan.py").family == "mine"


# ---- devices -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "platform", "visible"),
    [("cpu", "cpu", None), ("gpu", "cuda", None), ("GPU:1", "cuda", "1"), ("tpu", "tpu", None)],
)
def test_a_device_is_chosen_before_jax_starts(monkeypatch, device, platform, visible):
    monkeypatch.delitem(sys.modules, "jax")
    for name in ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    backend.choose(device)
    assert os.environ["JAX_PLATFORMS"] == platform
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible


@pytest.mark.parametrize("device", ["x", "cpu:1", "gpu:a", ""])
def test_what_is_no_device_is_said(device):
    with pytest.raises(UserError, match=r"give cpu, gpu, gpu:NUMBER or tpu$"):
        backend.choose(device)


def test_a_device_that_is_not_there_is_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "jaxgen", "eval", "--model", "bicubic", "--data", "x",
         "--device", "gpu:0"],
        env=process_environment(), cwd=REPOSITORY, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    said = mendable(RuntimeError("Unable to initialize backend 'cuda': no such plugin"))
    assert said.startswith("JAX finds no cuda here: leave --device")
    assert "[cuda]" in said


def test_every_command_that_computes_has_the_option():
    without = {"models", "configs", "config"}
    for path, one in commands(make_command()):
        has = any("--device" in parameter.opts for parameter in one.params)
        assert has == (path[0] not in without), path


# ---- help ----------------------------------------------------------------------------------------


def commands(command, path=()):
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
    for name, one in (below or {}).items():
        yield from commands(one, (*path, name))


def test_help_fits_80_columns_and_loses_nothing(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lost = []
    for path, one in commands(make_command()):
        shown = help_of(path)
        lines = shown.splitlines()
        lost += [f"{path}: wide: {line}" for line in lines if len(line) > 80]
        lost += [f"{path}: cut: {line}" for line in lines if "…" in line]
        text = "".join(shown.split())
        for parameter in one.params:
            missing = [word for word in (parameter.help or "").split() if word not in text]
            lost += [f"{path} {parameter.name}: {missing}"] if missing else []
    assert not lost, "\n".join(lost)


def help_of(path):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
        make_command()([*path, "--help"], prog_name="jaxgen")
    return out.getvalue()


def test_paragraphs_of_help_flow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for path, one in commands(make_command()):
        assert all("\n" not in part for part in one.help.split("\n\n")), path
    assert not [line for line in help_of(()).splitlines()[1:] if line.endswith("...")]


def test_the_shell_completes_names_of_configs():
    assert complete_config("sr") == ["srgan", "srresnet"]
    assert complete_config("srresnet:")[0] == "srresnet:tiny"
    options = {option for one in make_command().params for option in one.opts}
    assert "--install-completion" in options
