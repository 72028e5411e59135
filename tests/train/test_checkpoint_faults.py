"""Damaged, half-written and unwritable checkpoints: named, nothing saved before is lost."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    REPOSITORY,
    TINY,
    assert_bitwise,
    checkpoint_arrays,
    process_environment,
    run,
    tiny,
)

from jaxgen.errors import UserError
from jaxgen.log import forget_interrupts, interrupt
from jaxgen.train import checkpoint
from jaxgen.weights.checkpoints import complete_steps, load_for_use


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with checkpoints 2 and 4."""
    folder = tmp_path_factory.mktemp("trained")
    run(tiny(train__steps=4, train__checkpoint_every=2), folder)
    assert complete_steps(folder) == [2, 4]
    return folder


@pytest.fixture
def copy(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "run"))


def largest_file(folder: Path) -> Path:
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def truncate(folder):
    path = largest_file(folder / "net_g")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove_item(folder):
    shutil.rmtree(folder / "opt")


def remove_metadata(folder):
    (folder / "net_g" / "_METADATA").unlink()


def zero(folder):
    path = largest_file(folder / "opt")
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("damage", [truncate, remove_item, remove_metadata, zero])
def test_damaged_one_is_named_and_the_one_before_is_used(copy, damage, caplog):
    damage(copy / "checkpoints" / "4")
    run(tiny(train__steps=4, train__checkpoint_every=2), copy)
    assert any("checkpoint 4 is damaged" in r.getMessage() for r in caplog.records)
    assert (copy / "damaged" / "4").is_dir()
    # Steps 3 and 4 were trained again from checkpoint 2, to the same bits.
    assert complete_steps(copy) == [2, 4]


def test_retrained_step_equals_the_lost_one(trained, copy):
    truncate(copy / "checkpoints" / "4")
    run(tiny(train__steps=4, train__checkpoint_every=2), copy)
    assert_bitwise(checkpoint_arrays(trained, 4), checkpoint_arrays(copy, 4))


def test_all_damaged_is_an_error_at_every_start(copy):
    for step in ("2", "4"):
        truncate(copy / "checkpoints" / step)
    metrics = (copy / "metrics.jsonl").read_bytes()
    for _ in range(2):
        with pytest.raises(UserError, match=r"none of the checkpoints \[2, 4\].*begin again"):
            run(tiny(train__steps=4), copy)
    assert complete_steps(copy) == [2, 4]
    assert (copy / "metrics.jsonl").read_bytes() == metrics


def test_one_flipped_bit_is_seen_on_resume_and_use(copy, caplog):
    path = largest_file(copy / "checkpoints" / "4" / "ema_g")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert load_for_use(copy, nets=("g",))[1] == 2
    assert any("its digest is another" in r.getMessage() for r in caplog.records)
    run(tiny(train__steps=4, train__checkpoint_every=2), copy)
    assert (copy / "damaged" / "4").is_dir()


def test_forbidden_one_is_not_moved(copy, monkeypatch):
    from jaxgen.weights import digests

    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(digests, "_digest", forbidden)
    with pytest.raises(UserError, match="may not be read"):
        load_for_use(copy)
    with pytest.raises(UserError, match=r"may not be read.*nothing was moved"):
        run(tiny(train__steps=4), copy)
    assert complete_steps(copy) == [2, 4]


def test_failing_disk_is_named_and_nothing_is_moved(copy, monkeypatch):
    from jaxgen.weights import digests

    def failing(path):
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(digests, "_digest", failing)
    with pytest.raises(UserError, match=r"the disk failed to read .*nothing was moved"):
        load_for_use(copy)
    with pytest.raises(UserError, match=r"the disk failed to read .*nothing was moved"):
        run(tiny(train__steps=4), copy)
    assert complete_steps(copy) == [2, 4]


def test_ctrl_c_that_a_reader_makes_another_error_of_is_no_damage(copy, monkeypatch):
    def read(*args):
        with pytest.raises(KeyboardInterrupt):
            interrupt(signal.SIGINT, None)
        raise SystemError("returned a result with an exception set")

    monkeypatch.setattr(checkpoint.Checkpoints, "_restore", read)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(tiny(train__steps=6), copy)
    finally:
        forget_interrupts()
    assert not (copy / "damaged").exists()


def test_whole_one_that_the_reader_refuses_is_not_moved(copy, monkeypatch):
    def refuse(*args, **kwargs):
        raise ValueError("a codec\nof another version")

    monkeypatch.setattr(checkpoint.Checkpoints, "_restore", refuse)
    with pytest.raises(UserError, match="is whole and can't be read here") as caught:
        run(tiny(train__steps=4), copy)
    assert "\n" not in str(caught.value)
    assert complete_steps(copy) == [2, 4]


def test_only_damaged_ones_set_aside_is_an_error_at_every_start(copy):
    (copy / "checkpoints").rename(copy / "damaged")
    for _ in range(2):
        with pytest.raises(UserError, match=r"is empty, and .*damaged holds damaged checkpoints"):
            run(tiny(train__steps=4), copy)
    assert sorted(p.name for p in (copy / "damaged").iterdir()) == ["2", "4"]


def test_decay_that_is_no_number_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match=r"model\.ema") as caught:
        run(tiny(train__steps=1, model__ema=float("nan")), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "config.json").exists()


def test_without_digests_by_the_config(tmp_path):
    run(tiny(train__steps=1, train__digests=False), tmp_path)
    assert not (tmp_path / "checkpoints" / "1" / "digests.json").exists()
    run(tiny(train__steps=2), tmp_path)  # a resumed run may have them
    assert (tmp_path / "checkpoints" / "2" / "digests.json").is_file()


def test_average_that_is_not_finite_is_not_saved(tmp_path):
    import jax

    from jaxgen.train.checkpoint import Checkpoints, _not_finite
    from jaxgen.train.state import TrainState

    one = {"params": {"w": jax.numpy.ones(3)}}
    bad = {"params": {"w": jax.numpy.full(3, jax.numpy.nan)}}
    state = TrainState(
        step=jax.numpy.int32(1), params={"g": one["params"]}, mutable={}, opt={}, ema={"g": bad}
    )
    assert _not_finite(state) == ["ema_g/params/w"]
    with pytest.raises(UserError, match="not saved at step 1: ema_g/params/w has numbers"):
        Checkpoints(tmp_path).save(1, state)
    assert complete_steps(tmp_path) == []


def test_left_deletions_are_cleaned(copy):
    (copy / ".deleting-2" / "net_g").mkdir(parents=True)
    run(tiny(train__steps=6, train__checkpoint_every=2, train__keep=1), copy)
    assert not list(copy.glob(".deleting*"))


def test_use_falls_back_too(copy, caplog):
    path = largest_file(copy / "checkpoints" / "4" / "ema_g")
    path.write_bytes(b"")
    nets, step = load_for_use(copy, nets=("g",))
    assert step == 2
    assert np.isfinite(nets["g"]["params"]["conv_in"]["kernel"]).all()


def test_checkpoint_of_another_model_is_not_taken_for_damage(copy):
    # As after an update of jaxgen that renames or reshapes something.
    config = tiny(train__steps=6)
    config.model.generator.features = 4
    (copy / "config.json").unlink()
    with pytest.raises(UserError, match=r"checkpoint 4 .* is of another model: net_g differs"):
        run(config, copy)
    assert complete_steps(copy) == [2, 4]


def test_half_written_checkpoint_is_ignored(copy):
    # What a kill in the middle of a save leaves: Orbax's temporary folder.
    source = copy / "checkpoints" / "4"
    shutil.copytree(source, copy / "checkpoints" / "6.orbax-checkpoint-tmp")
    assert complete_steps(copy) == [2, 4]
    assert run(tiny(train__steps=6, train__checkpoint_every=2), copy).step == 6
    assert not list((copy / "checkpoints").glob("*tmp*"))


def test_killed_during_saves_loses_nothing(tmp_path):
    """SIGKILL at arbitrary moments of a run that saves at every step."""
    arguments = [
        sys.executable, "-m", "jaxgen.main", f"--config={TINY}", f"--workdir={tmp_path}",
        "--config.train.steps=100000", "--config.model.pretrain_steps=100000",
        "--config.train.checkpoint_every=1", "--config.train.keep=2",
        "--config.train.log_every=100",
    ]  # fmt: skip
    newest = 0
    for pause in (0.0, 0.13):
        process = subprocess.Popen(
            arguments, cwd=REPOSITORY, env=process_environment(), stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 120
        while max(complete_steps(tmp_path), default=0) < newest + 3:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
        survived = complete_steps(tmp_path)
        assert max(survived) >= newest + 3
        newest = max(survived)
        _, step = load_for_use(tmp_path)
        assert step == newest
    run(
        tiny(
            train__steps=newest + 1,
            model__pretrain_steps=100000,
            train__eval_every=-1,
        ),
        tmp_path,
    )
    assert complete_steps(tmp_path)[-1] == newest + 1


def test_full_disk_is_seen_before_writing(copy, monkeypatch):
    usage = shutil.disk_usage(copy)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(UserError, match=r"disk is full.*checkpoints \[2, 4\] are safe") as caught:
        run(tiny(train__steps=6), copy)
    assert "\n" not in str(caught.value)
    assert complete_steps(copy) == [2, 4]


def limited_files():
    """No file may grow beyond 16 KB: writes fail as on a full disk, with another errno."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, resource.RLIM_INFINITY))


def test_disk_that_fills_up_while_saving(copy):
    before = checkpoint_arrays(copy, 4)
    process = subprocess.run(
        [sys.executable, "-m", "jaxgen.main", f"--config={TINY}", f"--workdir={copy}",
         "--config.train.steps=6", "--config.train.eval_every=-1",
         "--config.train.checkpoint_every=2", "--config.train.compilation_cache=False"],
        cwd=REPOSITORY, env=process_environment(), capture_output=True, text=True, timeout=300,
        preexec_fn=limited_files,
    )  # fmt: skip
    assert process.returncode == 2, process.stderr
    last = process.stderr.strip().splitlines()[-1]
    assert last.startswith("error: the disk is full"), process.stderr
    assert "Traceback" not in process.stderr
    assert "checkpoints [2, 4] are safe, the same command resumes" in last
    assert complete_steps(copy) == [2, 4]
    assert_bitwise(before, checkpoint_arrays(copy, 4))


def test_no_permission(tmp_path):
    # A file where the folder should be: refused for every user, root included.
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another --workdir"):
        run(tiny(train__steps=1), tmp_path / "file" / "run")
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        try:
            with pytest.raises(UserError, match="Permission denied"):
                run(tiny(train__steps=1), tmp_path / "run")
        finally:
            tmp_path.chmod(0o700)


def test_keep_newest_every_and_best(tmp_path):
    from jaxgen.train.checkpoint import Checkpoints

    run(tiny(train__steps=1), tmp_path)
    import jax

    from jaxgen.train import loop
    from jaxgen.train import mesh as meshes
    from jaxgen.train.state import make_optimizers

    config = tiny()
    mesh = meshes.make_mesh(config.mesh, jax.devices()[:1])
    task = loop.load_task(config)
    shapes = {
        "lr": jax.ShapeDtypeStruct((8, 8, 8, 3), np.uint8),
        "hr": jax.ShapeDtypeStruct((8, 32, 32, 3), np.uint8),
    }
    state = loop.fresh_state(task, make_optimizers(task, config), config, mesh, shapes)
    checkpoints = Checkpoints(tmp_path / "kept", keep=2, keep_every=4)
    quality = {3: 30.0, 5: 29.0}
    for step in range(1, 10):
        if step in quality:
            checkpoints.note_best(step, "psnr_y", quality[step], "max")
        checkpoints.save(step, state)
    checkpoints.close()
    assert complete_steps(tmp_path / "kept") == [3, 4, 8, 9]
    assert load_for_use(tmp_path / "kept", best=True, nets=("g",))[1] == 3
