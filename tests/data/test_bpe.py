"""Byte-pair tokens: trained the same each time, whole texts back, special ids as of words."""

import json
import pickle

import numpy as np
import pytest
from support.benchmark_data import held

from jaxgen.data.text import bpe
from jaxgen.data.text.tokens import PAD, SPECIAL, START
from jaxgen.errors import UserError

TEXTS = [
    "a small red circle at the top", "a large blue square", "the café's naïve waiter",
    "a small blue circle below a large red square",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained() -> str:
    return bpe.train(TEXTS * 3, 300)


def test_first_ids_and_padding_are_those_of_words(trained):
    tokenizer = bpe.BPETokenizer(trained, 12)
    prompt = tokenizer.encode("a small red circle")
    assert prompt.words == ("a", "small", "red", "circle")
    assert prompt.tokens.dtype == np.int32
    assert prompt.tokens[0] == START
    np.testing.assert_array_equal(
        prompt.tokens[prompt.mask][1:], tokenizer.ids("a small red circle")
    )
    assert prompt.mask.sum() == 5
    assert set(prompt.tokens[~prompt.mask]) == {PAD}
    assert tokenizer.size == 300
    assert [json.loads(trained)["model"]["vocab"][name] for name in SPECIAL] == [0, 1, 2]


def test_any_text_is_read_whole_and_special_names_are_text(trained):
    tokenizer = bpe.BPETokenizer(trained, 200)
    for text in ("zebra 日本 🦓 <pad> <start>", "Ünïcode", "x" * 50):
        ids = tokenizer.ids(text)
        assert min(ids) >= len(SPECIAL)
        assert tokenizer._tokenizer.decode(ids).strip() == text.lower()
    # One form of composed letters, case and outer space do not matter.
    assert tokenizer.ids("CAFE\u0301 ") == tokenizer.ids("café")
    assert tokenizer.encode("").mask.sum() == 1


def test_long_texts_are_cut_and_say_so(trained):
    prompt = bpe.BPETokenizer(trained, 4).encode("a large blue square at the top")
    assert prompt.words == ("a", "large", "blue")
    assert "".join(prompt.cut) == "squareatthetop"
    assert prompt.mask.all()


def test_training_and_pickling_change_nothing(trained):
    assert bpe.train(TEXTS * 3, 300) == trained
    tokenizer = bpe.BPETokenizer(trained, 8)
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.ids("a <pad> red") == tokenizer.ids("a <pad> red")
    assert (copy.length, copy.size) == (8, 300)


@pytest.mark.parametrize("text", ["{}", "no json", '{"model": 3}'])
def test_what_is_no_tokenizer_is_refused(text):
    with pytest.raises(UserError, match=r"data\.tokenizer_json"):
        bpe.BPETokenizer(text, 8)


def test_a_tokenizer_with_other_first_ids_is_refused(trained):
    changed = trained.replace("<start>", "<bos>")
    with pytest.raises(UserError, match="first ids"):
        bpe.BPETokenizer(changed, 8)
    with pytest.raises(UserError, match="no captions"):
        bpe.train(["", " "], 300)


def test_real_captions(data_dir):
    folder = held(data_dir, "tirg/fashion_iq/captions")
    pairs = json.loads((folder / "cap.dress.train.json").read_text())
    texts = [text for pair in pairs for text in pair["captions"] if text.strip()]
    assert len(texts) > 11_000
    tokenizer = bpe.BPETokenizer(bpe.train(texts, 1024), 24)
    assert tokenizer.size == 1024
    lengths, words = [], 0
    for text in texts[:3000]:
        ids = tokenizer.ids(text)
        lengths.append(len(ids))
        words += len(text.split())
        assert tokenizer._tokenizer.decode(ids).strip() == text.strip().lower()
    # Most words are one piece, and hardly a caption is cut.
    assert 1 <= sum(lengths) / words < 1.25
    assert np.mean(np.array(lengths) > 23) < 0.01
