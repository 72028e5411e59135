"""Single pictures: every mode is read, every form written, and unusable files are named."""

import zlib

import numpy as np
import pytest
from helpers import DAMAGES, damaged, noise, warnings
from PIL import Image

from jaxgen.data import picture_files
from jaxgen.data.picture_files import (
    image_size,
    list_images,
    over_white,
    read_image,
    read_image_with_alpha,
    write_image,
)
from jaxgen.errors import UserError

__all__ = ["warnings"]


def test_phone_photos_are_turned_upright(tmp_path):
    upright = noise(16, 24)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(np.rot90(upright)).save(tmp_path / "a.png", exif=exif)
    assert image_size(tmp_path / "a.png") == (16, 24)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), upright)


def test_sixteen_bit_gray_is_scaled_not_cut(tmp_path):
    deep = np.array([[0, 128, 257, 32896, 65535]] * 2, np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    rgb, alpha, was_gray = read_image_with_alpha(tmp_path / "a.png")
    np.testing.assert_array_equal(rgb[0, :, 0], [0, 0, 1, 128, 255])
    assert rgb.shape == (2, 5, 3)
    assert alpha is None
    assert was_gray


def _png16_rgb(values):
    """A 16-bit RGB PNG (Pillow cannot write one): uint16 (h, w, 3) -> bytes."""

    def chunk(kind, body):
        check = zlib.crc32(kind + body).to_bytes(4, "big")
        return len(body).to_bytes(4, "big") + kind + body + check

    height, width, _ = values.shape
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, 2, 0, 0, 0])
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_sixteen_bit_colour_is_within_one_level():
    deep = np.random.default_rng(3).integers(0, 65536, (5, 7, 3), dtype=np.uint16)
    got = read_image(_png16_rgb(deep)).astype(float)
    assert np.abs(got - deep / 257.0).max() <= 1.0


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "F", "I"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    gray = np.repeat(noise(12, 20)[..., :1] // 128 * 255, 3, axis=2)
    path = tmp_path / f"a.{'tiff' if mode in ('CMYK', 'F', 'I') else 'png'}"
    if mode in ("F", "I"):
        kind = {"F": np.float32, "I": np.int32}[mode]
        Image.fromarray(gray[..., 0].astype(kind)).save(path)
    else:
        Image.fromarray(gray).convert(mode).save(path)
    with Image.open(path) as image:
        assert image.mode == mode
    np.testing.assert_array_equal(read_image(path), gray)


def test_transparency_is_kept_apart_or_laid_over_white(tmp_path):
    rgb, alpha = noise(10, 10), np.full((10, 10), 255, np.uint8)
    alpha[:5] = 0
    write_image(tmp_path / "a.png", rgb, alpha)
    got, got_alpha, was_gray = read_image_with_alpha(tmp_path / "a.png")
    np.testing.assert_array_equal(got, rgb)
    np.testing.assert_array_equal(got_alpha, alpha)
    assert not was_gray
    flat = read_image(tmp_path / "a.png")
    assert np.all(flat[:5] == 255)
    np.testing.assert_array_equal(flat[5:], rgb[5:])
    write_image(tmp_path / "b.png", rgb, np.full_like(alpha, 255))
    assert read_image_with_alpha(tmp_path / "b.png")[1] is None  # opaque throughout


def test_palette_transparency_is_seen(tmp_path):
    image = Image.fromarray(noise(8, 8)).convert("P")
    image.save(tmp_path / "a.png", transparency=int(np.array(image)[0, 0]))
    _, alpha, _ = read_image_with_alpha(tmp_path / "a.png")
    assert alpha is not None
    assert alpha[0, 0] == 0


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_written_pictures_read_back(tmp_path, ending, warnings):
    rgb = np.full((16, 16, 3), 90, np.uint8)
    alpha = np.full((16, 16), 255, np.uint8)
    alpha[:, :8] = 0
    path = tmp_path / "new" / f"a.{ending}"
    write_image(path, rgb, alpha)
    expected = over_white(rgb, alpha)
    np.testing.assert_allclose(read_image(path).astype(int), expected, atol=3)
    assert bool(warnings) == (ending == "jpg")
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_gray_is_written_as_gray(tmp_path):
    gray = np.repeat(noise(9, 9)[..., :1], 3, axis=2)
    write_image(tmp_path / "a.png", gray, gray=True)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "L"
    rgb, _, was_gray = read_image_with_alpha(tmp_path / "a.png")
    assert was_gray
    np.testing.assert_array_equal(rgb, gray)


def test_failed_write_names_the_file_and_keeps_the_older_one(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_image(path, noise())
    before = path.read_bytes()

    def full(self, file, **options):
        file.write(b"half a picture")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(UserError, match=r"a\.png.*No space left"):
        write_image(path, noise(seed=1))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_unwritable_targets_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"use \.png"):
        write_image(tmp_path / "a.bmp", noise())
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_image(tmp_path / "file" / "a.png", noise())
    with pytest.raises(UserError, match=r"WEBP cannot hold.*use \.png"):
        write_image(tmp_path / "a.webp", np.zeros((1, 16400, 3), np.uint8))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_files_are_named(tmp_path, kind):
    path = tmp_path / f"{kind}.png"
    path.write_bytes(damaged(kind))
    with pytest.raises(UserError, match=rf"{kind}\.png"):
        read_image(path)


def test_missing_file_folder_and_bytes_have_clear_messages(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(UserError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(UserError, match="given bytes"):
        read_image(b"")
    with pytest.raises(UserError, match="no such file or folder"):
        list_images(tmp_path / "none")


def test_listing_is_sorted_and_follows_links_once(tmp_path):
    for name in ("b/2.JPG", "b/1.png", "a.webp", ".hidden/x.png", "b/.x.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    found = [p.relative_to(tmp_path).as_posix() for p in list_images(tmp_path)]
    assert found == ["a.webp", "b/1.png", "b/2.JPG"]
    assert list_images(tmp_path / "b" / "1.png") == [tmp_path / "b" / "1.png"]


def test_a_large_png_has_the_same_pixels(tmp_path, monkeypatch):
    rgb = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    rgb[:20] = 7  # something to deflate
    picture_files.write_image(tmp_path / "small.png", rgb)
    monkeypatch.setattr(picture_files, "LARGE", rgb.nbytes)
    picture_files.write_image(tmp_path / "large.png", rgb)
    for name in ("small.png", "large.png"):
        np.testing.assert_array_equal(picture_files.read_image(tmp_path / name), rgb)
    assert (tmp_path / "large.png").read_bytes() != (tmp_path / "small.png").read_bytes()
