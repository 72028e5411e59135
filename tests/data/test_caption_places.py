"""Captions in another folder than their pictures, by any way that leads there."""

import os

import pytest
from support.benchmark_data import held
from support.caption_files import opened, picture


@pytest.mark.parametrize("place", ["ann/captions.csv", "captions_all.csv", "images/captions.csv"])
@pytest.mark.parametrize("names", ["relative to the pictures", "relative to the file", "absolute"])
def test_captions_outside_of_the_pictures(tmp_path, place, names):
    images, file = tmp_path / "images", tmp_path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    start = {
        "relative to the pictures": "",
        "relative to the file": os.path.relpath(images, file.parent) + "/",
        "absolute": f"{images}/",
    }[names]
    for name in ("a.png", "b.png"):
        picture(images / name)
    file.write_text(f"file,caption\n{start}a.png,a red bird\n{start}b.png,a blue one\n")
    found = opened(images, captions=str(file))
    captions = {name: said for name, (said, _) in found.items()}
    assert captions == {"a.png": ("a red bird",), "b.png": ("a blue one",)}


@pytest.mark.parametrize("start", ["../images/", "HERE/real/images/", "HERE/link/images/"])
@pytest.mark.parametrize("images", ["real", "link"])
@pytest.mark.parametrize("way", ["real", "link"])
def test_links_lead_to_pictures(tmp_path, start, images, way):
    """`link` leads to `real`, and one of the pictures' folders is a link, too."""
    names = ("a.png", "deep/b.png", "linked/c.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "real" / "images").mkdir(parents=True)
    (tmp_path / "real" / "images" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name in names:
        picture(tmp_path / "real" / "images" / name)
    start = start.replace("HERE", str(tmp_path))
    texts = tmp_path / "real" / "ann" / "c.csv"
    texts.parent.mkdir()
    texts.write_text("file,caption\n" + "".join(f"{start}{name},{name[-5]}\n" for name in names))
    found = opened(tmp_path / images / "images", captions=str(tmp_path / way / "ann" / "c.csv"))
    assert sorted(found) == sorted(names)


@pytest.mark.parametrize(
    ("pictures_in", "file"),
    [
        ("captions_outside/images", "captions_outside/ann/captions.jsonl"),
        ("captions_outside/parent/images", "captions_outside/parent/captions_all.csv"),
        ("captions_outside/images", "absolute_paths/captions.csv"),
    ],
)
def test_captions_outside_that_failed_elsewhere(data_dir, tmp_path, pictures_in, file):
    cases = data_dir / "cases" / "captions"
    copy = held(data_dir, f"cases/captions/{file}")
    text = copy.read_text()
    if "/FOLDER/" in text:  # it stands for where the pictures are
        copy = tmp_path / "captions.csv"
        copy.write_text(text.replace("/FOLDER/", f"{cases / pictures_in}/"))
    assert len(opened(cases / pictures_in, captions=str(copy))) == 12
