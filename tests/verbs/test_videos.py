"""Videos: sound and times kept, gone on with after a stop, by PyAV and by ffmpeg."""

import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from support.tiny_model import tiny_model
from support.upscale_command import folder, model
from support.upscale_command import upscale_command as upscale

from jaxgen.data import video
from jaxgen.data.video import Shown
from jaxgen.errors import UserError
from jaxgen.verbs.upscale import videos
from jaxgen.verbs.upscale.files import How

__all__ = ["folder", "model", "upscale"]

COUNT, SIZE = 7, (16, 24)
# Frames at irregular times, as phones make them.
TIMES = [Fraction(t, 1000) for t in (0, 75, 115, 155, 230, 270, 310)]


def program():
    """ffmpeg on the PATH, or the one that imageio-ffmpeg brings."""
    if found := shutil.which("ffmpeg"):
        return found
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        return None


def pyav():
    from jaxgen.data.video_av import PyAV

    return PyAV()


def ffmpeg():
    from jaxgen.data.video_ffmpeg import Ffmpeg

    if program() is None:
        pytest.skip("the program ffmpeg is not there")
    return Ffmpeg(program())


@pytest.fixture(params=[pyav, ffmpeg])
def tool(request, monkeypatch):
    made = request.param()
    monkeypatch.setattr(videos, "engine", lambda: made)
    return made


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A video with sound."""
    path = tmp_path_factory.mktemp("video") / "in.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        stream.options = {"crf": "1"}
        stream.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("aac", rate=44100)
        for i, time in enumerate(TIMES):
            image = np.full((*SIZE, 3), 60 + 20 * i, np.uint8)
            image[:, : 2 * i + 2] = (200, 60, 40)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = int(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        wave = np.sin(np.arange(22050) / 20).astype(np.float32)[None] / 4
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 44100, 0
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def sound(path):
    """Its packets."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def enlarged(model, source, target, **options):
    moved = []
    outcome = videos.upscale_video(
        model.upscale, (source, target), moved.append, How(**options)
    )  # fmt: skip
    return outcome, moved


def near(a, b):
    """As far as a lossy film with half the colours can be."""
    return np.abs(a.astype(int) - b).mean() < 6


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".mov"])
def test_frames_times_and_sound(tool, model, source, tmp_path, ending):
    target = tmp_path / f"out{ending}"
    outcome, moved = enlarged(model, source, target)
    assert outcome.error is None
    assert (outcome.size, outcome.remark) == ((64, 96), "7 frames")
    before, after = list(pyav().frames(source)), list(pyav().frames(target))
    assert [one.time for one in before] == TIMES
    # Matroska has no times below zero, where this sound begins: all of it is a little later.
    late = after[0].time
    assert late == 0 or (ending == ".mkv" and late < Fraction(1, 20))
    assert [one.time - late for one in after] == pytest.approx(TIMES, abs=0.0011)
    for small, large in zip(before, after, strict=True):
        assert near(large.image, model.upscale(small.image))
    assert sound(target) == sound(source) != []
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert moved == sorted(moved)


def test_it_goes_on_where_it_was_stopped(tool, model, source, tmp_path, monkeypatch):
    monkeypatch.setattr(videos, "PART_FRAMES", 2)
    target, write, began = tmp_path / "out.mp4", tool.write_part, []

    def stopped(path, shown):
        began.append(path.name)
        if len(began) == 3:
            raise KeyboardInterrupt
        write(path, shown)

    monkeypatch.setattr(tool, "write_part", stopped)
    with pytest.raises(KeyboardInterrupt):
        enlarged(model, source, target)
    assert not target.exists()
    outcome, _ = enlarged(model, source, target)
    assert outcome.error is None
    # Two parts of two frames were there.
    assert [name[:8] for name in began] == [f"{n:08d}" for n in (0, 2, 4, 4, 6)]
    after = list(pyav().frames(target))
    assert [one.time for one in after] == pytest.approx(TIMES, abs=2e-5)
    for small, large in zip(pyav().frames(source), after, strict=True):
        assert near(large.image, model.upscale(small.image))
    # Another scale is other work.
    outcome, _ = enlarged(model, source, tmp_path / "out.mp4", scale=1.5)
    assert outcome.size == (24, 36)


def test_parts_of_other_work_are_not_used(tool, model, source, tmp_path, monkeypatch):
    target, join = tmp_path / "out.mp4", videos._join
    monkeypatch.setattr(videos, "_join", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        enlarged(model, source, target, scale=2)
    monkeypatch.setattr(videos, "_join", join)
    outcome, _ = enlarged(model, source, target)
    assert outcome.size == (64, 96)


def test_parts_of_another_model_of_the_same_name_are_not_used(
    tool, model, source, tmp_path, monkeypatch
):
    target, join, write, began = tmp_path / "out.mp4", videos._join, tool.write_part, []
    monkeypatch.setattr(videos, "_join", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        enlarged(model, source, target)
    monkeypatch.setattr(videos, "_join", join)
    monkeypatch.setattr(
        tool, "write_part", lambda path, shown: (began.append(path), write(path, shown))
    )
    other = tiny_model(1)
    assert other.upscale.name == model.upscale.name
    assert enlarged(other, source, target)[0].error is None
    assert began


def _interrupt(*args):
    raise KeyboardInterrupt


def test_odd_sides_become_even(tool, model, source, tmp_path):
    outcome, _ = enlarged(model, source, tmp_path / "out.mp4", scale=0.3)
    assert (outcome.error, outcome.size) == (None, (6, 8))  # of 5x7


def test_a_turned_video_is_upright(tool, source, tmp_path):
    exe = program()
    if exe is None:
        pytest.skip("the program ffmpeg turns the video")
    import subprocess

    turned = tmp_path / "turned.mp4"
    subprocess.run(
        [exe, "-loglevel", "error", "-display_rotation", "90", "-i", str(source), "-c", "copy",
         str(turned)],
        check=True,
    )  # fmt: skip
    first, flat = next(tool.frames(turned)), next(pyav().frames(source))
    assert tool.about(turned).size == SIZE[::-1]
    assert np.abs(first.image.astype(int) - np.rot90(flat.image)).mean() < 3


def test_damaged_videos_are_named(tool, model, source, tmp_path):
    for name, content in (("cut.mp4", source.read_bytes()[:300]), ("no.mp4", b"no video")):
        (tmp_path / name).write_bytes(content)
        outcome, _ = enlarged(model, tmp_path / name, tmp_path / "out.mp4")
        assert isinstance(outcome.error, UserError)
        assert name in str(outcome.error)


# ------------------------------------------------------------------------------------ the command


def test_the_command(upscale, source, tmp_path):
    shutil.copy(source, "in.mp4")
    code, out, err = upscale("in.mp4", "-o", "out.mp4")
    assert (code, err) == (0, "")
    assert out.startswith("out.mp4  96x64")
    assert upscale("in.mp4")[0] == 0
    assert (tmp_path / "in_x4.mp4").is_file()
    code, _, err = upscale("in.mp4", "-o", "out.avi")
    assert (code, err.count("\n")) == (2, 1)
    assert "cannot write a video as .avi" in err
    code, _, err = upscale("in.mp4", "-o", "in.mp4", "--overwrite")
    assert (code, "would replace a video" in err) == (2, True)


def test_without_a_tool_it_is_one_line(upscale, monkeypatch, source):
    shutil.copy(source, "in.mp4")
    monkeypatch.setattr(video.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(video.shutil, "which", lambda name: None)
    code, out, err = upscale("in.mp4", "-o", "out.mp4")
    assert (code, out) == (2, "")
    assert err == "error: videos need PyAV (pip install av) or the program ffmpeg on the PATH\n"


def test_frames_of_part_are_all_there(tool, tmp_path):
    """Lossy, but each at its time, and none twice."""
    frames = [Shown(np.full((16, 16, 3), 30 * i, np.uint8), t) for i, t in enumerate(TIMES)]
    path = Path(tmp_path / f"a{video.PART}")
    tool.write_part(path, frames)
    found = list(pyav().frames(path))
    assert [one.time for one in found] == pytest.approx(TIMES, abs=2e-5)
    for one, frame in zip(found, frames, strict=True):
        assert near(one.image, frame.image)
