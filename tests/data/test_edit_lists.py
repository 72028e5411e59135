"""Published lists of edits: their forms, masks, and what is wrong in them in one line."""

import json

import numpy as np
import pytest

from jaxgen.data.edit_lists import PIE, TED, mask_of, read_edit_list
from jaxgen.errors import UserError

ENTRY = {
    "image_path": "1_change_object_80/1.jpg", "original_prompt": "a [cat] sits",
    "editing_prompt": "a [dog] sits", "editing_instruction": "make it a dog",
    "editing_type_id": "1", "blended_word": "cat dog", "mask": [9, 2],
}  # fmt: skip


def written(folder, name, value):
    (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))
    return folder / name


def test_pie_bench(tmp_path):
    more = {**ENTRY, "editing_type_id": 0, "blended_word": "", "mask": None}
    path = written(tmp_path, "mapping_file.json", {"000000000001": ENTRY, "2": more})
    for given in (tmp_path, path):
        found = read_edit_list(given)
        assert found.kind == PIE
        first, second = found.cases
        assert first.picture == tmp_path / "annotation_images/1_change_object_80/1.jpg"
        assert (first.name, first.source, first.target) == (
            "000000000001", "a cat sits", "a dog sits",
        )  # fmt: skip
        assert (first.instruction, first.type) == ("make it a dog", "1")
        assert (first.blended, first.mask) == (("cat", "dog"), (9, 2))
        assert (second.type, second.blended, second.mask) == ("0", None, None)


def test_tedbench(tmp_path):
    (tmp_path / "b.png").touch()
    said = [
        {"img_name": "a.jpeg", "target_text": "A photo of a sitting dog."},
        {"img_name": "b.png", "target_text": "A cracked egg."},
    ]
    written(tmp_path, "input_list.json", said)
    found = read_edit_list(tmp_path)
    assert found.kind == TED
    assert [case.name for case in found.cases] == ["000", "001"]
    # In the folder of the published form, or beside the list.
    assert [case.picture for case in found.cases] == [
        tmp_path / "originals/a.jpeg", tmp_path / "b.png",
    ]  # fmt: skip
    assert found.cases[1].target == "A cracked egg."
    assert found.cases[1].source == ""


def test_masks_are_decoded_as_published():
    mask = mask_of((15, 3, 45, 100), 6, 8)
    wanted = np.zeros((6, 8), bool)
    wanted[1, 7] = wanted[2, :2] = wanted[5, 5:] = True
    inner = np.s_[1:-1, 1:-1]
    np.testing.assert_array_equal(mask[inner], wanted[inner])
    border = np.ones_like(mask)
    border[inner] = False
    assert mask[border].all()
    assert mask_of((), 6, 8).sum() == border.sum()
    with pytest.raises(UserError, match="the mask is of a larger picture than 8x6"):
        mask_of((48, 1), 6, 8)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("mapping_file.json", "{", "line 1: no JSON; fetch the list again"),
        ("mapping_file.json", {}, "it holds no entries"),
        ("mapping_file.json", "3", "is no list of edits"),
        ("mapping_file.json", {"a": 3}, "entry a: it is no object with image_path"),
        ("mapping_file.json", {"a": {"image_path": "x"}}, "entry a: it has no text original_pro"),
        ("mapping_file.json", {"../a": ENTRY}, "its name is none of a file"),
        ("mapping_file.json", {"a": {**ENTRY, "mask": [1]}}, "entry a: its mask is no list of"),
        ("mapping_file.json", {"a": {**ENTRY, "mask": "1 2"}}, "entry a: its mask is no list of"),
        ("input_list.json", [{"img_name": "x"}], "entry 0: it has no text target_text"),
        ("other.json", [], "holds neither mapping_file.json nor input_list.json"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, name, value, says):
    written(tmp_path, name, value)
    with pytest.raises(UserError) as error:
        read_edit_list(tmp_path)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_both_lists_in_one_folder(tmp_path):
    written(tmp_path, "input_list.json", [])
    written(tmp_path, "mapping_file.json", {})
    with pytest.raises(UserError, match="the lists of both TEdBench and PIE-Bench: give the"):
        read_edit_list(tmp_path)
