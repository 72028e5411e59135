"""PNGs of our own writing: deep ones, and large ones in bands by several threads."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxgen.data import picture_files, picture_png
from jaxgen.data.picture_about import NOTHING
from jaxgen.data.picture_drawn import read_note

_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 1, 1), (33, 20, 2), (40, 31, 3), (40, 31, 4)])
def test_another_reader_finds_the_same_pixels(shape, quick, monkeypatch):
    monkeypatch.setattr(picture_png, "_BAND", 500)  # of the larger ones a few rows
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    pixels[: shape[0] // 2] = 7  # something to deflate
    file = io.BytesIO()
    picture_png.write_png(file, pixels, {}, quick)
    with Image.open(file) as image:
        image.verify()  # the chunks' check sums
    with Image.open(file) as image:  # inflating compares the stream's
        assert image.mode == _MODES[shape[2]]
        np.testing.assert_array_equal(np.asarray(image).reshape(shape), pixels)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_bands_are_one_picture_of_sixteen_bits(channels, monkeypatch):
    pixels = np.random.default_rng(1).integers(0, 65536, (40, 31, channels), np.uint16)
    files = []
    for band in (500, 1 << 20):
        monkeypatch.setattr(picture_png, "_BAND", band)
        file = io.BytesIO()
        picture_png.write_png(file, pixels, {}, quick=False)
        files.append(file.getvalue())
    for file in files:
        read = picture_files.read_picture(file, deep=True)
        whole = read.rgb if channels > 2 else read.rgb[..., :1]
        whole = whole if read.alpha is None else np.dstack([whole, read.alpha])
        np.testing.assert_array_equal(whole, pixels)


def test_a_large_picture_says_all_that_a_small_one_does(tmp_path, monkeypatch):
    rgb = np.random.default_rng(2).integers(0, 256, (20, 30, 3), np.uint8)
    about = NOTHING._replace(dpi=(300.0, 300.0), texts=(("Author", "somebody"),))
    for name, large in (("small.png", 1 << 30), ("large.png", 1)):
        monkeypatch.setattr(picture_files, "LARGE", large)
        picture_files.write_image(tmp_path / name, rgb, about=about, note="a note")
    small, large = (picture_files.read_picture(tmp_path / f"{n}.png") for n in ("small", "large"))
    np.testing.assert_array_equal(large.rgb, small.rgb)
    assert large.about == small.about != NOTHING
    assert read_note(tmp_path / "large.png") == read_note(tmp_path / "small.png") == "a note"


def test_a_deep_picture_keeps_how_it_was_drawn(tmp_path):
    picture_files.write_image(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint16), note="a note")
    assert read_note(tmp_path / "a.png") == "a note"
