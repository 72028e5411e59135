"""Nets from a run, an export, a bundled model or a file: the same numbers, the same refusals."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers import REPOSITORY, process_environment
from support.tiny_model import tiny_model, variables, write_run

from jaxgen import weights
from jaxgen.errors import UserError
from jaxgen.weights.nets import open_nets


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("nets") / "run")
    lines = [{"step": s, "kind": "eval", "psnr_y": 20.0 + s} for s in (4, 8)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "best.json").write_text('{"step": 4, "metric": "psnr_y", "value": 24.0}')
    return folder


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return tiny_model().export(tmp_path_factory.mktemp("nets") / "tiny")


def test_a_run_gives_its_averages_its_step_and_its_metrics(run):
    newest = open_nets(run, ("g",))
    assert (newest.step, newest.metrics, newest.family) == (8, {"psnr_y": 28.0}, "srgan")
    assert newest.config.model.generator.blocks > 0
    wanted = weights.flatten(variables(newest.config, 108))
    found = weights.flatten(newest.nets["g"])
    assert all(np.array_equal(found[key], wanted[key]) for key in wanted)
    assert sorted(open_nets(run).nets) == ["d", "g"]
    best = open_nets(run, ("g",), best=True)
    assert (best.step, best.metrics) == (4, {"psnr_y": 24.0})
    assert open_nets(run, ("g",), step=8).step == 8


def test_an_export_and_its_file_are_alike(export, tmp_path):
    lone = shutil.copy(export / "weights.safetensors", tmp_path / "lone.safetensors")
    folder, file = open_nets(export), open_nets(lone)
    assert folder.config.family == "srgan"
    assert file.config is None
    assert open_nets(export / "weights.safetensors").config == folder.config
    for found in (folder, file):
        assert (found.step, found.family, list(found.nets)) == (7, "srgan", ["g"])
        assert found.metrics == {"psnr_y": 25.5, "ssim_y": 0.75}


def test_a_bundled_model_goes_by_its_name():
    assert open_nets("srgan_x4").family == "srgan"


@pytest.mark.parametrize("kind", ["run", "export"])
def test_a_net_that_is_not_there_is_an_error(kind, request):
    source = request.getfixturevalue(kind)
    with pytest.raises(UserError, match=r"lacks the net 'text'; it has \[.*'g'\]") as caught:
        open_nets(source, ("g", "text"))
    assert "\n" not in str(caught.value)


def test_what_holds_no_nets_is_named(tmp_path, export):
    with pytest.raises(UserError, match="neither a run, nor an exported model"):
        open_nets(tmp_path / "nothing")
    with pytest.raises(UserError, match="has one step only"):
        open_nets(export, step=7)
    foreign = tmp_path / "published.safetensors"
    weights.write_safetensors(foreign, {"conv.weight": np.zeros((2, 2))})
    torch = tmp_path / "published.pth"
    torch.write_bytes(b"")
    for file in (foreign, torch):
        with pytest.raises(UserError, match=f"jaxgen convert {file} --to FOLDER"):
            open_nets(file)


def test_asking_what_a_run_holds_needs_no_orbax(run):
    code = (
        "import sys\n"
        "from jaxgen.weights import checkpoints, nets\n"
        f"print(checkpoints.complete_steps({str(run)!r}), checkpoints.read_best({str(run)!r}))\n"
        "print('orbax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY, env=process_environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.splitlines()[0].startswith("[4, 8] {'step': 4"), done.stderr
    assert done.stdout.splitlines()[1] == "False"


def test_metrics_are_of_the_last_evaluation_of_the_step(tmp_path):
    folder = write_run(tmp_path / "run", steps=(4,))
    (folder / "metrics.jsonl").write_text('{"step": 4, "kind": "eval", "psnr_y": 20.5}\n')
    assert open_nets(folder).metrics == {"psnr_y": 20.5}
    (folder / "eval.json").write_text('{"step": 4, "psnr_y": 21.5}')
    assert open_nets(folder).metrics == {"psnr_y": 21.5}
    for other in ('{"step": 2, "psnr_y": 9.5}', "[]", "{"):
        (folder / "eval.json").write_text(other)
        assert open_nets(folder).metrics == {"psnr_y": 20.5}
