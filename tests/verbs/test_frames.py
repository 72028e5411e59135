"""`jaxgen upscale FRAMES_DIR`: order, batches, resuming, the wanted scale, threads, devices."""

import dataclasses
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from support.tiny_model import picture
from support.upscale_command import folder, model, upscale_command

from jaxgen import devices
from jaxgen.errors import UserError
from jaxgen.verbs import files
from jaxgen.verbs.upscale import files as upscale_files
from jaxgen.verbs.upscale import tiling as upscale
from jaxgen.verbs.upscale.use import Upscaler

__all__ = ["folder", "model", "upscale_command"]


def write_frames(path, count, shape=(13, 17), first=0):
    """frame_0.png, frame_1.png, ... all different."""
    path.mkdir(parents=True, exist_ok=True)
    frames = [picture(*shape, seed=first + i) for i in range(count)]
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(path / f"frame_{first + i}.png")
    return frames


def read(path):
    return np.asarray(Image.open(path))


def close(a, b):
    """Equal but for ties of the rounding, which batches may break otherwise."""
    difference = np.abs(a.astype(int) - b)
    return difference.max() <= 1 and (difference != 0).mean() < 1e-3


def outcomes(model, jobs, **options):
    moved = []
    found = list(
        upscale_files.upscale_files(model.upscale, jobs, moved.append, upscale_files.How(**options))
    )
    return found, moved


def test_names_and_natural_order(upscale_command, model, tmp_path):
    frames = write_frames(tmp_path / "in", 12)
    code, out, err = upscale_command("in", "-o", "out")
    assert (code, err) == (0, "")
    said = [line.split()[0] for line in out.splitlines()]
    assert said == [f"out/frame_{i}.png" for i in range(12)]
    for i, frame in enumerate(frames):
        assert np.array_equal(read(tmp_path / "out" / f"frame_{i}.png"), model.upscale(frame))


def test_natural_order_with_folders_and_without_numbers():
    names = ["b/2.png", "b/10.png", "a10b2.png", "a10b11.png", "a9.png", "x.png"]
    ordered = sorted(map(Path, names), key=files._natural)
    assert [str(p) for p in ordered] == [
        "a9.png", "a10b2.png", "a10b11.png", "b/2.png", "b/10.png", "x.png",
    ]  # fmt: skip


@pytest.mark.parametrize("batch", [1, 2, 3, 20])
def test_batches_of_frames_change_nothing(model, tmp_path, batch):
    frames = write_frames(tmp_path / "in", 7)
    jobs = files.plan_outputs([tmp_path / "in"], tmp_path / "out", None)
    found, moved = outcomes(model, jobs, batch=batch)
    assert [o.error for o in found] == [None] * 7
    assert [(o.source, o.target) for o in found] == jobs
    assert {o.size for o in found} == {(52, 68)}
    assert all(o.seconds > 0 for o in found)
    assert moved == sorted(moved)
    assert moved[-1] == 7
    for (_, target), frame in zip(jobs, frames, strict=True):
        assert close(read(target), model.upscale(frame))


def test_frames_of_one_size_share_one_program(model, tmp_path, monkeypatch):
    write_frames(tmp_path / "in", 5)
    write_frames(tmp_path / "in", 1, (20, 9), first=5)
    write_frames(tmp_path / "in", 2, first=6)
    shapes, verb = [], model.verbs["upscale"]

    def apply(nets, x, given):
        shapes.append(x.shape)
        return verb.apply(nets, x, given)

    monkeypatch.setattr(model.upscale, "verb", dataclasses.replace(verb, apply=apply))
    jobs = files.plan_outputs([tmp_path / "in"], tmp_path / "out", None)
    found, _ = outcomes(model, jobs, batch=2)
    assert [o.error for o in found] == [None] * 8
    # The last of the five is filled up to two; the odd picture goes alone. The memory's estimate
    # traces 32x32.
    traced = [s for s in shapes if s[1:3] != (32, 32)]
    assert traced == [(2, 13, 17, 3), (1, 20, 9, 3)]


def test_gray_alpha_and_damaged_frames_between_others(model, tmp_path):
    source = tmp_path / "in"
    frames = write_frames(source, 6)
    gray, alpha = picture(channels=0), picture(channels=0, seed=9)
    Image.fromarray(gray).save(source / "frame_1.png")
    Image.fromarray(np.dstack([frames[2], alpha])).save(source / "frame_2.png")
    (source / "frame_4.png").write_bytes(b"no picture")
    jobs = files.plan_outputs([source], tmp_path / "out", None)
    found, moved = outcomes(model, jobs, batch=3)
    assert [o.source for o in found] == [source for source, _ in jobs]
    assert [o.error is None for o in found] == [True, True, True, True, False, True]
    assert isinstance(found[4].error, UserError)
    assert moved[-1] == 6
    assert close(read(jobs[1][1]), model.upscale(gray))
    assert close(read(jobs[2][1]), model.upscale(np.dstack([frames[2], alpha])))
    assert not jobs[4][1].exists()


def test_an_interrupted_job_goes_on(upscale_command, model, tmp_path, monkeypatch):
    frames = write_frames(tmp_path / "in", 9)
    enlarge, calls = Upscaler.__call__, []

    def interrupted(self, *args, **options):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return enlarge(self, *args, **options)

    monkeypatch.setattr(Upscaler, "__call__", interrupted)
    code, _, _ = upscale_command("in", "-o", "out")
    assert code == 130
    there = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    # Whole files only: what was being written was finished, nothing after it begun.
    assert set(there) <= {f"frame_{i}.png" for i in range(3)}
    assert len(there) >= 2
    code, out, _ = upscale_command("in", "-o", "out")
    assert code == 0
    assert f"{len(there)} of 9 were there already" in out
    for i, frame in enumerate(frames):
        path = tmp_path / "out" / f"frame_{i}.png"
        assert np.array_equal(read(path), model.upscale(frame))
        assert there.get(path.name, path.stat().st_mtime_ns) == path.stat().st_mtime_ns
    assert len(calls) == 4 + 9 - len(there) + 9


def test_decoding_and_encoding_overlap_with_the_network(model, tmp_path, monkeypatch):
    """While frame 1 is in the network, frame 2 is decoded and frame 0 encoded.

    Each waits for the other two to have begun: without overlap the test would stop at the timeout.
    """
    write_frames(tmp_path / "in", 3)
    jobs = files.plan_outputs([tmp_path / "in"], tmp_path / "out", None)
    together = threading.Barrier(3, timeout=60)
    read_picture, write, enlarge = (
        upscale_files.read_picture,
        upscale_files.write_image,
        Upscaler.__call__,
    )
    count = {"upscale": 0}

    def reading(path, deep):
        if Path(path).name == "frame_2.png":
            together.wait()
        return read_picture(path, deep)

    def writing(path, *args, **options):
        if Path(path).name == "frame_0.png":
            together.wait()
        return write(path, *args, **options)

    def enlarging(self, *args, **options):
        count["upscale"] += 1
        if count["upscale"] == 2:
            together.wait()
        return enlarge(self, *args, **options)

    monkeypatch.setattr(upscale_files, "read_picture", reading)
    monkeypatch.setattr(upscale_files, "write_image", writing)
    monkeypatch.setattr(Upscaler, "__call__", enlarging)
    found, _ = outcomes(model, jobs)
    assert [o.error for o in found] == [None] * 3


def test_large_results_are_written_before_the_next_begins(model, tmp_path, monkeypatch):
    write_frames(tmp_path / "in", 3)
    jobs = files.plan_outputs([tmp_path / "in"], tmp_path / "out", None)
    monkeypatch.setattr(upscale_files, "OVERLAP_BYTES", 1000)
    enlarge, seen = Upscaler.__call__, []

    def enlarging(self, *args, **options):
        seen.append(len(list((tmp_path / "out").glob("*.png"))))
        return enlarge(self, *args, **options)

    monkeypatch.setattr(Upscaler, "__call__", enlarging)
    outcomes(model, jobs)
    assert seen == [0, 1, 2]


def test_no_thread_stays_behind(model, tmp_path):
    write_frames(tmp_path / "in", 3)
    jobs = files.plan_outputs([tmp_path / "in"], tmp_path / "out", None)
    before = threading.active_count()
    work = upscale_files.upscale_files(model.upscale, jobs, lambda done: None)
    next(work)
    work.close()
    assert threading.active_count() == before


def test_a_failure_of_a_batch_is_only_that_picture_s(model, tmp_path, monkeypatch):
    write_frames(tmp_path / "in", 4)
    jobs = files.plan_outputs([tmp_path / "in"], tmp_path / "out", None)
    enlarge, bad = Upscaler.__call__, picture(13, 17, seed=1)

    def fails(self, image, *args, **options):
        if any(np.array_equal(one, bad) for one in (image if isinstance(image, list) else [image])):
            raise MemoryError
        return enlarge(self, image, *args, **options)

    monkeypatch.setattr(Upscaler, "__call__", fails)
    found, moved = outcomes(model, jobs, batch=4)
    assert [o.error is None for o in found] == [True, False, True, True]
    assert "frame_1.png: the result does not fit" in str(found[1].error)
    assert moved == sorted(moved)


@pytest.mark.parametrize("scale", [0.1, 1.0, 2.5, 4.0, 6.0])
def test_the_wanted_scale(model, tmp_path, scale):
    frames = write_frames(tmp_path / "in", 1)
    alpha = picture(channels=0, seed=3)
    Image.fromarray(np.dstack([frames[0], alpha])).save(tmp_path / "in" / "alpha.png")
    Image.fromarray(alpha).save(tmp_path / "in" / "gray.png")
    jobs = files.plan_outputs([tmp_path / "in"], tmp_path / "out", None)
    found, _ = outcomes(model, jobs, scale=scale)
    size = round(17 * scale), round(13 * scale)
    assert [o.size for o in found] == [size[::-1]] * 3
    full = Image.fromarray(model.upscale(frames[0]))
    expected = np.asarray(full if scale == 4 else full.resize(size, Image.Resampling.LANCZOS))
    assert np.array_equal(read(tmp_path / "out" / "frame_0.png"), expected)
    assert np.array_equal(read(tmp_path / "out" / "alpha.png")[..., :3], expected)
    assert read(tmp_path / "out" / "gray.png").shape == size[::-1]


def test_scale_and_batch_on_the_command_line(upscale_command, tmp_path):
    write_frames(tmp_path / "in", 3)
    code, out, _ = upscale_command("in", "-o", "out", "--scale", 2.5, "--batch", 2)
    assert code == 0
    assert out.count("  42x32  ") == 3
    for wrong in (0, 100, "nan"):
        assert upscale_command("in", "-o", "out2", "--scale", wrong)[0] == 2


# ------------------------------------------------------------------------- several frames, devices


def test_images_together_use_all_devices(model):
    verb = model.verbs["upscale"]
    variables = model.nets
    frames = [picture(seed=i) for i in range(11)]
    together = upscale.upscale_images(verb, variables, frames)
    assert len(jax.devices()) == 8
    for frame, result in zip(frames, together, strict=True):
        assert close(result, upscale.upscale_image(verb, variables, frame))
    gray = upscale.upscale_images(verb, variables, [f[..., 0] for f in frames[:3]], tile=6, batch=2)
    for frame, result in zip(frames, gray, strict=False):
        assert close(result, upscale.upscale_image(verb, variables, frame[..., 0]))
    assert upscale.upscale_images(verb, variables, []) == []


def test_frames_must_have_one_shape(model):
    with pytest.raises(UserError, match="one shape"):
        model.upscale([picture(4, 4), picture(4, 5)])
    with pytest.raises(UserError, match="uint8"):
        model.upscale([picture(4, 4), picture(4, 4).astype(np.float32)])


class FakeDevice:
    platform = "gpu"


@pytest.mark.parametrize(
    ("frame", "tile", "batch", "expected"),
    [
        ((100, 100), None, None, (16, 8)),  # room for 40 frames: the most, on two devices
        ((300, 300), None, None, (8, 4)),  # room for 4
        ((900, 900), None, None, (1, 1)),  # larger than the room: windows of one frame
        ((100, 100), None, 3, (6, 3)),
        ((100, 100), 50, None, (4, 8)),  # 4 windows a frame
    ],
)
def test_how_many_frames_go_together(model, monkeypatch, frame, tile, batch, expected):
    verb, variables = model.verbs["upscale"], model.nets
    room = 40e4 * upscale.bytes_per_pixel(verb, variables)
    monkeypatch.setattr(devices, "memory", lambda: room)
    monkeypatch.setattr(upscale.jax, "local_devices", lambda: [FakeDevice(), FakeDevice()])
    assert upscale.frames_at_once(verb, variables, frame, None, tile, batch) == expected


def test_one_frame_at_a_time_on_a_cpu(model):
    verb, variables = model.verbs["upscale"], model.nets
    assert upscale.frames_at_once(verb, variables, (100, 100)) == (1, 1)
    assert upscale.frames_at_once(verb, variables, (100, 100), batch=4) == (4, 4)
