"""Captions from files: a user's own folder, CUB's classes and boxes, COCO's JSON."""

import io
import json

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from jaxgen.data import caption_files, captioned, coco, cub
from jaxgen.data.captioned_pictures import fit, hold_out, shared_meanings
from jaxgen.errors import UserError


def settings(source="folder", **changes) -> ConfigDict:
    data = captioned.defaults()
    data.update({"source": source, "size": 8, "holdout": 0.0, **changes})
    return data


def picture(path, level=0, size=(10, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), level, np.uint8)).save(path)


@pytest.fixture
def pictures(tmp_path):
    """a.png ... d.png; d in a folder below."""
    for level, name in enumerate(("a.png", "b.png", "c.png", "sub/d.png")):
        picture(tmp_path / name, 40 * level)
    return tmp_path


def opened(folder, split="train", **changes):
    """{name: (captions, meaning)} of a split."""
    records = caption_files.open_folder(settings(path=str(folder), **changes), split)
    found = {
        r["_name"]: (r["_captions"], r["meaning"])
        for r in map(records.__getitem__, range(len(records)))
    }
    assert list(records.captions()) == [found[name][0] for name in sorted(found)]
    return found


def said(caplog) -> str:
    return " | ".join(r.getMessage() for r in caplog.records if r.levelname == "WARNING")


# ---- the three forms -----------------------------------------------------------------------------


def test_json_lines(pictures):
    (pictures / "captions.jsonl").write_text(
        '{"file": "a.png", "caption": "a black square"}\n\n'
        '{"file_name": "./b.png", "text": ["a dark square", " a   gray one "]}\n'
        '{"image": "c", "captions": ["gray"], "more": 1}\n'
        '{"Path": "sub\\\\d.png", "prompt": "light gray"}\n'
        '{"file": "a.png", "caption": ["nothing at all", "a black square"]}\n',
        encoding="utf-8-sig",
    )
    found = opened(pictures)
    assert {name: texts for name, (texts, _) in found.items()} == {
        "a.png": ("a black square", "nothing at all"),
        "b.png": ("a dark square", "a gray one"),
        "c.png": ("gray",),
        "sub/d.png": ("light gray",),
    }
    records = caption_files.open_folder(settings(path=str(pictures)), "train")
    assert {r["_name"]: int(r["image"].mean()) for r in map(records.__getitem__, range(4))} == {
        "a.png": 0, "b.png": 40, "c.png": 80, "sub/d.png": 120,
    }  # fmt: skip


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_csv(pictures, mark):
    lines = [
        ("file", "caption", "split"),
        ("a.png", "first", ""),
        ("b.png", f'"one{mark} two"', ""),
    ]
    lines += [("a.png", '"second ""quoted"""', ""), ("sub/d.png", '"two\nlines"', "")]
    (pictures / "captions.csv").write_text("\r\n".join(mark.join(line) for line in lines))
    texts = {name: texts for name, (texts, _) in opened(pictures).items()}
    assert texts["a.png"] == ("first", 'second "quoted"')
    assert texts["b.png"] == (" ".join(f"one{mark} two".split()),)
    assert texts["sub/d.png"] == ("two lines",)


def test_text_beside_each_picture_or_in_a_tree_of_its_own(pictures, tmp_path_factory):
    (pictures / "a.txt").write_text("one\n\n two \n")
    (pictures / "sub" / "d.txt").write_text("four")
    expected = {"a.png": ("one", "two"), "sub/d.png": ("four",)}
    assert {name: texts for name, (texts, _) in opened(pictures).items()} == expected
    apart = tmp_path_factory.mktemp("texts")
    (apart / "sub").mkdir()
    (apart / "sub" / "d.txt").write_text("another")
    found = opened(pictures, captions=str(apart))
    assert {name: texts for name, (texts, _) in found.items()} == {"sub/d.png": ("another",)}


def test_a_captions_file_in_a_folder_below_names_its_neighbours(pictures):
    (pictures / "sub" / "captions.jsonl").write_text('{"file": "d.png", "caption": "four"}\n')
    assert list(opened(pictures, captions="sub/captions.jsonl")) == ["sub/d.png"]


# ---- splits and meanings -------------------------------------------------------------------------


def test_pictures_with_an_equal_caption_have_one_meaning(pictures):
    rows = {
        "a": ["A red, circle!"],
        "b": ["blue", "a red , circle"],
        "c": ["Blue."],
        "sub/d": ["x"],
    }
    with (pictures / "captions.jsonl").open("w") as file:
        file.writelines(json.dumps({"file": k, "caption": v}) + "\n" for k, v in rows.items())
    meanings = {name: meaning for name, (_, meaning) in opened(pictures).items()}
    assert meanings["a.png"] == meanings["b.png"] == meanings["c.png"] != meanings["sub/d.png"]


def test_groups_of_captions():
    assert shared_meanings([["x"], ["y"], ["z"], ["z", "y"], ["w"]]) == [0, 1, 1, 1, 4]
    assert shared_meanings([["?"], ["!"], ["?"]]) == [0, 1, 0]


def test_splits_that_the_rows_say(pictures):
    splits = {"a.png": "train", "b.png": "val", "c.png": "test", "sub/d.png": None}
    with (pictures / "captions.jsonl").open("w") as file:
        for name, split in splits.items():
            file.write(json.dumps({"file": name, "caption": name, "split": split}) + "\n")
    assert list(opened(pictures, holdout=0.9)) == ["a.png", "sub/d.png"]
    assert list(opened(pictures, "validation", holdout=0.9)) == ["b.png", "c.png"]


def test_held_out_pictures_are_stable():
    names = [f"picture {i}.png" for i in range(100)]
    held = hold_out(names, 0.2)
    assert len(held) == 20
    assert hold_out(reversed(names), 0.2) == held
    # With ten more pictures hardly another one is chosen.
    assert len(hold_out([*names, *(f"new {i}.png" for i in range(10))], 0.2) & held) >= 16
    assert len(hold_out(names[:3], 0.01)) == 1
    assert not hold_out(names, 0.0)


# ---- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("captions.jsonl", b'{"file": "a.png", "caption": "x"}\n{"file"\n', r"line 2: not JSON"),
        ("captions.jsonl", b'["a.png", "x"]\n', r"line 1: must be \{"),
        ("captions.jsonl", b'{"file": "a.png"}\n', r"line 1: no 'caption' \(or captions,"),
        ("captions.jsonl", b'{"caption": "x"}\n', r"line 1: no 'file' \(or file_name,"),
        ("captions.jsonl", b'{"file": "a.png", "caption": 3}\n', r"line 1: the caption must be"),
        ("captions.jsonl", b'{"file": 3, "caption": "x"}\n', r"line 1: the file must be a name"),
        (
            "captions.jsonl",
            b'{"file": "a", "caption": "x", "split": "all"}',
            r"split must be train",
        ),
        ("captions.jsonl", b'\n{"file": "a.png", "caption": "\xe9"}\n', r"line 2: not UTF-8"),
        ("captions.jsonl", b"\n", "holds no captions"),
        ("captions.csv", b"file,caption\na.png,red, round\n", r"line 2: more fields .* quotes"),
        ("captions.csv", b'file,caption\na.png,"red\n', r"not CSV"),
        ("captions.csv", b"name,words\na.png,red\n", r"line 2: no 'file'"),
        ("captions.csv", b"file,caption\n", "holds no captions"),
    ],
)
def test_malformed_lines_are_named(pictures, name, content, says):
    (pictures / name).write_bytes(content)
    with pytest.raises(UserError, match=says):
        opened(pictures)


def test_no_captions_no_pictures_no_folder(pictures, tmp_path):
    with pytest.raises(UserError, match=r"holds no captions: put captions\.jsonl"):
        opened(pictures)
    with pytest.raises(UserError, match=r"needs data\.path"):
        caption_files.open_folder(settings(), "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no pictures"):
        opened(tmp_path / "empty")
    with pytest.raises(UserError, match=r"data\.captions=nowhere: no such file"):
        opened(pictures, captions="nowhere")
    (tmp_path / "captions.xml").write_text("")
    with pytest.raises(UserError, match=r"captions come as \.jsonl, \.csv or \.tsv"):
        opened(pictures, captions=str(tmp_path / "captions.xml"))


def test_captions_of_missing_pictures_and_pictures_without_captions(pictures, caplog):
    (pictures / "captions.jsonl").write_text(
        '{"file": "a.png", "caption": "x"}\n{"file": "z.png", "caption": "y"}\n'
        '{"file": "b.png", "caption": " "}\n'
    )
    with caplog.at_level("WARNING", logger="absl"):
        assert list(opened(pictures)) == ["a.png"]
    assert "1 of 3 captions are of missing pictures: z.png (" in said(caplog)
    assert "line 2)" in said(caplog)
    assert "3 pictures without a caption are left out: b.png, c.png, sub/d.png" in said(caplog)
    with pytest.raises(UserError, match=r"missing pictures: z\.png .*data\.on_bad='skip'"):
        opened(pictures, on_bad="error")
    with pytest.raises(UserError, match="no validation pictures among the 1"):
        opened(pictures, "validation")
    (pictures / "captions.jsonl").write_text('{"file": "z.png", "caption": "y"}\n')
    with pytest.raises(UserError, match="no captioned picture is left"):
        opened(pictures)


def test_damaged_pictures(pictures, caplog):
    for name in ("a", "b"):
        (pictures / f"{name}.txt").write_text(name)
    (pictures / "a.png").write_bytes(b"not a picture")
    with caplog.at_level("WARNING", logger="absl"):
        assert list(opened(pictures)) == ["b.png"]
    assert "a.png" in said(caplog)
    with pytest.raises(UserError, match=r"a\.png: not a picture"):
        opened(pictures, on_bad="error")
    # Cut short: the header is good, and the next picture comes with its own caption.
    picture(pictures / "a.png", 255, size=(64, 64))
    whole = (pictures / "a.png").read_bytes()
    (pictures / "a.png").write_bytes(whole[: len(whole) - 40])
    records = caption_files.open_folder(settings(path=str(pictures)), "train")
    assert len(records) == 2
    assert records[0]["_captions"] == ("b",)
    assert int(records[0]["image"].mean()) == 40


def test_fitting_keeps_the_shape():
    image = np.zeros((30, 20, 3), np.uint8)
    assert fit(image, 20) is image
    assert fit(image, 8).shape == (12, 8, 3)
    assert fit(image[:10], 16).shape == (16, 32, 3)


# ---- CUB -----------------------------------------------------------------------------------------

# Pictures of each of the 200 classes of CUB-200-2011: 60, but for these.
_FEWER = {
    3: 58, 5: 44, 6: 41, 7: 53, 8: 48, 9: 59, 12: 56, 15: 58, 16: 58, 17: 57, 18: 45, 19: 59,
    20: 59, 22: 56, 23: 59, 24: 52, 28: 59, 32: 53, 33: 59, 34: 59, 37: 59, 39: 59, 43: 59, 58: 58,
    60: 59, 65: 50, 75: 57, 78: 59, 84: 53, 97: 59, 101: 50, 105: 49, 107: 59, 113: 50, 115: 59,
    117: 59, 119: 59, 124: 59, 125: 59, 126: 59, 135: 59, 141: 58, 149: 59, 151: 51, 153: 59,
    157: 59, 160: 59, 166: 59, 168: 59, 169: 59, 178: 56, 179: 59, 181: 59, 187: 50, 190: 58,
    196: 59,
}  # fmt: skip


def test_the_test_classes_are_those_of_the_published_split():
    sizes = {number: _FEWER.get(number, 60) for number in range(1, 201)}
    assert sum(sizes.values()) == 11_788
    assert len(cub.TEST_CLASSES) == 50
    assert sum(sizes[number] for number in cub.TEST_CLASSES) == 2_933
    assert sum(n for number, n in sizes.items() if number not in cub.TEST_CLASSES) == 8_855


@pytest.mark.parametrize(
    ("box", "square"),
    [
        ((40, 60, 20, 10), (35, 65, 50, 80)),  # half side: 15
        ((0, 0, 60, 40), (0, 75, 0, 65)),  # clipped at the left and the top
        ((100, 150, 50, 50), (88, 150, 138, 200)),  # at the right and the bottom; half side 37
    ],
)
def test_the_crop_around_a_box(box, square):
    y, x = np.mgrid[:150, :200].astype(np.uint8)
    image = np.stack([y, x, x], axis=-1)
    top, left, height, width = box
    share = np.array(
        [top / 150, left / 200, (top + height) / 150, (left + width) / 200], np.float32
    )
    cut = cub.around(image, share)
    low, high, west, east = square
    np.testing.assert_array_equal(cut, image[low:high, west:east])


def _png(level: int) -> io.BytesIO:
    file = io.BytesIO()
    pixels = np.full((30, 40, 3), 250, np.uint8)
    pixels[10:20, 20:30] = level  # what the box surrounds
    Image.fromarray(pixels).save(file, format="PNG")
    file.seek(0)
    return file


@pytest.fixture
def birds(tmp_path, monkeypatch):
    """TFDS's real builder, its files written from six pictures: classes 1, 4 (test), 2, 3, 5, 7."""
    import tensorflow_datasets as tfds

    builder = tfds.builder("caltech_birds2011", data_dir=str(tmp_path))

    def examples(numbers):
        for number in numbers:
            mask = io.BytesIO()
            Image.new("L", (40, 30)).save(mask, format="PNG")
            mask.seek(0)
            name = f"CUB_200_2011/images/{number:03d}.Bird/Bird_{number:04d}_1.jpg"
            yield name, {
                "image": _png(20 * number), "image/filename": name, "label": number - 1,
                "label_name": "bird", "segmentation_mask": mask,
                "bbox": tfds.features.BBox(ymin=10 / 30, xmin=20 / 40, ymax=20 / 30, xmax=30 / 40),
            }  # fmt: skip

    split = {"train": examples([1, 2, 3]), "test": examples([4, 5, 7])}
    monkeypatch.setattr(type(builder), "_split_generators", lambda self, manager: split)
    builder.download_and_prepare(file_format="array_record")
    for number in (1, 2, 3, 4, 5):
        folder = tmp_path / "text" / f"{number:03d}.Bird"
        folder.mkdir(parents=True)
        lines = [f"bird {number} has line {i}" for i in range(10)]
        (folder / f"Bird_{number:04d}_1.txt").write_text("\n".join(lines) + "\n")
    return settings("cub", data_dir=str(tmp_path), captions=str(tmp_path / "text"), crop="bbox")


def test_birds_are_split_by_class_and_cut_by_box(birds, caplog):
    with caplog.at_level("WARNING", logger="absl"):
        train = cub.open_cub(birds, "train")
    assert "1 birds have no captions in" in said(caplog)
    assert "Bird_0007_1" in said(caplog)
    held = cub.open_cub(birds, "validation")
    assert sorted(train[i]["meaning"] for i in range(len(train))) == [2, 3, 5]
    assert sorted(held[i]["meaning"] for i in range(len(held))) == [1, 4]
    for record in map(train.__getitem__, range(3)):
        number = record["meaning"]
        assert record["_captions"][3] == f"bird {number} has line 3"
        assert len(record["_captions"]) == 10
        # Half a side of 7 about the middle of the box, at 8 pixels.
        assert record["image"].shape == (8, 8, 3)
        assert abs(int(record["image"][4, 4, 0]) - 20 * number) < 12
    birds.crop = "center"
    assert cub.open_cub(birds, "train")[0]["image"].shape == (8, 11, 3)
    birds.on_bad = "error"
    with pytest.raises(UserError, match="1 birds have no captions"):
        cub.open_cub(birds, "train")


def test_birds_as_training_data(birds):
    from jaxgen.data import pipeline

    birds.enlarge, birds.flip = 76 / 64, True
    data = captioned.resolve(ConfigDict({"data": birds})).data
    assert data.vocabulary[:4] == ("bird", "has", "line", "2")
    records, transform = captioned.train_data(data)
    assert records[0]["image"].shape == (10, 10, 3)  # 8 * 76 / 64, rounded
    batch = pipeline.train_dataset(records, transform, batch_size=8, seed=0)[0]
    assert batch["image"].shape == (8, 8, 8, 3)
    assert set(batch["meaning"].tolist()) <= {2, 3, 5}
    assert captioned.validation_data(data)[0]["image"].shape == (8, 8, 3)


def test_birds_that_are_not_prepared_or_have_no_texts(tmp_path):
    with pytest.raises(UserError, match=r"needs data\.captions"):
        cub.open_cub(settings("cub"), "train")
    with pytest.raises(UserError, match="no such folder"):
        cub.open_cub(settings("cub", captions=str(tmp_path / "none")), "train")
    data = settings("cub", captions=str(tmp_path), data_dir=str(tmp_path))
    with pytest.raises(UserError, match="not prepared; run: jaxgen prepare caltech_birds2011"):
        cub.open_cub(data, "train")


# ---- COCO ----------------------------------------------------------------------------------------


@pytest.fixture
def coco_data(tmp_path):
    for part, numbers in (("train2014", (9, 25, 30, 34)), ("val2014", (42,))):
        images, notes = [], []
        for number in numbers:
            name = f"COCO_{part}_{number:012d}.png"
            images.append({"id": number, "file_name": name, "height": 8, "width": 10})
            if number != 30:
                picture(tmp_path / part / name, number)
            for i in range(2):
                text = f"picture {number},\n caption {i}. "
                notes.append({"id": len(notes), "image_id": number, "caption": text})
        # The same words under 34 as under 9.
        notes.append({"id": 99, "image_id": numbers[-1], "caption": "Picture 9, caption 1"})
        folder = tmp_path / "annotations"
        folder.mkdir(exist_ok=True)
        content = {"info": {}, "images": images, "annotations": notes}
        (folder / f"captions_{part}.json").write_text(json.dumps(content))
    return settings("coco", path=str(tmp_path), captions=str(tmp_path))


def test_coco(coco_data, caplog):
    with caplog.at_level("WARNING", logger="absl"):
        train = coco.open_coco(coco_data, "train")
    assert "1 of 4 pictures are not in" in said(caplog)
    found = {r["_name"][-6:-4]: r for r in map(train.__getitem__, range(len(train)))}
    assert list(found) == ["09", "25", "34"]
    assert found["25"]["_captions"] == ("picture 25, caption 0.", "picture 25, caption 1.")
    assert {name: int(r["image"].mean()) for name, r in found.items()} == {
        "09": 9,
        "25": 25,
        "34": 34,
    }
    assert {name: r["meaning"] for name, r in found.items()} == {"09": 9, "25": 25, "34": 9}
    held = coco.open_coco(coco_data, "validation")
    assert [held[0]["meaning"], len(held)] == [42, 1]
    coco_data.on_bad = "error"
    with pytest.raises(UserError, match=r"are not in .*000030"):
        coco.open_coco(coco_data, "train")


def test_coco_mistakes(coco_data, tmp_path):
    with pytest.raises(UserError, match=r"needs data\.path"):
        coco.open_coco(settings("coco"), "train")
    (tmp_path / "none").mkdir()
    coco_data.captions = str(tmp_path / "none")
    with pytest.raises(UserError, match=r"holds no captions_train2014\.json"):
        coco.open_coco(coco_data, "train")
    for text in ("{", "[]", '{"images": []}', '{"images": [3], "annotations": []}'):
        (tmp_path / "none" / "captions_train2014.json").write_text(text)
        with pytest.raises(UserError, match="is not a COCO captions file"):
            coco.open_coco(coco_data, "train")
