"""One form of Unicode in captions, prompts and names of files."""

import json
import unicodedata

import numpy as np
import pytest
from helpers import captioned_settings as settings
from PIL import Image

from jaxgen.data.captioned import coco
from jaxgen.data.captioned import folder as caption_files
from jaxgen.data.captioned.pictures import hold_out, shared_meanings
from jaxgen.data.captioned.rows import read_lines
from jaxgen.data.text import bpe, features
from jaxgen.data.text.tokens import UNKNOWN, WordTokenizer, complaint, split_words
from jaxgen.errors import UserError
from jaxgen.verbs.generate.files import read_prompts, stems

NFC, NFD = "café", "cafe\u0301"


def tokenizers(*texts):
    words = dict.fromkeys(word for text in texts for word in split_words(text))
    return [WordTokenizer(tuple(words), 12), bpe.BPETokenizer(bpe.train(texts, 400), 40)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("กิน กัน กน", ["กิน", "กัน", "กน"]),  # Thai vowels are signs above their letter
        ("हिन्दी, किताब", ["हिन्दी", ",", "किताब"]),
        ("क्\u200dष क्ष", ["क्ष", "क्ष"]),  # shapes of one word
        (f"{NFD}s {NFC}s", [f"{NFC}s", f"{NFC}s"]),
        ("\u1112\u1161\u11ab 한", ["한", "한"]),
        ("😀", ["😀"]),
        ("😀😀 a cat🚀", ["😀", "😀", "a", "cat", "🚀"]),
        ("👩🏽\u200d🚀 👩\u200d🚀", ["👩🏽\u200d🚀", "👩\u200d🚀"]),
        ("❤\ufe0f ❤", ["❤", "❤"]),
        ("🇦🇱🇩🇪 1\ufe0f\u20e3 #\ufe0f\u20e3", ["🇦🇱", "🇩🇪", "1\u20e3", "#\u20e3"]),
        ("the bird's “red” beak - 2½ of 3%", ["the", "bird's", "red", "beak", "2½", "of", "3"]),
        ("l’été Straße ÉTÉ", ["l’été", "straße", "été"]),
    ],
)
def test_words_of_every_script(text, words):
    assert split_words(text) == words
    assert WordTokenizer(tuple(dict.fromkeys(words)), 12).encode(text).words == tuple(words)


def test_words_that_are_known_keep_their_numbers():
    """As before marks belonged to letters: texts in one form, without marks and emoji."""
    import re

    before = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*|,")
    for text in (
        "A small red circle, above the large one.", "it’s l'été à la mer – № 5", "x_y 日本語 Ωμέγα",
        "3²",
        "can't wait-and-see 'quoted' --- ﬁne Ǆ ½", "赤い鳥、青い鳥", "большая птица!",
    ):  # fmt: skip
        assert split_words(text) == before.findall(text.lower())
    # A vocabulary made when words were not brought to NFC.
    old = ("\uf900", "e", "cafe")  # a compatibility form of 豈
    assert WordTokenizer(old, 4).ids("豈 \uf900 e cafe") == [3, 3, 4, 5]


def test_different_words_are_different_tokens_and_meanings():
    for tokenizer in tokenizers("กิน กัน กน", NFC):
        assert tokenizer.ids("กิน") != tokenizer.ids("กัน")
        assert tokenizer.ids(NFD) == tokenizer.ids(NFC)
    assert shared_meanings([["กิน"], ["กัน"], [NFC], [NFD], ["😀"], ["🚀"], ["😀!"]]) == [
        0, 1, 2, 2, 4, 5, 4,
    ]  # fmt: skip
    assert features.key(NFD) == features.key(NFC)


def test_an_emoji_alone_is_a_word_or_named():
    words, pieces = tokenizers("a red circle 😀")
    assert words.ids("😀") == [words.size - 1]
    assert words.ids("🚀") == [UNKNOWN]
    assert "does not know 🚀" in complaint(words.encode("🚀"))
    assert pieces.ids("🚀")
    assert pieces.ids("🚀") != pieces.ids("😀")


def test_half_a_pair_or_another_byte_is_one_line_for_every_tokenizer():
    for tokenizer in tokenizers("a b"):
        for text in ("a \ud83d b", "a \udce9 b"):  # the second as Python shows another byte
            for use in (tokenizer.encode, tokenizer.ids):
                with pytest.raises(UserError, match="half a surrogate pair, or a byte that is no"):
                    use(text)


def test_other_bytes_in_files_are_named_with_their_line(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_bytes(b"\xef\xbb\xbfa cat\n\xe9t\xe9\n")
    for read in (read_lines, read_prompts):
        with pytest.raises(UserError, match=r"texts\.txt, line 2: not UTF-8"):
            read(path)
    path.write_bytes(b"\xef\xbb\xbfa cat\n")
    assert list(read_lines(path)) == read_prompts(path) == ["a cat"]


def test_names_of_pictures_tell_prompts_apart():
    found = [stems([text])[0] for text in ("กิน", "กัน", "😀", "🚀", NFC, "It's a cat!")]
    assert found == ["กิน", "กัน", "😀", "🚀", NFC, "it_s_a_cat"]
    assert stems([NFD]) == stems([NFC])


# ---- names of files ------------------------------------------------------------------------------


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)


@pytest.mark.parametrize(("there", "said"), [(NFC, NFD), (NFD, NFC)])
@pytest.mark.parametrize("ending", [".png", ""])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_picture_is_found_in_the_other_form(tmp_path, there, said, ending, absolute):
    root = tmp_path / there
    picture(root / f"{there}.png")
    start = f"{unicodedata.normalize('NFC', str(root))}/" if absolute and ending else ""
    row = {"file": f"{start}{said}{ending}", "caption": f"a {NFD}"}
    (root / "captions.jsonl").write_text(json.dumps(row))
    records = caption_files.open_records(settings(path=str(root)), "train")
    assert list(records.captions()) == [(f"a {NFC}",)]
    assert records[0]["_name"] == f"{there}.png"


def test_a_text_beside_its_picture_in_the_other_form(tmp_path):
    picture(tmp_path / f"{NFD}.png")
    (tmp_path / f"{NFC}.txt").write_text("one")
    records = caption_files.open_records(settings(path=str(tmp_path)), "train")
    assert list(records.captions()) == [("one",)]


def test_held_out_are_the_same_in_both_forms_and_bytes_are_names():
    names = [f"{i}é.png" for i in range(20)]
    other = [unicodedata.normalize("NFD", name) for name in names]
    assert {unicodedata.normalize("NFC", n) for n in hold_out(other, 0.3)} == hold_out(names, 0.3)
    assert len(hold_out(["a\udce9.png", "b.png"], 0.5)) == 1


def test_coco_names_and_captions(tmp_path):
    picture(tmp_path / "train2014" / f"{NFD}.png")
    content = {
        "images": [{"id": 1, "file_name": f"{NFC}.png"}],
        "annotations": [{"image_id": 1, "caption": f"a {NFD}"}],
    }
    file = tmp_path / "captions_train2014.json"
    file.write_text(json.dumps(content))
    data = settings("coco", path=str(tmp_path), captions=str(tmp_path))
    assert list(coco.open_records(data, "train").captions()) == [(f"a {NFC}",)]
    content["annotations"][0]["caption"] = "x\ud83d"
    file.write_text(json.dumps(content))
    with pytest.raises(
        UserError, match=r"train2014\.json, a caption of picture 1: half a surrogate"
    ):
        coco.open_records(data, "train")
