"""TIFF pictures of every kind of number, however they lie in the file."""

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import noise

from jaxgen.data import picture_open
from jaxgen.data.picture_files import image_size, read_image, read_picture
from jaxgen.errors import UserError

CASES = Path(__file__).resolve().parent.parent / "pictures"


def gray_ramp(height=24, width=20):
    return np.linspace(0, 1, height * width).reshape(height, width)


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


@pytest.mark.parametrize("extra", [(), ("unassalpha",), ("assocalpha",), ("unspecified",)])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_sixteen_bits_however_they_lie(tmp_path, extra, planes, compression):
    """Colours plane by plane, with premultiplied transparency or a channel that means nothing."""
    unit = np.dstack([gray_ramp(), gray_ramp()[::-1], gray_ramp()[:, ::-1]])
    cover = gray_ramp()[..., None] * 0.5 + 0.5
    numbers = np.dstack([unit * cover if extra == ("assocalpha",) else unit, *[cover] * len(extra)])
    numbers = np.round(numbers * 65535).astype(np.uint16)
    if planes == "separate":
        numbers = np.moveaxis(numbers, -1, 0)
    tifffile.imwrite(
        tmp_path / "a.tif", numbers, photometric="rgb", planarconfig=planes,
        extrasamples=extra or None, compression=compression, metadata=None,
    )  # fmt: skip
    picture = read_picture(tmp_path / "a.tif", deep=True)
    assert np.abs(picture.rgb / 65535.0 - unit).max() < 5e-5
    assert (picture.alpha is None) == (extra in ((), ("unspecified",)))
    if picture.alpha is not None:
        assert np.abs(picture.alpha / 65535.0 - cover[..., 0]).max() < 2e-5


def test_a_tiff_of_deep_cmyk_planes_is_named(tmp_path):
    planes = np.zeros((4, 6, 8), np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", planes, photometric="separated", planarconfig="separate", metadata=None
    )
    with pytest.raises(UserError, match=r"16 bits of 4 channels, SEPARATED is not supported"):
        read_picture(tmp_path / "a.tif")


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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_tiffs_are_turned_upright(tmp_path, orientation):
    """As Pillow turns those of 8 bits."""
    rgb = noise(6, 9)
    turned = [(274, 3, 1, orientation, True)]
    tifffile.imwrite(tmp_path / "8.tif", rgb, photometric="rgb", extratags=turned)
    tifffile.imwrite(tmp_path / "f.tif", rgb / np.float32(255), photometric="rgb", extratags=turned)
    np.testing.assert_array_equal(read_image(tmp_path / "f.tif"), read_image(tmp_path / "8.tif"))
    assert image_size(tmp_path / "f.tif") == image_size(tmp_path / "8.tif")


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
