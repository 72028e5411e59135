"""Originals and their small copies in the layouts that people have."""

import shutil

import numpy as np
import pytest
from PIL import Image

from jaxgen.data.picture_files import write_image
from jaxgen.data.resize import imresize
from jaxgen.data.sr.examples import folder_pairs, pair_names
from jaxgen.data.sr.pairing import originals
from jaxgen.errors import UserError

NAMES = ("0001", "0002")


def photo(seed, height=48, width=72):
    y, x = np.mgrid[:height, :width] / 9.0
    planes = [127 + 100 * np.sin(y * (1 + seed / 7) + c) * np.cos(x + c * seed) for c in range(3)]
    return np.stack(planes, -1).astype(np.uint8)


# Layout: (HR's path, LR's path) by name and scale; "%s" is the name, "%d" the scale.
LAYOUTS = {
    "HR and LR": ("HR/%s.png", "LR/%s.png"),
    "DIV2K": ("DIV2K_valid_HR/%s.png", "DIV2K_valid_LR_bicubic/X%d/%sx%d.png"),
    "DIV2K's harder tracks": ("DIV2K_valid_HR/%s.png", "DIV2K_valid_LR_mild/%sx%dm.png"),
    "SwinIR": ("HR/%s.png", "LR_bicubic/X%d/%sx%d.png"),
    "BasicSR": ("GTmod12/%s.png", "LRbicx%d/%s.png"),
    "ESRGAN": ("Set5/original/%s.png", "Set5/LRbicx%d/%s.png"),
    "SelfExSR": ("image_SRF_%d/img_%s_SRF_%d_HR.png", "image_SRF_%d/img_%s_SRF_%d_LR.png"),
    "RCAN": ("HR/Set5/x%d/%s_HR_x%d.png", "LR/LRBI/Set5/x%d/%s_LRBI_x%d.png"),
    "beside": ("%s.png", "%sx%d.png"),
    "beside, apart": ("%s_HR.png", "%s_LR_x%d.png"),
    "Real-ESRGAN": ("GT/%s.png", "LQ/%s.png"),
    "RealSR": ("Test/%s_HR.png", "Test/%s_LR%d.png"),
    "low and high": ("high/%s.png", "low/%s.png"),
    "input and target": ("target/%s.png", "input/%s.png"),
    "scale first": ("x%d/HR/%s.png", "x%d/LR/%s.png"),
}  # fmt: skip


def fill(form, name, scale):
    """A layout's form with name and scale, however often it has each."""
    for part in ("%s", "%d"):
        form = form.replace(part, name if part == "%s" else str(scale))
    return form


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("more", [False, True])
def test_layouts_are_paired(tmp_path, layout, more):
    high, low = LAYOUTS[layout]
    scales = (2, 4) if more and "%d" in low else (4,)
    for i, name in enumerate(NAMES):
        for scale in scales:
            write_image(tmp_path / fill(high, name, scale), photo(i))
            small = 255 - imresize(photo(i), scale=1 / scale)  # not what would be made
            write_image(tmp_path / fill(low, name, scale), small)
    found = list(folder_pairs(tmp_path, 4))
    assert len(found) == len(pair_names(tmp_path, 4)) == 2
    for i, (_, lr, hr) in enumerate(found):
        np.testing.assert_array_equal(hr, photo(i))
        np.testing.assert_array_equal(lr, 255 - imresize(photo(i), scale=1 / 4))
    # LR pictures are no originals of anything else either.
    assert len(originals(tmp_path)) == 2 * (len(scales) if "%d" in high else 1)


def test_several_sets_in_one_tree(tmp_path):
    for folder in ("Set5", "Set14"):
        for i, name in enumerate(NAMES):
            write_image(tmp_path / folder / "HR" / f"{name}.png", photo(i))
            write_image(tmp_path / folder / "LR" / f"{name}.png", imresize(photo(i), scale=1 / 4))
    found = [name for name, _, _ in folder_pairs(tmp_path, 4)]
    assert found == [f"{a}/HR/{b}.png" for a in ("Set14", "Set5") for b in NAMES]


def test_the_original_that_fits_is_taken(tmp_path):
    """BasicSR's sets hold the original, and that cut to a multiple of 12, of which LR is made."""
    whole = photo(0, 53, 75)
    write_image(tmp_path / "original" / "a.png", whole)
    write_image(tmp_path / "GTmod12" / "a.png", whole[:48, :72])
    write_image(tmp_path / "LRbicx4" / "a.png", imresize(whole[:48, :72], scale=1 / 4))
    ((_, lr, hr),) = folder_pairs(tmp_path, 4)
    assert (lr.shape, hr.shape) == ((12, 18, 3), (48, 72, 3))


@pytest.mark.parametrize(
    "stem", ["%s", "fox%d", "low_%d", "input_%s", "img_x%d", "hotel_%s", "lotus", "original_%d"]
)
def test_pictures_without_small_copies_are_all_taken(tmp_path, stem):
    for i in range(4):
        name = stem.replace("%s", f"{i:04d}").replace("%d", str(i + 1))
        write_image(tmp_path / "class_a" / f"{name}{i}.png", photo(i))
        write_image(tmp_path / "class_b" / f"{name}{i}.png", photo(i + 9, 96, 144))
        write_image(tmp_path / f"{i}" / f"{name}.png", photo(i + 20))
    assert len(list(folder_pairs(tmp_path, 4))) == 12


def refused(tmp_path, scale, says):
    with pytest.raises(UserError, match=says):
        list(folder_pairs(tmp_path, scale))


def test_what_is_not_told_apart_is_refused(tmp_path):
    write_image(tmp_path / "a" / "1.png", photo(0))
    write_image(tmp_path / "b" / "1.png", imresize(photo(0), scale=1 / 4))
    refused(tmp_path, 4, r"b/1\.png is .*a/1\.png in small")
    with pytest.raises(UserError, match="in small"):
        originals(tmp_path)
    shutil.rmtree(tmp_path / "b")
    write_image(tmp_path / "HR" / "1.png", photo(0))
    write_image(tmp_path / "HR" / "2.png", photo(1))
    write_image(tmp_path / "LR_bicubic" / "X4" / "1.png", imresize(photo(0), scale=1 / 4))
    shutil.rmtree(tmp_path / "a")
    refused(tmp_path, 4, r"X4 has no picture for 2\.png")
    refused(tmp_path, 2, "LR pictures of x4, none of x2")
    (tmp_path / "HR" / "2.png").unlink()
    shutil.copytree(tmp_path / "LR_bicubic", tmp_path / "LR_unknown")
    refused(tmp_path, 4, "which of these are a pair")


def test_results_beside_originals_are_refused(tmp_path):
    for folder in ("HR", "SR"):
        write_image(tmp_path / folder / "a.png", photo(0))
    said = "SR/a.png has the name and size of .*HR alone"
    refused(tmp_path, 4, said)
    with pytest.raises(UserError, match=said):
        originals(tmp_path)
    assert len(originals(tmp_path / "HR")) == 1


def test_results_beside_photos_are_refused(tmp_path):
    """photo_x4.png, as `jaxgen upscale` names it, is no original."""
    write_image(tmp_path / "photo.png", photo(0))
    large = Image.fromarray(photo(0)).resize((288, 192), Image.Resampling.BICUBIC)
    write_image(tmp_path / "photo_x4.png", np.asarray(large))
    refused(tmp_path, 4, r"photo")
