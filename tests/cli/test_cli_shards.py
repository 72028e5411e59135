"""`--shard K/N`: shares of upscaling and measuring, together the same as the whole."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import process_environment
from support.tiny_model import picture, save, tiny_model

from jaxgen.data.picture_files import read_image
from jaxgen.data.resize import imresize

NAMES = ("a/1.png", "a/2.png", "a/10.png", "b.png", "c.png")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model().export(tmp_path_factory.mktemp("shards") / "model")


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / ".cache"))
    for i, name in enumerate(NAMES):
        save(tmp_path / "in" / name, imresize(picture(12, 11, 3, seed=i), scale=2))
    return tmp_path / "in"


def found(folder: Path) -> dict[str, np.ndarray]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): read_image(p) for p in files}


def test_shares_upscale_the_whole_each_picture_once(pictures, model, jaxgen_command):
    common = ("upscale", pictures, "--model", model)
    code, _, err = jaxgen_command(*common, "-o", "whole")
    assert code == 0, err
    for number in (3, 1, 2):
        code, out, err = jaxgen_command(*common, "-o", "shares", "--shard", f"{number}/3")
        assert code == 0, err
        assert "were there" not in out
        again = jaxgen_command(*common, "-o", "shares", "--shard", f"{number}/3")
        assert again[0] == 0
        written = out.count(".png")
        assert f"{written} of {written} were there already" in again[1]
    whole, shares = found(Path("whole")), found(Path("shares"))
    assert whole.keys() == shares.keys()
    assert len(whole) == len(NAMES)
    for name in whole:
        np.testing.assert_array_equal(whole[name], shares[name])


def test_a_share_does_not_depend_on_what_is_there(pictures, model, jaxgen_command):
    """Results inside of the folder, of this share or another, are none of its pictures."""
    common = ("upscale", "in", "--model", model, "-o", "in/out", "--shard")
    for number in (1, 2, 1, 2):
        code, _, err = jaxgen_command(*common, f"{number}/2")
        assert code == 0, err
    assert found(pictures / "out").keys() == set(NAMES)


def test_more_shares_than_pictures(pictures, model, jaxgen_command):
    code, out, _ = jaxgen_command("upscale", pictures, "-o", "out", "--shard", "7/9")
    assert code == 0
    assert "share 7/9 is empty" in out
    code, _, err = jaxgen_command("upscale", pictures, "-o", "out", "--shard", "10/9")
    assert code == 2
    assert "the shares of 9 are 1 to 9" in err


def test_shares_at_the_same_time(pictures, model):
    """One process each, into a folder that is not there yet."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "jaxgen", "upscale", pictures, "--model", model,
             "-o", "out/deep", "--shard", f"{number}/2"],
            env=process_environment(), stderr=subprocess.PIPE, text=True,
        )
        for number in (1, 2)
    ]  # fmt: skip
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [p.returncode for p in processes] == [0, 0], said
    assert found(Path("out/deep")).keys() == set(NAMES)


@pytest.fixture
def measured(pictures, model, jaxgen_command):
    """The whole's report, and those of three shares in shares/."""
    # A picture that bicubic interpolation restores: its PSNR is infinite.
    save(pictures / "d.png", np.full((32, 40, 3), 77, np.uint8))
    common = ("eval", "upscale", "--model", model, "--data", "in", "--blur")
    assert jaxgen_command(*common, "--json", "whole.json")[0] == 0
    for number in (1, 2, 3):
        file = f"shares/{number}.json"
        code, _, err = jaxgen_command(*common, "--shard", f"{number}/3", "--json", file)
        assert code == 0, err
    return common


def test_joined_shares_are_the_whole_to_the_last_bit(measured, jaxgen_command):
    files = [f"shares/{number}.json" for number in (2, 3, 1)]
    code, out, err = jaxgen_command("eval", "upscale", "--join", *files, "--json", "joined.json")
    assert code == 0, err
    assert Path("joined.json").read_bytes() == Path("whole.json").read_bytes()
    whole = jaxgen_command(*measured)[1]
    assert out == whole
    assert "inf" in out
    code, out, _ = jaxgen_command("eval", "--join", *files)
    assert (code, out) == (0, whole)


def test_a_share_that_is_there_is_not_measured_again(measured, jaxgen_command, monkeypatch):
    from jaxgen.evaluation import sr

    monkeypatch.setattr(sr, "measured", lambda *_: pytest.fail("measured again"))
    share = ("--shard", "1/3", "--json")
    code, out, _ = jaxgen_command(*measured, *share, "shares/1.json")
    assert code == 0
    assert "was there already" in out
    for other in (
        (*measured, *share, "shares/2.json"),
        (*measured, "--shave", "0", *share, "shares/1.json"),
    ):
        code, _, err = jaxgen_command(*other)
        assert code == 2
        assert "is of another evaluation or share" in err


def test_shares_that_make_no_whole(measured, jaxgen_command, pictures):
    def says(*files: str) -> str:
        code, _, err = jaxgen_command("eval", "upscale", "--join", *files)
        assert code == 2
        assert err.count("\n") == 1
        return err

    one, two, three = (f"shares/{number}.json" for number in (1, 2, 3))
    assert "needs the files" in says()
    assert "are missing: 2, 3" in says(one)
    shutil.copy(one, "copy.json")
    assert "are both share 1/3" in says(one, "copy.json", two, three)
    assert "is no report of a share" in says(one, two, "whole.json")
    Path("damaged.json").write_text(Path(one).read_text()[:-40])
    assert "is no report of a share" in says("damaged.json", two, three)
    assert "No such file" in says("absent.json")
    lost = json.loads(Path(three).read_text())
    lost["images"] = []
    Path("lost.json").write_text(json.dumps(lost))
    assert "not of one whole: share 2 has 2 items, not 1" in says(one, two, "lost.json")
    # The folder has changed in between.
    (pictures / "c.png").unlink()
    assert jaxgen_command(*measured, "--shard", "3/3", "--json", "later.json")[0] == 0
    assert "differ in their list of pictures" in says(one, two, "later.json")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--data", "in", "--shard", "1/2"), "needs --json"),
        (("--data", "in", "x.json"), "files are given with --join alone"),
        (("--data", "in", "--join", "x.json"), "no --data or --shard"),
        (("--data", "in", "--shard", "3/2", "--json", "x.json"), "shares of 2 are 1 to 2"),
    ],
)
def test_mistakes(args, message, pictures, jaxgen_command):
    code, _, err = jaxgen_command("eval", "upscale", *args)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
