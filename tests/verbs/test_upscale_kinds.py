"""`jaxgen upscale` on pictures as people have them: sprites, animations, pages, its own results."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import warnings
from PIL import Image
from support.tiny_model import picture, save
from support.upscale_command import folder, model
from support.upscale_command import upscale_command as upscale

from jaxgen.data.picture_files import list_images, read_picture, write_image
from jaxgen.data.picture_frames import frames_of, read_frames
from jaxgen.errors import UserError

__all__ = ["folder", "model", "upscale", "warnings"]
CASES = Path(__file__).resolve().parent.parent / "pictures"


def case(name, folder):
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(CASES / name, folder / name))


def names(folder):
    """Without hidden ones: a slow machine writes compiled programs to .cache."""
    found = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    return sorted(name for name in found if not name.startswith("."))


def frames(path):
    found = frames_of(path)
    return found, list(read_frames(path, found))


# ------------------------------------------------------------------------------- one picture each


def test_no_halo_around_a_sprite(upscale, model, tmp_path):
    """A disc on transparent black, enlarged and laid on its own colour, is not seen."""
    y, x = np.mgrid[:24, :24] - 11.5
    inside = x * x + y * y < 60
    color = np.array((220, 180, 40), np.uint8)
    sprite = np.zeros((24, 24, 4), np.uint8)
    sprite[inside] = [*color, 255]
    save(tmp_path / "sprite.png", sprite)
    assert upscale("sprite.png", "-o", "large.png")[0] == 0
    plain = model.upscale(np.broadcast_to(color, (24, 24, 3)).copy())
    for large in (
        np.asarray(Image.open("large.png")), model.upscale(sprite), model.upscale("sprite.png")
    ):  # fmt: skip
        assert large.shape == (96, 96, 4)
        seen = large[..., 3:] / 255.0
        over = large[..., :3] * seen + plain * (1 - seen)
        assert np.abs(over - plain).max() <= 1


def test_profile_resolution_and_texts_are_on_the_result(upscale, tmp_path):
    for name in ("icc_swap.png", "icc_swap.jpg", "text.png", "dpi300.png"):
        case(name, tmp_path / "in")
    code, _, err = upscale("in", "-o", "out")
    assert (code, err) == (0, "")
    for name in ("icc_swap.png.png", "icc_swap.jpg.png", "text.png", "dpi300.png"):
        before = read_picture(
            tmp_path / "in" / name.replace(".png.png", ".png").replace("jpg.png", "jpg")
        )
        after = read_picture(tmp_path / "out" / name)
        assert (after.about.icc, after.about.texts) == (before.about.icc, before.about.texts)
        assert after.about.dpi == before.about.dpi


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bits_in_and_out(upscale, model, tmp_path, ending):
    deep = picture().astype(np.uint16) * 257 + 100
    write_image(tmp_path / "a.png", deep)
    assert upscale("a.png", "-o", f"b.{ending}")[0] == 0
    large = read_picture(tmp_path / f"b.{ending}", deep=True).rgb
    assert np.array_equal(large, model.upscale(deep))
    assert len(np.unique(large)) > 1000
    assert np.abs(large / 257.0 - model.upscale(picture())).max() < 3
    assert upscale("a.png", "-o", f"c.{ending}", "--depth", "8")[0] == 0
    assert read_picture(tmp_path / f"c.{ending}", deep=True).rgb.dtype == np.uint8
    save(tmp_path / "d.png", picture())
    assert upscale("d.png", "-o", f"e.{ending}", "--depth", "16", "--scale", "3")[0] == 0
    found = read_picture(tmp_path / f"e.{ending}", deep=True).rgb
    assert (found.dtype, found.shape) == (np.uint16, (39, 51, 3))


def test_a_path_is_a_picture_to_python(model, tmp_path):
    gray = picture(channels=0)
    save(tmp_path / "gray.png", gray)
    assert np.array_equal(model.upscale(tmp_path / "gray.png"), model.upscale(gray))
    assert np.array_equal(model.upscale(str(tmp_path / "gray.png")), model.upscale(gray))
    with pytest.raises(UserError, match=r"anim\.gif holds 3 frames"):
        model.upscale(CASES / "anim.gif")
    with pytest.raises(UserError, match="no such file"):
        model.upscale("nowhere.png")


def test_a_way_around_the_limits(upscale, tmp_path, monkeypatch):
    from jaxgen.data import picture_open

    for name in ("MAX_TEXT_CHUNK", "MAX_TEXT_MEMORY"):
        owner = picture_open.PngImagePlugin
        monkeypatch.setattr(owner, name, getattr(owner, name))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    monkeypatch.setenv(picture_open.ANY_SIZE, "0")
    case("bigtext.png", tmp_path)
    code, _, err = upscale("bigtext.png", "-o", "out.png")
    assert code == 1
    assert "--any-size" in err
    assert upscale("bigtext.png", "-o", "out.png", "--any-size")[0] == 0


def test_every_case_goes_through_the_command(upscale, tmp_path):
    """All but one that only begins like a HEIC file; those too large have a test of their own."""
    for path in CASES.iterdir():
        if not path.name.startswith("big"):
            case(path.name, tmp_path / "in")
    code, _, err = upscale("in", "-o", "out")
    assert code == 1
    assert [line for line in err.splitlines() if line.startswith("error: ")] == [
        line for line in err.splitlines() if line.startswith("error: in/fake.heic: a HEIC file")
    ]
    large = read_picture("out/f32.png", deep=True)
    assert (large.rgb.dtype, large.rgb.shape) == (np.uint16, (96, 80, 3))
    assert len(names(tmp_path / "out")) == len(names(tmp_path / "in")) - 1


# ---------------------------------------------------------------------------- several frames, pages


@pytest.mark.parametrize(
    ("name", "format"),
    [("anim.gif", None), ("anim.png", None), ("anim.webp", None), ("anim.gif", "webp"),
     ("anim.webp", "png"), ("anim.png", "gif")],
)  # fmt: skip
def test_animations_stay_so(upscale, tmp_path, name, format):
    case(name, tmp_path / "in")
    code, out, err = upscale("in", "-o", "out", *(["--format", format] if format else []))
    assert (code, err) == (0, "")
    (written,) = (tmp_path / "out").iterdir()
    assert written.suffix == (f".{format}" if format else Path(name).suffix)
    before, shown = frames(CASES / name)
    after, large = frames(written)
    assert (len(after.at), after.plays) == (len(before.at), before.plays)
    assert before.says() in out
    assert [f.milliseconds for f in large] == [f.milliseconds for f in shown]
    assert {f.picture.rgb.shape for f in large} == {(96, 80, 3)}


def test_each_frame_is_the_network_s(upscale, model, tmp_path):
    case("anim.gif", tmp_path)
    assert upscale("anim.gif", "-o", "out.png")[0] == 0
    _, shown = frames(CASES / "anim.gif")
    _, large = frames(tmp_path / "out.png")
    for small, big in zip(shown, large, strict=True):
        assert np.array_equal(big.picture.rgb, model.upscale(small.picture.rgb))


def test_a_see_through_animation_leaves_no_trail(upscale, tmp_path):
    images = []
    for left in (2, 10):
        image = np.zeros((16, 24, 4), np.uint8)
        image[4:12, left : left + 8] = (200, 30, 30, 255)
        images.append(Image.fromarray(image))
    images[0].save(tmp_path / "a.png", save_all=True, append_images=images[1:], duration=[70, 90])
    for ending in ("gif", "png", "webp"):
        assert upscale("a.png", "-o", f"b.{ending}")[0] == 0
        _, large = frames(tmp_path / f"b.{ending}")
        assert [f.milliseconds for f in large] == [70, 90]
        for frame, left in zip(large, (2, 10), strict=True):
            assert frame.picture.alpha[32, 4 * left + 16] == 255
            assert frame.picture.alpha[32, 4 * (12 - left) + 30 * (left == 2)] == 0


def test_pages_are_all_done(upscale, model, tmp_path):
    case("multi.tif", tmp_path / "in")
    code, out, err = upscale("in", "-o", "out")
    assert (code, err) == (0, "")
    assert "2 pages" in out
    pages = tifffile.TiffFile(tmp_path / "out" / "multi.tif").pages
    before = tifffile.TiffFile(CASES / "multi.tif").pages
    for small, large in zip(before, pages, strict=True):
        assert np.array_equal(large.asarray(), model.upscale(small.asarray()))
    code, _, err = upscale("in", "-o", "out2", "--format", "png")
    assert code == 1
    assert "multi.tif holds 2 pages, which only TIFF keeps: use --format tif" in err


def test_pages_of_several_sizes_depths_and_a_thumbnail(upscale, tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(picture(8, 12), photometric="rgb")
        writer.write(picture(4, 6), photometric="rgb", subfiletype=1)  # a reduced copy
        writer.write(picture(6, 7, 0).astype(np.uint16) * 257)
        writer.write(np.float32(picture(9, 5) / 255), photometric="rgb")
    assert upscale("a.tif", "-o", "b.tif")[0] == 0
    pages = [page.asarray() for page in tifffile.TiffFile(tmp_path / "b.tif").pages]
    assert [page.shape for page in pages] == [(32, 48, 3), (24, 28), (36, 20, 3)]
    assert {page.dtype for page in pages} == {np.dtype(np.uint16)}


def test_a_format_of_one_picture_refuses_an_animation(upscale, tmp_path):
    case("anim.gif", tmp_path)
    code, _, err = upscale("anim.gif", "-o", "a.jpg")
    assert code == 1
    assert "holds 3 frames, which JPEG does not: use --format png, webp or gif" in err
    assert not (tmp_path / "a.jpg").exists()


def test_a_damaged_animation_is_named_and_the_others_done(upscale, tmp_path):
    whole = case("anim.gif", tmp_path / "in").read_bytes()
    (tmp_path / "in" / "cut.gif").write_bytes(whole[: len(whole) // 2])
    save(tmp_path / "in" / "z.png", picture())
    code, _, err = upscale("in", "-o", "out")
    assert code == 1
    assert "cut.gif" in err
    assert names(tmp_path / "out") == ["anim.gif", "z.png"]


# ---------------------------------------------------------------------------------- where they go


def test_without_out_results_lie_beside(upscale, tmp_path):
    save(tmp_path / "photo.jpg", picture())
    save(tmp_path / "in" / "sub" / "a.png", picture())
    assert upscale("photo.jpg", "in")[0] == 0
    assert names(tmp_path) == [
        "in/sub/a.png", "in_x4/sub/a.png", "photo.jpg", "photo_x4.png",
    ]  # fmt: skip
    before = (tmp_path / "photo_x4.png").read_bytes()
    code, _, err = upscale("photo.jpg")
    assert (code, err) == (2, "error: photo_x4.png exists; give --overwrite to replace it\n")
    assert (tmp_path / "photo_x4.png").read_bytes() == before
    assert upscale("photo.jpg", "--scale", "2.5")[0] == 0
    assert (tmp_path / "photo_x2.5.png").exists()


@pytest.mark.parametrize(
    "args", [["in", "-o", "in"], ["in", "-o", "in/out"], ["in", "-o", "./in/"]]
)
def test_own_results_are_not_eaten(upscale, tmp_path, args):
    for name in ("a.png", "b.jpg", "sub/a.png"):
        save(tmp_path / "in" / name, picture())
    assert upscale(*args)[0] == 0
    first = names(tmp_path)
    assert len(first) == 6
    code, out, _ = upscale(*args)
    assert code == 0
    assert "3 of 3 were there already" in out
    assert upscale(*args, "--overwrite", "--format", "png")[0] == 0
    assert names(tmp_path) == first
    # Nor by another scale and format.
    assert upscale(*args[:2], args[2], "--scale", "2", "--format", "webp")[0] == 0
    assert len(names(tmp_path)) == 9


def test_results_beside_pictures_are_left_out_of_their_folder(upscale, tmp_path, warnings):
    save(tmp_path / "in" / "a.png", picture())
    save(tmp_path / "in" / "b_x4.png", picture())  # of no b
    assert upscale("in/a.png")[0] == 0
    assert upscale("in", "-o", "out")[0] == 0
    assert names(tmp_path / "out") == ["a.png", "b_x4.png"]
    assert "1 pictures that are by their names results of others" in "\n".join(warnings)
    assert upscale("in/a_x4.png", "-o", "out")[0] == 0  # by its own name it is a picture
    assert names(tmp_path / "out") == ["a.png", "a_x4.png", "b_x4.png"]


def test_own_results_are_not_eaten_by_a_glob(upscale, tmp_path):
    save(tmp_path / "a.png", picture())
    save(tmp_path / "b.jpg", picture())
    assert upscale("a.png", "b.jpg", "-o", ".")[0] == 0
    assert names(tmp_path) == ["a.png", "a_x4.png", "b.jpg", "b_x4.png"]
    assert upscale(*names(tmp_path), "-o", ".")[0] == 0
    assert names(tmp_path) == ["a.png", "a_x4.png", "b.jpg", "b_x4.png"]


def test_pictures_below_out_that_are_no_results_are_named(upscale, tmp_path, warnings):
    save(tmp_path / "in" / "a.png", picture())
    save(tmp_path / "in" / "out" / "other.png", picture())
    assert upscale("in", "-o", "in/out")[0] == 0
    assert "left out: 1 pictures below" in "\n".join(warnings)


def test_sheets_are_no_pictures(tmp_path):
    write_image(tmp_path / "a.png", picture())
    write_image(tmp_path / "grid.png", picture(), mark="sheet")
    write_image(tmp_path / "a_masks.png", picture(), mark="masks")
    assert [path.name for path in list_images(tmp_path)] == ["a.png"]
    assert list_images(tmp_path / "grid.png") == [tmp_path / "grid.png"]  # by its own name
