"""Captions from files: a user's own folder, COCO's JSON."""

import json

import numpy as np
import pytest
from helpers import captioned_settings as settings
from helpers import said
from support.benchmark_data import held
from support.caption_files import opened, picture

from jaxgen.data.captioned import coco
from jaxgen.data.captioned import folder as caption_files
from jaxgen.data.captioned.pictures import fit, hold_out, shared_meanings
from jaxgen.errors import UserError


@pytest.fixture
def pictures(tmp_path):
    """a.png ... d.png; d in a folder below."""
    for level, name in enumerate(("a.png", "b.png", "c.png", "sub/d.png")):
        picture(tmp_path / name, 40 * level)
    return tmp_path


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
    records = caption_files.open_records(settings(path=str(pictures)), "train")
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


def test_what_spreadsheets_leave_is_no_fault(pictures):
    """Empty rows and columns, also before the header, a byte order mark, and long captions."""
    long = "word " * 40_000
    (pictures / "captions.csv").write_text(
        f"\n,,,\nfile,caption,\na.png,one,,,\n, , ,\n,,,\nb.png,{long},\n\n",
        encoding="utf-8-sig",
    )
    found = opened(pictures)
    assert {name: texts for name, (texts, _) in found.items()} == {
        "a.png": ("one",),
        "b.png": (long.strip(),),
    }


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


@pytest.mark.parametrize(("first", "second"), [("a.png", "./a.png"), ("a", "sub/../a.png")])
def test_one_picture_in_training_and_validation_is_an_error(pictures, first, second):
    with (pictures / "captions.jsonl").open("w") as file:
        for name, split in ((first, "train"), (second, "val")):
            file.write(json.dumps({"file": name, "caption": "x", "split": split}) + "\n")
    with pytest.raises(UserError, match=r"line 2: .*a\.png is of validation, and of train above"):
        opened(pictures)


def test_a_captions_file_in_each_folder_below(pictures):
    """As the library `datasets` has them: train/metadata.jsonl, test/metadata.jsonl."""
    for part, name in (("train", "e"), ("test", "f")):
        picture(pictures / part / f"{name}.png")
        row = {"file_name": f"{name}.png", "text": part}
        (pictures / part / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    assert {n: texts for n, (texts, _) in opened(pictures).items()} == {"train/e.png": ("train",)}
    held = opened(pictures, "validation")
    assert {n: texts for n, (texts, _) in held.items()} == {"test/f.png": ("test",)}
    # Of folders with other names each is read, and the pictures are held out as ever.
    (pictures / "test").rename(pictures / "more")
    assert set(opened(pictures, holdout=0.0)) == {"train/e.png", "more/f.png"}


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
        ("captions.csv", b'file,caption\na.png,"red\n', r"line 2: not CSV"),
        ("captions.csv", b'file,caption\na.png,"x\ny"\nb.png,"red\n\n\n', r"line 4: not CSV"),
        ("captions.csv", b'file,caption\na.png,"x\ny"\nb.png,"x\ny",z\n', r"line 4: more fields"),
        ("captions.csv", b"\r\rfile,caption\ra.png,red, round\r", r"line 4: more fields"),
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
        caption_files.open_records(settings(), "train")
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
    records = caption_files.open_records(settings(path=str(pictures)), "train")
    assert len(records) == 2
    assert records[0]["_captions"] == ("b",)
    assert int(records[0]["image"].mean()) == 40


def test_fitting_keeps_the_shape():
    image = np.zeros((30, 20, 3), np.uint8)
    assert fit(image, 20) is image
    assert fit(image, 8).shape == (12, 8, 3)
    assert fit(image[:10], 16).shape == (16, 32, 3)


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
        train = coco.open_records(coco_data, "train")
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
    held = coco.open_records(coco_data, "validation")
    assert [held[0]["meaning"], len(held)] == [42, 1]
    coco_data.on_bad = "error"
    with pytest.raises(UserError, match=r"are not in .*000030"):
        coco.open_records(coco_data, "train")


def test_coco_mistakes(coco_data, tmp_path):
    with pytest.raises(UserError, match=r"needs data\.path"):
        coco.open_records(settings("coco"), "train")
    (tmp_path / "none").mkdir()
    coco_data.captions = str(tmp_path / "none")
    with pytest.raises(UserError, match=r"holds no captions_train2014\.json"):
        coco.open_records(coco_data, "train")
    for text in ("{", "[]", '{"images": []}', '{"images": [3], "annotations": []}'):
        (tmp_path / "none" / "captions_train2014.json").write_text(text)
        with pytest.raises(UserError, match="is not a COCO captions file"):
            coco.open_records(coco_data, "train")


def test_coco_pictures_of_one_name_are_refused(coco_data, tmp_path):
    path = tmp_path / "annotations" / "captions_train2014.json"
    content = json.loads(path.read_text())
    content["images"].append({"id": 77, "file_name": content["images"][0]["file_name"]})
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"pictures 9 and 77 are both called 'COCO_train2014_0+9"):
        coco.open_records(coco_data, "train")


def test_coco_pictures_of_both_parts_in_one_folder(coco_data, tmp_path):
    """One picture in training and validation is an error; where each part has its folder, none."""
    for part in ("train2014", "val2014"):
        for path in (tmp_path / part).iterdir():
            path.rename(tmp_path / path.name)
        (tmp_path / part).rmdir()
    assert len(coco.open_records(coco_data, "train")) == 3
    path = tmp_path / "annotations" / "captions_val2014.json"
    content = json.loads(path.read_text())
    content["images"].append({"id": 9, "file_name": f"COCO_train2014_{9:012d}.png"})
    path.write_text(json.dumps(content))
    for split in ("train", "validation"):
        with pytest.raises(UserError, match=r"1 pictures are of .*2014 and of .*: COCO_train2014_"):
            coco.open_records(coco_data, split)


def test_coco_with_a_byte_order_mark(coco_data, tmp_path):
    for path in (tmp_path / "annotations").iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(coco.open_records(coco_data, "train")) == 3


def test_coco_file_that_failed_elsewhere(data_dir):
    case = held(data_dir, "cases/captions/coco_bom/captions_train2014.json")
    files, captions = coco.read_captions(case)
    assert files
    assert captions.keys() <= files.keys()


def test_a_name_that_no_file_can_have_is_of_a_missing_picture(pictures):
    lines = ['{"file": "a.png", "caption": "black"}', '{"file": "a\\u0000.png", "caption": "no"}']
    (pictures / "captions.jsonl").write_text("\n".join(lines))
    assert list(opened(pictures)) == ["a.png"]
