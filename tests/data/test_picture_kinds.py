"""Pictures as people have them: profiles, depths, kinds, limits. Small files in tests/pictures."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import noise, warnings
from PIL import Image, ImageCms

from jaxgen.data import picture_open, picture_values
from jaxgen.data.picture_about import About, space
from jaxgen.data.picture_files import image_size, list_images, read_image, read_picture, write_image
from jaxgen.data.transparency import spread_colours
from jaxgen.errors import UserError

__all__ = ["warnings"]
CASES = Path(__file__).resolve().parent.parent / "pictures"


def gray_ramp(height=24, width=20):
    return np.linspace(0, 1, height * width).reshape(height, width)


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


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_min_is_white(tmp_path, dtype):
    full = np.iinfo(dtype).max
    ramp = np.round(gray_ramp() * full).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", full - ramp, photometric="miniswhite")
    picture = read_picture(tmp_path / "a.tif", deep=True)
    assert picture.gray
    np.testing.assert_array_equal(picture.rgb[..., 0], ramp)


@pytest.mark.parametrize(
    ("dtype", "full"),
    [
        ("uint16", 65535), ("uint32", 2**32 - 1), ("uint32", 65535), ("float16", 1.0),
        ("float32", 1.0), ("float32", 255.0), ("float64", 1.0), ("int32", 65535),
    ],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3])
def test_every_type_of_number_in_a_tiff(tmp_path, dtype, full, channels):
    unit = np.dstack([gray_ramp(), gray_ramp()[::-1], gray_ramp()[:, ::-1]])[..., :channels]
    numbers = (unit * full).astype(dtype)
    photometric = "rgb" if channels == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", numbers.squeeze(), photometric=photometric)
    picture = read_picture(tmp_path / "a.tif", deep=True)
    assert picture.gray == (channels == 1)
    coarse = 2**-10 if dtype == "float16" else 2e-5
    assert np.abs(picture.rgb / 65535.0 - unit).max() < coarse
    assert np.abs(read_image(tmp_path / "a.tif") / 255.0 - unit).max() < 0.5 / 255 + coarse
    assert image_size(tmp_path / "a.tif") == (24, 20)


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("samples", [1, 3])
def test_ten_and_twelve_bits(tmp_path, bits, samples):
    unit = np.dstack([gray_ramp()] * samples)
    numbers = np.round(unit * (2**bits - 1)).astype(int)
    (tmp_path / "a.tif").write_bytes(_packed_tiff(numbers, bits))
    picture = read_picture(tmp_path / "a.tif", deep=True)
    assert np.abs(picture.rgb[..., 0] / 65535.0 - unit[..., 0]).max() < 2.0**-bits


def _packed_tiff(numbers, bits):
    """numbers (h, w, c) in so many bits each, rows from whole bytes on: a TIFF by hand."""
    height, width, samples = numbers.shape
    planes = (numbers[..., None] >> np.arange(bits)[::-1]) & 1
    rows = np.packbits(planes.reshape(height, -1).astype(np.uint8), axis=1).tobytes()
    entries = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, samples, bits), (259, 3, 1, 1),
        (262, 3, 1, 2 if samples == 3 else 1), (273, 4, 1, 0), (277, 3, 1, samples),
        (278, 3, 1, height), (279, 4, 1, len(rows)),
    ]  # fmt: skip
    end = 8 + 2 + 12 * len(entries) + 4
    extra = struct.pack(f"<{samples}H", *[bits] * samples) if samples > 1 else b""
    table = b""
    for tag, kind, count, value in entries:
        value = end if tag == 258 and samples > 1 else end + len(extra) if tag == 273 else value
        table += struct.pack("<HHII", tag, kind, count, value)
    start = b"II*\0" + struct.pack("<IH", 8, len(entries))
    return start + table + bytes(4) + extra + rows


def test_the_cases_of_numbers():
    found = read_picture(CASES / "u32gray.tif", deep=True)
    expected = tifffile.imread(CASES / "u32gray.tif") / (2.0**32 - 1)
    assert np.abs(found.rgb[..., 0] / 65535.0 - expected).max() < 1e-5
    found = read_picture(CASES / "f32.tif", deep=True)
    expected = tifffile.imread(CASES / "f32.tif")
    assert np.abs(found.rgb / 65535.0 - expected).max() < 1e-5


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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_tiffs_are_turned_upright(tmp_path, orientation):
    """As Pillow turns those of 8 bits."""
    rgb = noise(6, 9)
    turned = [(274, 3, 1, orientation, True)]
    tifffile.imwrite(tmp_path / "8.tif", rgb, photometric="rgb", extratags=turned)
    tifffile.imwrite(tmp_path / "f.tif", rgb / np.float32(255), photometric="rgb", extratags=turned)
    np.testing.assert_array_equal(read_image(tmp_path / "f.tif"), read_image(tmp_path / "8.tif"))
    assert image_size(tmp_path / "f.tif") == image_size(tmp_path / "8.tif")


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
    found = list_images(tmp_path)
    kinds = {path.suffix for path in found}
    assert {".avif", ".gif", ".jfif", ".tga"} <= kinds
    for path in found:
        if path.suffix != ".heic":
            assert read_image(path).shape == (24, 20, 3)
    said = "\n".join(warnings)
    assert "photo.CR2: camera raw is not supported" in said
    assert ("a.heic" in said) == (".heic" not in kinds)
    assert "notes.txt" not in said


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


def test_one_frame_of_an_animation_is_taken_aloud(warnings):
    for _ in range(2):
        assert read_image(CASES / "anim.gif").shape == (24, 20, 3)
    assert sum("is an animation: its first frame is taken" in text for text in warnings) == 1


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


def test_a_hostile_size_of_a_tiff_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.delenv(picture_open.ANY_SIZE, raising=False)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4, 3), np.float32), photometric="rgb")
    whole = bytearray((tmp_path / "a.tif").read_bytes())
    for tag in (256, 257):  # width and height
        at = (
            next(whole.index(e) for k in (3, 4) if (e := struct.pack("<HHI", tag, k, 1)) in whole)
            + 8
        )
        whole[at : at + 2] = struct.pack("<H", 60_000)
    (tmp_path / "a.tif").write_bytes(whole)
    with pytest.raises(UserError, match="more pixels than are read unasked"):
        read_image(tmp_path / "a.tif")
