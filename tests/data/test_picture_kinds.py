"""Pictures as people have them: profiles, depths, kinds, limits. Small files in tests/pictures."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers import noise, warnings
from PIL import Image, ImageCms

from jaxgen.data import picture_open, picture_values
from jaxgen.data.picture_about import About, space
from jaxgen.data.picture_files import image_size, list_images, read_image, read_picture, write_image
from jaxgen.data.transparency import spread_colours
from jaxgen.errors import UserError

__all__ = ["warnings"]
CASES = Path(__file__).resolve().parent.parent / "pictures"


# --------------------------------------------------------------------------------- colour and depth


@pytest.mark.parametrize("bits", ["8", "16"])
@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp"])
def test_a_colour_profile_is_kept(tmp_path, ending, bits):
    picture = read_picture(CASES / "icc_swap.png")
    rgb = picture.rgb if bits == "8" else picture.rgb.astype(np.uint16) * 257
    path = tmp_path / f"a.{ending}"
    write_image(path, rgb, about=picture.about)
    with Image.open(CASES / "icc_swap.png") as before, Image.open(path) as after:
        assert after.info["icc_profile"] == before.info["icc_profile"]


def test_a_profile_that_the_format_cannot_hold_is_applied(tmp_path):
    picture = read_picture(CASES / "icc_swap.jpg")
    write_image(tmp_path / "a.gif", picture.rgb, about=picture.about)
    with Image.open(CASES / "icc_swap.jpg") as image:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        expected = np.asarray(picture_values.to_srgb(image, profile)).astype(int)
    assert np.abs(expected - picture.rgb).max() > 100  # red and blue, exchanged
    assert np.abs(read_image(tmp_path / "a.gif") - expected).mean() < 4


def test_a_gray_profile_is_kept_by_gray_formats_and_never_given_to_colour(tmp_path):
    gray_profile = _gray_profile()
    assert space(gray_profile) == "GRAY"
    rgb = np.repeat(noise(16, 16)[..., :1], 3, axis=2)
    for ending, kept in (("png", True), ("jpg", True), ("webp", False)):
        write_image(tmp_path / f"a.{ending}", rgb, gray=True, about=About(icc=gray_profile))
        with Image.open(tmp_path / f"a.{ending}") as image:
            assert ("icc_profile" in image.info) == kept


def _gray_profile():
    """A v2 profile of gray with gamma 1.8."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, int(1.8 * 256)) + bytes(2)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags = [(b"wtpt", white), (b"kTRC", curve)]
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, data in tags:
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data
    head = struct.pack(
        ">I4sI4s4s4s", at + len(body), b"none", 0x02100000, b"mntr", b"GRAY", b"XYZ "
    )
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + table + body


def test_a_profile_of_other_colours_is_not_handed_on(tmp_path):
    with Image.open(CASES / "icc_swap.jpg") as image:
        swap = image.info["icc_profile"]
        image.convert("CMYK").save(tmp_path / "a.tif", icc_profile=swap)
        expected = np.asarray(image.convert("CMYK").convert("RGB"))
    picture = read_picture(tmp_path / "a.tif")  # of RGB, on CMYK: taken without
    assert picture.about.icc is None
    np.testing.assert_array_equal(picture.rgb, expected)


def test_cmyk_goes_through_its_profile(tmp_path, monkeypatch):
    """No press's profile is free to be kept here: what is asked of the profile is checked."""
    asked = []

    def to_srgb(image, profile):
        asked.append((image.mode, profile.tobytes()))
        return Image.new("RGB", image.size, (1, 2, 3))

    monkeypatch.setattr(picture_values, "to_srgb", to_srgb)
    profile = (CASES / "icc_swap.png").read_bytes()
    with Image.open(CASES / "icc_swap.png") as image:
        profile = image.info["icc_profile"]
    Image.new("CMYK", (4, 4)).save(tmp_path / "a.jpg", icc_profile=profile)
    assert (read_image(tmp_path / "a.jpg") == (1, 2, 3)).all()
    assert read_picture(tmp_path / "a.jpg").about.remark == "CMYK, converted to sRGB"
    assert asked[:1] == [("CMYK", ImageCms.ImageCmsProfile(io.BytesIO(profile)).tobytes())]


def test_lab_becomes_rgb(tmp_path):
    rgb = np.full((8, 8, 3), (200, 60, 30), np.uint8)
    lab = ImageCms.profileToProfile(
        Image.fromarray(rgb), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )  # fmt: skip
    lab.save(tmp_path / "a.tif")
    assert np.abs(read_image(tmp_path / "a.tif").astype(int) - rgb).max() <= 3


def test_a_dark_pgm_of_16_bits_stays_dark(tmp_path):
    dark = np.full((4, 4), 200, ">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5 4 4 65535\n" + dark.tobytes())
    assert read_image(tmp_path / "a.pgm").max() == 1


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_come_back(tmp_path, channels, ending):
    deep = np.random.default_rng(0).integers(0, 65536, (70, 33, 4), dtype=np.uint16)
    gray = channels < 3
    rgb = np.repeat(deep[..., :1], 3, axis=2) if gray else deep[..., :3]
    alpha = deep[..., 3] if channels in (2, 4) else None
    said = About(dpi=(300.0, 300.0), texts=(("a", "text"),))
    write_image(tmp_path / f"a.{ending}", rgb, alpha, gray, about=said)
    found = read_picture(tmp_path / f"a.{ending}", deep=True)
    np.testing.assert_array_equal(found.rgb, rgb)
    assert found.gray == gray
    assert (found.alpha is None) == (alpha is None)
    if alpha is not None:
        np.testing.assert_array_equal(found.alpha, alpha)
    assert found.about.dpi == pytest.approx((300, 300), abs=0.1)
    if ending == "png":
        assert found.about.texts == (("a", "text"),)
    # 8 bits of it, as before.
    shallow = read_picture(tmp_path / f"a.{ending}")
    assert np.abs(shallow.rgb - rgb / 257.0).max() <= 1.0


# ------------------------------------------------------------------------- what else a file says


def test_texts_resolution_exif_and_gamma_are_kept(tmp_path):
    found = read_picture(CASES / "text.png")
    write_image(tmp_path / "a.png", found.rgb, about=found.about)
    with Image.open(CASES / "text.png") as before, Image.open(tmp_path / "a.png") as after:
        assert before.text == after.text != {}
    found = read_picture(CASES / "dpi300.png")
    for ending in ("png", "jpg", "tif"):
        write_image(tmp_path / f"b.{ending}", found.rgb, about=found.about)
        with Image.open(tmp_path / f"b.{ending}") as image:
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.5)
    exif = Image.Exif()
    exif[271], exif[274], exif[33432] = "Maker", 6, "Someone"
    exif.get_ifd(0x8769)[0x9003] = "2024:01:02 03:04:05"
    exif.get_ifd(0x8825)[1] = "N"
    Image.fromarray(noise(8, 12)).save(tmp_path / "c.jpg", exif=exif, comment=b"hello")
    found = read_picture(tmp_path / "c.jpg")
    for ending in ("png", "jpg", "webp", "tif"):
        write_image(tmp_path / f"d.{ending}", found.rgb, about=found.about)
        with Image.open(tmp_path / f"d.{ending}") as image:
            after = image.getexif()
            assert (after[271], after[33432]) == ("Maker", "Someone")
            assert 274 not in after or after[274] == 1
            if ending != "tif":  # which keeps EXIF's first part
                assert after.get_ifd(0x8769)[0x9003] == "2024:01:02 03:04:05"
                assert after.get_ifd(0x8825)[1] == "N"
            assert ("comment" in image.info) == (ending == "jpg")
    image = Image.fromarray(noise(8, 8))
    (tmp_path / "e.png").write_bytes(_with_chunk(image, b"gAMA", struct.pack(">I", 100_000)))
    found = read_picture(tmp_path / "e.png")
    write_image(tmp_path / "f.png", found.rgb, about=found.about)
    with Image.open(tmp_path / "f.png") as image:
        assert image.info["gamma"] == 1.0


def test_what_else_a_file_says_never_fails_a_picture(tmp_path, warnings):
    """Too long for the format, or nonsense: the picture is written all the same."""
    rgb = noise(8, 8)
    long = About(exif=b"Exif\0\0" + bytes(70_000), xmp=bytes(70_000), comment=bytes(70_000))
    write_image(tmp_path / "a.jpg", rgb, about=long)
    assert "EXIF of more than 64 KiB is left out" in "\n".join(warnings)
    huge = struct.pack(">IIB", 2**32 - 1, 2**32 - 1, 1)
    for name, body in ((b"pHYs", huge), (b"iCCP", b"a\0\0" + zlib.compress(b"no profile"))):
        (tmp_path / "b.png").write_bytes(_with_chunk(Image.fromarray(rgb), name, body))
        found = read_picture(tmp_path / "b.png")
        for ending in ("png", "jpg", "webp", "tif", "gif"):
            write_image(tmp_path / f"c.{ending}", found.rgb, about=found.about)
            write_image(tmp_path / f"d.{ending}", found.rgb, gray=True, about=found.about)
    Image.new("CMYK", (4, 4)).save(tmp_path / "e.jpg", icc_profile=b"no profile")
    assert read_image(tmp_path / "e.jpg").shape == (4, 4, 3)
    assert "CMYK profile can't be used" in "\n".join(warnings)


def _with_chunk(image, name, body):
    plain = io.BytesIO()
    image.save(plain, format="PNG")
    png = plain.getvalue()
    chunk = struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return png[:33] + chunk + png[33:]


# ------------------------------------------------------------------------------ kinds and limits


def test_a_folder_of_every_kind(tmp_path, warnings):
    for case in CASES.glob("fmt.*"):
        (tmp_path / f"{case.suffix[1:]}{case.suffix}").write_bytes(case.read_bytes())
    (tmp_path / "a.heic").write_bytes((CASES / "fake.heic").read_bytes())
    (tmp_path / "photo.CR2").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "saved.jpg_large").write_bytes((CASES / "icc_swap.jpg").read_bytes())
    (tmp_path / "unnamed").write_bytes((CASES / "text.png").read_bytes())
    (tmp_path / "list.db").write_bytes(b"no picture")
    Image.new("RGB", (20, 24)).save(tmp_path / "two.mpo", save_all=True, format="MPO",
                                    append_images=[Image.new("RGB", (20, 24))])  # fmt: skip
    found = list_images(tmp_path)
    kinds = {path.suffix for path in found}
    assert {".avif", ".gif", ".jfif", ".tga", ".mpo"} <= kinds
    for path in found:
        if path.suffix != ".heic":
            assert read_image(path).shape == (24, 20, 3)
    said = "\n".join(warnings)
    assert "photo.CR2: camera raw is not supported" in said
    assert ("a.heic" in said) == (".heic" not in kinds)
    assert "saved.jpg_large: JPEG by its bytes, but not by its name" in said
    assert "unnamed: PNG by its bytes" in said
    assert "notes.txt" not in said
    assert "list.db" not in said


@pytest.mark.parametrize(
    ("start", "says"),
    [
        ((CASES / "fake.heic").read_bytes(), "HEIC"),
        (b"\xff\x0a" + bytes(40), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "JPEG XL"),
        (b"%PDF-1.7" + bytes(40), "PDF is not supported"),
        (b"<?xml version='1.0'?><svg>", "SVG is not supported"),
        (b"v/1\x01" + bytes(40), "OpenEXR is not supported"),
        (b"\0\0\0\x18ftypisom" + bytes(40), "a video is not supported"),
    ],
)
def test_unsupported_kinds_are_named_and_not_called_damaged(monkeypatch, start, says):
    if kind := {"HEIC": "HEIF", "JPEG XL": "JXL"}.get(says):
        monkeypatch.setattr(picture_open, "_plug_in", lambda kind: False)
        monkeypatch.delitem(Image.OPEN, kind, raising=False)
        monkeypatch.setattr(Image, "ID", [one for one in Image.ID if one != kind])
    with pytest.raises(UserError, match=says) as error:
        read_image(start)
    assert "damaged" not in str(error.value)


def test_heic_and_jpeg_xl_by_their_plug_ins(tmp_path):
    import pillow_heif
    import pillow_jxl  # noqa: F401  # from here on Pillow writes it

    rgb = np.full((16, 24, 3), (200, 40, 90), np.uint8)
    pillow_heif.from_pillow(Image.fromarray(rgb)).save(tmp_path / "a.heic", quality=-1)
    Image.fromarray(rgb).save(tmp_path / "a.jxl", lossless=True)
    for name in ("a.heic", "a.jxl"):
        assert np.abs(read_image(tmp_path / name).astype(int) - rgb).max() <= 4
    picture_open.extensions.cache_clear()
    assert len(list_images(tmp_path)) == 2


def test_one_of_several_frames_or_pages_is_taken_aloud(warnings):
    for _ in range(2):
        assert read_image(CASES / "anim.gif").shape == (24, 20, 3)
        assert read_image(CASES / "multi.tif").shape == (24, 20, 3)
    assert sum("is an animation: its first frame is taken" in text for text in warnings) == 1
    assert sum("is of several pages: its first page is taken" in text for text in warnings) == 1


def test_limits_have_a_way_around(monkeypatch):
    limits = (Image, "MAX_IMAGE_PIXELS"), (picture_open.PngImagePlugin, "MAX_TEXT_CHUNK")
    for owner, name in (*limits, (picture_open.PngImagePlugin, "MAX_TEXT_MEMORY")):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # put back afterwards
    monkeypatch.delenv(picture_open.ANY_SIZE, raising=False)
    for name in ("bigtext.png", "big200mp.png"):
        with pytest.raises(UserError, match=r"--any-size.*JAXGEN_ANY_SIZE=1"):
            image_size(CASES / name)
    monkeypatch.setenv(picture_open.ANY_SIZE, "1")
    assert image_size(CASES / "big200mp.png") == (10_000, 20_000)
    assert read_image(CASES / "bigtext.png").shape == (24, 20, 3)


# ----------------------------------------------------------------------------------- transparency


def test_colours_are_spread_under_transparent_pixels():
    rgb, alpha = np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.uint8)
    rgb[3:6, 3:6], alpha[3:6, 3:6] = (200, 50, 10), 255
    np.testing.assert_array_equal(spread_colours(rgb, alpha), np.broadcast_to(rgb[4, 4], (9, 9, 3)))
    assert spread_colours(rgb, np.zeros_like(alpha)) is rgb
    assert spread_colours(rgb, np.full_like(alpha, 7)) is rgb
