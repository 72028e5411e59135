"""CLIP's tokenizer against golden prompts and a second implementation of it."""

import functools
import gzip
import html
import itertools
import json
import pickle
import random
import re
import unicodedata

import numpy as np
import pytest
from support.benchmark_data import held

from jaxgen.data.text import clip_bpe
from jaxgen.data.text.clip_bpe import CLIPTokenizer, read_tokenizer
from jaxgen.data.text.tokens import complaint
from jaxgen.errors import UserError

NAME = "bpe_simple_vocab_16e6.txt.gz"


@pytest.fixture(scope="module")
def vocabulary(data_dir):
    return held(data_dir, f"weights/{NAME}")


@pytest.fixture(scope="module")
def tokenizer(vocabulary):
    return read_tokenizer(vocabulary)


def test_golden_prompts(tokenizer, fixtures_dir):
    golden = json.loads((fixtures_dir / "clip_bpe_golden.json").read_text())
    typed = "<|endoftext|>"
    assert any(typed in text for text in golden)
    for text, ids in golden.items():
        if typed in text:  # which ends a text in the original
            assert ids[-1] == tokenizer.end
            ids = ids[:-1] + tokenizer.ids(typed)
        assert tokenizer.ids(text) == ids, text


def test_prompt_has_start_end_and_padding(tokenizer):
    prompt = tokenizer.encode("A dog")
    assert prompt.tokens.tolist() == [49406, 320, 1929, 49407] + 73 * [0]
    assert prompt.tokens.dtype == np.int32
    assert prompt.mask.sum() == 4
    assert prompt.words == ("a", "dog")
    assert tokenizer.size == 49408
    empty = tokenizer.encode("")
    assert empty.tokens[:3].tolist() == [49406, 49407, 0]


def test_specials_that_a_user_types_are_text(tokenizer):
    prompt = tokenizer.encode("one <|endoftext|> two <|startoftext|> three")
    ids = prompt.tokens[prompt.mask].tolist()
    assert ids.count(tokenizer.end) == ids.count(tokenizer.start) == 1
    assert ids[-1] == tokenizer.end
    assert "".join(prompt.words[1:]).startswith("<|endoftext|>two")


def test_what_does_not_fit_is_said(tokenizer):
    prompt = tokenizer.encode("red " * 80)
    assert prompt.tokens[-1] == tokenizer.end
    assert prompt.mask.all()
    assert len(prompt.words) == 75
    assert prompt.cut == ("red",) * 5
    assert "too long" in complaint(prompt)


def test_readable_pieces(tokenizer):
    assert "".join(tokenizer.encode("caf\u00e9 \u4f60").words).startswith("caf\u00e9")


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("it\u2019s \u201cfine\u201d", 'it\'s "fine"'),
        ("&amp;amp; &lt;3", "& <3"),
        ("e\u0301te\u0301", "\u00e9t\u00e9"),
        ("\ufb01ne \uff21\uff22", "fine ab"),
        ("\u0149 \u01f1", "'n dz"),
        ("a\x7fb\x00", "ab"),
        (" a \t\n b\u00a0c\u3000d ", "a b c d"),
    ],
)
def test_spellings_that_are_one(tokenizer, text, same):
    assert tokenizer.ids(text) == tokenizer.ids(same)


def test_pickled(tokenizer):
    again = pickle.loads(pickle.dumps(tokenizer))
    np.testing.assert_array_equal(again.encode("a cat").tokens, tokenizer.encode("a cat").tokens)


# ----------------------------------------------------------------------------------------- oracle


class Plain:
    """The published algorithm in plain Python, by Unicode's categories."""

    def __init__(self, path):
        lines = gzip.decompress(path.read_bytes()).decode().split("\n")[1:48895]
        merges = [tuple(line.split()) for line in lines]
        signs = [*range(33, 127), *range(161, 173), *range(174, 256)]
        rest = [b for b in range(256) if b not in signs]
        self.sign = {b: chr(b) for b in signs} | {b: chr(256 + i) for i, b in enumerate(rest)}
        pieces = list(self.sign.values())
        pieces += [p + "</w>" for p in pieces]
        pieces += ["".join(m) for m in merges]
        self.ids_of = {p: i for i, p in enumerate(pieces)}
        self.rank = {m: i for i, m in enumerate(merges)}
        self.merge = functools.cache(self._merge)

    def ids(self, text):
        return [i for word in self.words(text.lower()) for i in self.merge(word)]

    @staticmethod
    def words(text):
        kind = lambda c: "s" if c.isspace() else unicodedata.category(c)[0]  # noqa: E731
        at = 0
        while at < len(text):
            end = re.compile(r"'(?:s|t|re|ve|m|ll|d)").match(text, at)
            if end:
                yield end[0]
                at = end.end()
                continue
            first = kind(text[at])
            stop = at + 1
            if first == "L":
                while stop < len(text) and kind(text[stop]) == "L":
                    stop += 1
            elif first not in "Ns":
                while stop < len(text) and kind(text[stop]) not in "LNs":
                    stop += 1
            if first != "s":
                yield text[at:stop]
            at = stop

    def _merge(self, word):
        parts = [self.sign[b] for b in word.encode()]
        parts[-1] += "</w>"
        while len(parts) > 1:
            pairs = list(itertools.pairwise(parts))
            best = min(pairs, key=lambda p: self.rank.get(p, 10**9))
            if best not in self.rank:
                break
            joined, i = [], 0
            while i < len(parts):
                if tuple(parts[i : i + 2]) == best:
                    joined.append(parts[i] + parts[i + 1])
                    i += 2
                else:
                    joined.append(parts[i])
                    i += 1
            parts = joined
        return [self.ids_of[p] for p in parts]


def fuzzed(count):
    """Texts of words, signs, letters of many scripts, and any characters."""
    draw = random.Random(7)
    words = [
        "the",
        "a",
        "painting",
        "of",
        "naïve",
        "straße",
        "dog's",
        "I'll",
        "they've",
        "3.14",
        "2024",
        "(see)",
        "hello_world",
        "x²",
    ]
    ranges = [(0x20, 0x7F), (0xA1, 0x24F), (0x370, 0x3FF), (0x400, 0x4FF), (0x5D0, 0x5EA),
              (0x620, 0x64A), (0x900, 0x97F), (0x3041, 0x30FF), (0x4E00, 0x9FFF),
              (0x1F300, 0x1F6FF), (0x2000, 0x2BFF)]  # fmt: skip
    for _ in range(count):
        parts = []
        for _ in range(draw.randint(1, 8)):
            if draw.random() < 0.4:
                parts.append(draw.choice(words))
            else:
                low, high = draw.choice(ranges)
                size = draw.randint(1, 5)
                parts.append("".join(chr(draw.randint(low, high)) for _ in range(size)))
        yield draw.choice(["", " "]).join(parts)


def test_fuzzed_texts_equal_the_plain_algorithm(vocabulary, tokenizer):
    plain = Plain(vocabulary)
    for text in fuzzed(2000):
        text = html.unescape(text)
        # Both sides know unassigned characters by tables of their own versions.
        text = "".join(c for c in text if unicodedata.category(c) != "Cn")
        cleaned = clip_bpe.clean(text)
        assert tokenizer.ids(text) == plain.ids(cleaned), repr(text)


# ---------------------------------------------------------------------------------- files


def hugging_face(tokenizer, folder, kind):
    model = json.loads(tokenizer._tokenizer.to_str())["model"]
    merges = [" ".join(m) if isinstance(m, list) else m for m in model["merges"]]
    if kind == "tokenizer.json":
        special = {clip_bpe.START: 49406, clip_bpe.END: 49407}
        vocabulary = {k: v for k, v in model["vocab"].items() if k not in special}
        added = [{"content": k, "id": v} for k, v in special.items()]
        said = {"model": {"vocab": vocabulary, "merges": model["merges"]}, "added_tokens": added}
        (folder / kind).write_text(json.dumps(said))
    else:
        (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    return folder


@pytest.mark.parametrize("kind", ["tokenizer.json", "vocab.json"])
def test_files_of_hugging_face_read_alike(tokenizer, tmp_path, kind):
    again = read_tokenizer(hugging_face(tokenizer, tmp_path, kind))
    for text in ("a dog", "naïve café &amp; 你好 🎨", "it's 1,234.5€"):
        np.testing.assert_array_equal(again.encode(text).tokens, tokenizer.encode(text).tokens)
    assert again.size == 49408


def test_a_small_vocabulary_of_hugging_face():
    letters = {sign: i for i, sign in enumerate(clip_bpe._letters())}
    pieces = {**letters, **{k + "</w>": 256 + i for k, i in letters.items()}, "ab</w>": 512,
              clip_bpe.START: 513, clip_bpe.END: 514}  # fmt: skip
    small = CLIPTokenizer(pieces, [("a", "b</w>")], length=5)
    assert small.encode("ab b").tokens.tolist() == [513, 512, pieces["b</w>"], 514, 0]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 0.999])
def test_a_truncated_file_is_one_line(vocabulary, tmp_path, share):
    data = vocabulary.read_bytes()
    (tmp_path / NAME).write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match="truncated") as error:
        read_tokenizer(tmp_path)
    assert "\n" not in str(error.value)


def test_other_mistakes_are_one_line(vocabulary, tokenizer, tmp_path):
    with pytest.raises(UserError, match="does not exist; give bpe_simple"):
        read_tokenizer(tmp_path / "absent.txt.gz")
    with pytest.raises(UserError, match="has none of"):
        read_tokenizer(tmp_path)
    lines = gzip.decompress(vocabulary.read_bytes()).decode().split("\n")
    (tmp_path / "short.txt").write_text("\n".join(lines[:1000]))
    with pytest.raises(UserError, match=r"999 merges where CLIP's has 48,894"):
        read_tokenizer(tmp_path / "short.txt")
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(UserError, match=r"merges\.txt must be beside it"):
        read_tokenizer(tmp_path)
    (tmp_path / "merges.txt").write_text("#version\n")
    with pytest.raises(UserError, match="it is not CLIP's"):
        read_tokenizer(tmp_path)
    (tmp_path / "merges.txt").write_text("#version\na b c\n")
    with pytest.raises(UserError, match="no vocabulary of CLIP's"):
        read_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(UserError, match="no vocabulary of CLIP's"):
        read_tokenizer(tmp_path)
    with pytest.raises(UserError, match="half a surrogate pair"):
        tokenizer.encode("\ud800")
