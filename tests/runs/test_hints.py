"""What is said at the end of a training: commands that exist."""

import shlex

import pytest
from helpers import REPOSITORY

from jaxgen import config as configs
from jaxgen.cli import make_command
from jaxgen.runs import hints


@pytest.mark.parametrize("name", ["srgan", "dfgan", "vqgan", "clip", "tirg", "ldm"])
def test_commands_to_use_evaluate_and_continue(tmp_path, name):
    run = tmp_path / "a run"
    run.mkdir()
    config = configs.load(REPOSITORY / "configs" / f"{name}.py:tiny")
    if name in ("clip", "tirg", "ldm"):  # which read texts by a tokenizer that a run has made
        from jaxgen.train import family

        config = family.resolve(config)
    (run / "config.json").write_text(configs.to_json(config))
    lines = hints.next_commands(run, f"jaxgen train {name}:tiny", finished=True)
    kinds = [line.split(":")[0] for line in lines]
    assert kinds[-2:] == ["evaluate", "continue"]
    assert kinds[0] == "use"
    assert name != "ldm" or lines[1].startswith("use:       jaxgen edit photo.png ")
    steps = 2 * config.train.steps
    assert lines[-1].endswith(f"jaxgen train {name}:tiny --config.train.steps={steps}")
    for said in (" --config.train.steps=4", " --set train.steps=4"):
        again = hints.next_commands(run, f"jaxgen train {name}{said} -o there", finished=True)
        assert again[-1].endswith(f"jaxgen train {name} -o there --config.train.steps={steps}")
    known = make_command().commands
    for line in lines:
        words = shlex.split(line.split(":", 1)[1])
        assert words[0] == "jaxgen"
        options = {option for one in known[words[1]].params for option in one.opts}
        for below in getattr(known[words[1]], "commands", {}).values():
            options |= {option for one in below.params for option in one.opts}
        for word in words[2:]:
            assert not word.startswith("-") or word in options or word.startswith("--config.")
    assert not hints.next_commands(run, "again", finished=False)[-1].endswith("=8")
