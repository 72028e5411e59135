"""A run owns its folder; evaluation reads; a first mistake does not lock the folder."""

import json
import subprocess
import sys

import pytest
from helpers import REPOSITORY, process_environment, run, tiny

from jaxgen.errors import UserError
from jaxgen.train import loop
from jaxgen.train.owner import LOCK, OWNER, owned

HOLD = """
import sys, time
from pathlib import Path
from jaxgen.train.owner import owned
with owned(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(100)
"""


def test_second_is_refused_with_host_and_pid_and_a_killed_one_frees_it(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        cwd=REPOSITORY, env=process_environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"in use by process {process.pid} on \S+ since"):
            run(tiny(train__steps=1), tmp_path)
        assert sorted(p.name for p in tmp_path.iterdir()) == [LOCK, OWNER]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    with owned(tmp_path):
        assert (tmp_path / OWNER).is_file()
    assert not (tmp_path / OWNER).exists()


def test_file_system_without_locks(tmp_path, monkeypatch):
    from jaxgen.train import owner

    def no_locks(self, *args, **kwargs):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(owner.FileLock, "acquire", no_locks)
    note = {"host": "elsewhere", "pid": 1, "since": "2026-01-01T00:00:00+00:00"}
    (tmp_path / OWNER).write_text(json.dumps(note))
    with (
        pytest.raises(UserError, match=r"process 1 on elsewhere since 2026.*remove .*owner"),
        owned(tmp_path),
    ):
        pass
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here = {"host": owner.socket.gethostname(), "pid": ended.pid, "since": ""}
    (tmp_path / OWNER).write_text(json.dumps(here))
    with owned(tmp_path):
        pass


def test_typo_in_the_data_does_not_lock_the_folder(tmp_path):
    with pytest.raises(UserError):
        run(tiny(train__steps=1, data__source="folder", data__path="/nowhere"), tmp_path)
    assert not (tmp_path / "config.json").exists()
    run(tiny(train__steps=1), tmp_path)


@pytest.mark.parametrize("source", ["/nowhere", "dfgan_shapes", __file__])
def test_mistake_in_init_from_does_not_lock_the_folder(tmp_path, source):
    with pytest.raises(UserError, match="init_from"):
        run(tiny(train__steps=1, train__init_from__g=source), tmp_path)
    assert not (tmp_path / "config.json").exists()
    run(tiny(train__steps=1), tmp_path)


@pytest.mark.parametrize("trunk", ["/nowhere.pth", __file__])
def test_mistake_in_a_trunk_does_not_lock_the_folder(tmp_path, trunk):
    with pytest.raises(UserError, match=r"nowhere|test_owner"):
        run(tiny(train__steps=1, model__loss__perceptual_weights=trunk), tmp_path)
    assert not (tmp_path / "config.json").exists()
    run(tiny(train__steps=1), tmp_path)


def test_folder_without_a_checkpoint_takes_a_new_config(tmp_path):
    run(tiny(train__steps=1), tmp_path)
    (tmp_path / "checkpoints" / "1").rename(tmp_path / "gone")
    run(tiny(train__steps=1, optimizer__g__lr=0.1), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["optimizer"]["g"]["lr"] == 0.1


def test_evaluation_writes_none_of_the_trainers_files(tmp_path):
    run(tiny(train__steps=2, train__log_every=1), tmp_path)
    with open(tmp_path / "metrics.jsonl", "a") as file:  # of a live run, ahead of its checkpoint
        file.write('{"step": 3, "kind": "train", "loss": 1.0}\n')
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    loop.evaluate(tiny(), tmp_path)
    assert all(path.read_bytes() == data for path, data in before.items())
    assert json.loads((tmp_path / "eval.json").read_text())["step"] == 2


@pytest.mark.parametrize("text", ["{}", "[]", "null", "1", '{"a": "\xff"}'])
def test_touched_config_is_named(tmp_path, text):
    run(tiny(train__steps=1), tmp_path)
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"config\.json") as caught:
        run(tiny(train__steps=1, optimizer__g__lr=0.1), tmp_path)
    assert "\n" not in str(caught.value)


def test_touched_metrics_and_best_do_not_stop_a_run(tmp_path):
    run(tiny(train__steps=1, train__log_every=1), tmp_path)
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(b'1\n[]\nnull\n{}\n{"step": "a", "kind": "eval"}\n\xff\xfe\n')
    (tmp_path / "best.json").write_text("{}")
    run(tiny(train__steps=2, train__log_every=1), tmp_path)
