"""The command: what it writes, what it says, and its exit codes, for good and for bad input."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.tiny_model import ROOT, model, own_cache, picture, read, save

import jaxgen
from jaxgen import cli
from jaxgen.cli.common import interruptible
from jaxgen.data import picture_files as images
from jaxgen.data.resize import imresize
from jaxgen.errors import UserError
from jaxgen.runs import model as run
from jaxgen.verbs import files
from jaxgen.verbs.upscale.use import Upscaler

__all__ = ["model", "own_cache"]


@pytest.fixture(scope="module")
def expected(model):
    """What the Python interface makes of an array."""
    return run.load(model).upscale


# ------------------------------------------------------------------------------ pictures and files


def test_one_photo_to_a_file(jaxgen_command, model, expected, tmp_path):
    photo = save(tmp_path / "a.png", picture())
    code, out, err = jaxgen_command("upscale", photo, "-o", "large.png", "--model", model)
    assert (code, err) == (0, "")
    assert out.startswith("large.png  68x52")
    assert np.array_equal(read(tmp_path / "large.png"), expected(picture()))
    assert sorted(p.name for p in tmp_path.glob("*.png")) == ["a.png", "large.png"]


def test_tiles_give_the_same_file(jaxgen_command, model, expected, tmp_path):
    photo = save(tmp_path / "a.png", picture(40, 50))
    jaxgen_command("upscale", photo, "-o", "tiled.png", "--model", model, "--tile", 8)
    difference = read("tiled.png").astype(int) - expected(picture(40, 50))
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 1e-3  # rounding ties


def test_gray_alpha_16_bit_palette_and_rotated(jaxgen_command, model, expected, tmp_path):
    gray, color, alpha = picture(channels=0), picture(), picture(channels=0, seed=4)
    source, out = tmp_path / "in", tmp_path / "out"
    save(source / "gray.png", gray)
    save(source / "alpha.png", np.dstack([color, alpha]))
    save(source / "gray_alpha.png", np.dstack([gray, alpha]))
    save(source / "deep.png", gray.astype(np.uint16) * 257)
    Image.fromarray(color).quantize(16).save(source / "palette.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    save(source / "turned.png", color, exif=exif)
    code, _, err = jaxgen_command("upscale", source, "-o", out, "--model", model)
    assert (code, err) == (0, "")
    assert read(out / "gray.png").shape == (52, 68)
    assert np.array_equal(read(out / "gray.png"), expected(gray))
    deep = read(out / "deep.png")
    assert deep.dtype == np.uint16
    assert np.abs(deep / 257.0 - expected(gray)).max() < 0.51
    large = read(out / "alpha.png")
    assert np.array_equal(large[..., :3], expected(color))
    assert np.array_equal(large[..., 3], imresize(alpha, scale=4))
    large = read(out / "gray_alpha.png")
    assert np.array_equal(large, np.dstack([expected(gray), imresize(alpha, scale=4)]))
    assert read(out / "palette.png").shape == (52, 68, 3)
    assert np.array_equal(read(out / "turned.png"), expected(np.rot90(color, -1)))


@pytest.mark.parametrize("ending", ["jpg", "jpeg", "webp"])
def test_jpeg_and_webp(jaxgen_command, model, expected, tmp_path, ending):
    photo = save(tmp_path / "a.png", picture())
    code, _, _ = jaxgen_command("upscale", photo, "-o", f"b.{ending}", "--model", model)
    assert code == 0
    with Image.open(f"b.{ending}") as image:
        assert image.format == {"webp": "WEBP"}.get(ending, "JPEG")
        assert np.abs(np.asarray(image).astype(int) - expected(picture())).mean() < 4


def test_webp_keeps_transparency_and_jpeg_input_is_read(jaxgen_command, model, tmp_path):
    alpha = picture(channels=0, seed=4)
    a = save(tmp_path / "a.png", np.dstack([picture(), alpha]))
    b = save(tmp_path / "b.jpg", picture())
    code, _, err = jaxgen_command("upscale", a, b, "-o", "o", "--format", "webp", "--model", model)
    assert (code, err) == (0, "")
    assert np.array_equal(read("o/a.webp")[..., 3], imresize(alpha, scale=4))
    assert read("o/b.webp").shape == (52, 68, 3)


def test_a_folder_keeps_its_tree_and_names_do_not_meet(jaxgen_command, model, expected, tmp_path):
    source = tmp_path / "in"
    save(source / "day 1" / "a.png", picture(seed=1))
    save(source / "day 2" / "a.png", picture(seed=2))
    save(source / "b.png", picture(seed=3))
    save(source / "b.webp", picture(seed=4), lossless=True)
    (source / "notes.txt").write_text("no picture")
    code, out, _ = jaxgen_command("upscale", source, "-o", "out", "--model", model)
    assert code == 0
    assert len(out.splitlines()) == 4
    found = sorted(str(p.relative_to("out")) for p in Path("out").rglob("*") if p.is_file())
    assert found == ["b.png.png", "b.webp.png", "day 1/a.png", "day 2/a.png"]
    assert np.array_equal(read("out/day 2/a.png"), expected(picture(seed=2)))
    assert np.array_equal(read("out/b.webp.png"), expected(picture(seed=4)))


def test_what_is_there_is_kept_unless_told(jaxgen_command, model, tmp_path):
    a = save(tmp_path / "in" / "a.png", picture())
    save(tmp_path / "in" / "b.png", picture())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"mine")
    code, out, _ = jaxgen_command("upscale", "in", "-o", "out", "--model", model)
    assert code == 0
    assert "1 of 2 were there already" in out
    assert (tmp_path / "out" / "a.png").read_bytes() == b"mine"
    code, _, err = jaxgen_command("upscale", a, "-o", "out/a.png", "--model", model)
    assert code == 2
    assert err == "error: out/a.png exists; give --overwrite to replace it\n"
    code, *_ = jaxgen_command("upscale", "in", "-o", "out", "--model", model, "--overwrite")
    assert code == 0
    assert read("out/a.png").shape == (52, 68, 3)


def test_one_pixel(jaxgen_command, model, tmp_path):
    save(tmp_path / "dot.png", np.full((1, 1, 3), 128, np.uint8))
    code, *_ = jaxgen_command("upscale", "dot.png", "-o", "o.png", "--model", model)
    assert code == 0
    assert read("o.png").shape == (4, 4, 3)


# --------------------------------------------------------------------------------------- bad input


def test_bad_pictures_are_named_and_the_others_done(jaxgen_command, model, tmp_path):
    source = tmp_path / "in"
    good = save(source / "good.png", picture())
    (source / "cut.png").write_bytes(good.read_bytes()[:-60])
    (source / "empty.png").write_bytes(b"")
    (source / "text.jpg").write_text("not a picture")
    save(source / "zlast.png", picture())
    code, out, err = jaxgen_command("upscale", source, "-o", "out", "--model", model)
    assert code == 1
    assert sorted(p.name for p in Path("out").iterdir()) == ["good.png", "zlast.png"]
    lines = err.splitlines()
    assert len(lines) == 4
    for name, line in zip(("cut.png", "empty.png", "text.jpg"), lines, strict=False):
        assert line.startswith("error: ")
        assert name in line
    assert lines[-1] == "3 of 5 pictures failed"
    assert len(out.splitlines()) == 2


def test_a_side_that_the_format_cannot_hold(jaxgen_command, model, tmp_path):
    save(tmp_path / "long.png", np.zeros((1, 4100, 3), np.uint8))
    code, _, err = jaxgen_command("upscale", "long.png", "-o", "o.webp", "--model", model)
    assert code == 1
    assert "16400 pixels, too many for webp; use --format png" in err
    assert not Path("o.webp").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere.png", "-o", "o"], "nowhere.png: no such file or folder"),
        (["a.png", "nowhere.png", "-o", "o"], "nowhere.png: no such file or folder"),
        (["void", "-o", "o"], "void: no pictures in this folder"),
        (["a.png", "-o", "o.bmp"], "cannot write .bmp; use .png, .jpg, .webp, .tif or .gif"),
        (["a.png", "b.png", "-o", "o.png"], "several pictures need a folder"),
        (["a.png", "-o", "o.png", "--format", "jpg"], "--format jpg contradicts the name o.png"),
        (["a.png", "-o", "a.png", "--overwrite"], "would replace an input picture"),
        (["a.png", "sub/a.png", "-o", "o"], "two pictures would be written to o/a.png.png"),
        (["a.png", "-o", "file/o"], "cannot write to file/o"),
        (["a.png", "-o", "file/o.png"], "cannot write to file"),
        (["a.png", "-o", "o", "--model", "nonesuch"], "no model 'nonesuch'"),
        (["a.png", "-o", "o", "--model", "void"], "void is neither a run nor an exported model"),
    ],
)
def test_mistakes_end_in_one_line_and_code_2(jaxgen_command, model, tmp_path, args, message):
    for name in ("a.png", "b.png", "sub/a.png"):
        save(tmp_path / name, picture())
    before = (tmp_path / "a.png").read_bytes()
    (tmp_path / "void").mkdir()
    (tmp_path / "file").write_text("x")
    if "--model" not in args:
        args = [*args, "--model", model]
    code, out, err = jaxgen_command("upscale", *args)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert (tmp_path / "a.png").read_bytes() == before


@pytest.mark.parametrize(
    "args",
    [
        ["upscale", "a.png"],
        ["upscale", "-o", "o"],
        ["upscale", "a.png", "-o", "o", "--tile", "0"],
        ["upscale", "a.png", "-o", "o", "--format", "gif"],
        ["upscale", "a.png", "-o", "o", "--nonesuch"],
        ["nonesuch"],
        ["eval", "--data", "void", "--gray", "maybe"],
    ],
)
def test_wrong_usage_is_code_2(jaxgen_command, args):
    code, _, err = jaxgen_command(*args)
    assert code == 2
    assert "Traceback" not in err


def test_a_full_disk_stops_the_work(jaxgen_command, model, tmp_path, monkeypatch):
    for name in ("in/a.png", "in/b.png"):
        save(tmp_path / name, picture())

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(images.os, "replace", full)
    code, _, err = jaxgen_command("upscale", "in", "-o", "out", "--model", model)
    assert code == 2
    assert "No space left on device; 2 pictures left" in err
    assert list(Path("out").iterdir()) == []


def test_memory_that_does_not_suffice_fails_one_picture(
    jaxgen_command, model, tmp_path, monkeypatch
):
    for name in ("in/a.png", "in/b.png"):
        save(tmp_path / name, picture())
    enlarge, calls = Upscaler.__call__, []

    def first_fails(self, *args, **options):
        calls.append(1)
        if len(calls) == 1:
            raise MemoryError
        return enlarge(self, *args, **options)

    monkeypatch.setattr(Upscaler, "__call__", first_fails)
    code, _, err = jaxgen_command("upscale", "in", "-o", "out", "--model", model)
    assert code == 1
    assert "in/a.png: the result does not fit" in err
    assert [p.name for p in Path("out").iterdir()] == ["b.png"]


def test_the_traceback_is_there_for_who_wants_it(monkeypatch):
    monkeypatch.setenv("JAXGEN_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["jaxgen", "upscale", "nowhere.png", "-o", "o"])
    with pytest.raises(UserError, match="nowhere"):
        cli.main()


def test_planning_grows_with_the_number_of_pictures_alone(tmp_path):
    """Not with its square: CPU time of eight times as many."""
    taken = []
    for count in (500, 4000):
        folder = tmp_path / str(count)
        folder.mkdir()
        for i in range(count):
            (folder / f"{i}.png").touch()
        began = time.process_time()
        jobs = files.plan_outputs([folder], tmp_path / "out", None)
        taken.append(time.process_time() - began)
        assert len({target for _, target in jobs}) == count
    assert taken[1] < 24 * taken[0]


# ------------------------------------------------------------------------------ as a real process


def start(*args, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    command = [sys.executable, "-m", "jaxgen", *map(str, args)]
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_process_exit_codes_and_streams(model, tmp_path):
    save(tmp_path / "good.png", picture())
    (tmp_path / "bad.png").write_bytes(b"")
    process = start("upscale", "good.png", "bad.png", "-o", "out", "--model", model, cwd=tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert out.startswith("out/good.png  68x52")
    assert "bad.png: the file is empty" in err
    assert "Traceback" not in err
    assert read(tmp_path / "out" / "good.png").shape == (52, 68, 3)

    process = start("upscale", "good.png", "-o", "out2", "--model", "nonesuch", cwd=tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err.startswith("error: no model 'nonesuch'")


def test_help_and_version_do_not_wait_for_jax():
    began = time.monotonic()
    out, _ = start("--version").communicate(timeout=60)
    assert out == f"jaxgen {jaxgen.__version__}\n"
    code = "import sys, jaxgen.cli; print([m for m in ('jax', 'numpy') if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout == "[]\n"
    out, _ = start("--help").communicate(timeout=60)
    for command in ("upscale", "eval", "models", "prepare", "export"):
        assert command in out
    assert time.monotonic() - began < 15


def test_interrupt_is_code_130_and_leaves_no_half_file(model, tmp_path):
    save(tmp_path / "large.png", picture(600, 600))
    process = start(
        "upscale", "large.png", "-o", "out", "--model", model, "--tile", "1", cwd=tmp_path
    )
    try:
        # The folder is made before the model is loaded; 360,000 tiles take far longer than this.
        while not (tmp_path / "out").is_dir() and process.poll() is None:
            time.sleep(0.1)
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_swallowed_while_a_model_is_opened_ends_the_command(
    jaxgen_command, model, tmp_path, monkeypatch
):
    """Python drops what a signal raises in a finalizer; the first look after it still sees it."""
    load = run.load

    class Swallows:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def opened(name):
        Swallows()
        return load(name)

    monkeypatch.setattr(run, "load", opened)
    save(tmp_path / "in.png", picture(9, 9))
    assert jaxgen_command("upscale", "in.png", "-o", "out.png", "--model", model)[0] == 130
    assert not (tmp_path / "out.png").exists()
    time.sleep(0.1)  # it was heard, and does not come again in whatever follows


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_is_swallowed_is_not_lost():
    """As in a finalizer, where Python drops what is raised."""

    class Swallows:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with interruptible() as check:
        check()
        Swallows()
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(signal.SIGINT) is before


def turned_into_another() -> None:
    """As code in C does with what is raised below it."""
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt as error:
        raise SystemError("returned a result with an exception set") from error


def test_an_interrupt_that_became_another_exception_is_one():
    with pytest.raises(KeyboardInterrupt), interruptible():
        turned_into_another()
    with pytest.raises(ZeroDivisionError), interruptible():
        raise ZeroDivisionError
