"""Prompts with weights and long prompts: what is read of them, chunks, features."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.data.text import weighted
from jaxgen.data.text.tokens import PAD, START, WordTokenizer
from jaxgen.data.text.weighted import Frame, Piece
from jaxgen.errors import UserError

CLIP = Frame(length=77, start=49406, end=49407, pad=49407)


@pytest.mark.parametrize(
    ("prompt", "pieces"),
    [
        ("a red fox", [("a red fox", 1)]),
        ("a (red) fox", [("a ", 1), ("red", 1.1), (" fox", 1)]),
        ("a ((red)) fox", [("a ", 1), ("red", 1.21), (" fox", 1)]),
        ("a [red] fox", [("a ", 1), ("red", 1 / 1.1), (" fox", 1)]),
        ("a (red:1.3) fox", [("a ", 1), ("red", 1.3), (" fox", 1)]),
        ("(a (red:1.5) fox:1.2)", [("a ", 1.2), ("red", 1.8), (" fox", 1.2)]),
        ("(a [red] fox)", [("a ", 1.1), ("red", 1), (" fox", 1.1)]),
        (r"a \(red\) fox", [("a (red) fox", 1)]),
        (r"(a\): b:1.5)", [("a): b", 1.5)]),
        (r"a\b \\ c", [(r"a\b \ c", 1)]),
        ("sad :( face", [("sad :( face", 1)]),
        ("a) (b", [("a) (b", 1)]),
        ("([a)", [("[a", 1.1)]),
        ("(a:b)", [("a:b", 1.1)]),
        ("(12:30)", UserError),
        ("(red:0)", [("red", 0)]),
        ("(red: 0.5 )", [("red", 0.5)]),
        ("(red:.5)", [("red", 0.5)]),
        ("()", []),
        ("", []),
    ],
)
def test_what_is_read(prompt, pieces):
    if pieces is UserError:
        with pytest.raises(UserError, match="weight is from 0 to 10"):
            weighted.parse(prompt)
        return
    found = weighted.parse(prompt)
    assert [p.text for p in found] == [p[0] for p in pieces]
    np.testing.assert_allclose([p.weight for p in found], [p[1] for p in pieces])


@given(st.text(alphabet="ab ()[]:1.\\", max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_prompt_is_read_or_refused(prompt):
    try:
        found = weighted.parse(prompt)
    except UserError:
        return
    assert all(piece.text and np.isfinite(piece.weight) for piece in found)
    letters = [c for c in prompt if c in "ab"]
    assert [c for piece in found for c in piece.text if c in "ab"] == letters


def test_deep_nesting():
    found = weighted.parse("(" * 2000 + "a" + ")" * 7)
    assert found[-1].weight == pytest.approx(1.1**7)


@pytest.mark.parametrize("words", [0, 1, 74, 75, 76, 150, 200])
def test_chunks_hold_every_word(words):
    pieces = [Piece(" ".join(str(i) for i in range(words)), 1.3)] if words else []
    tokens, weights = weighted.cut(pieces, lambda text: [int(w) for w in text.split()], CLIP)
    assert tokens.shape == weights.shape == (max(1, -(-words // 75)), 77)
    assert (tokens[:, 0] == CLIP.start).all()
    inside = (tokens != CLIP.start) & (tokens != CLIP.end)
    np.testing.assert_array_equal(tokens[inside], np.arange(words))
    assert (tokens == CLIP.end).any(axis=1).all()
    np.testing.assert_allclose(weights[inside], 1.3, rtol=1e-6)
    # A start and an end for each chunk; the others fill it up.
    assert (weights == 1).sum() == 2 * len(tokens)
    assert (weights[~inside] <= 1).all()


def test_an_encoder_without_an_end():
    frame = Frame(length=4, start=1, end=None, pad=0)
    tokens, _ = weighted.cut([Piece("5 6 7 8", 1.0)], lambda t: [int(w) for w in t.split()], frame)
    np.testing.assert_array_equal(tokens, [[1, 5, 6, 7], [1, 8, 0, 0]])


def test_reader():
    tokenizer = WordTokenizer(("a", "red", "fox", "runs"), length=4)
    read = weighted.reader(tokenizer, Frame(length=4, start=START, end=None, pad=PAD))
    plain, words = read("a red fox"), tokenizer.encode("a red fox")
    np.testing.assert_array_equal(plain.tokens, words.tokens)
    np.testing.assert_array_equal(plain.mask, words.mask)
    assert plain.words == words.words
    long = read("a (red:0.5) fox runs (blue:0)")
    assert long.words == ("a", "red", "fox", "runs", "blue")
    assert long.cut == ()
    assert long.tokens.shape == (8,)
    np.testing.assert_allclose(long.mask, [1, 1, 0.5, 1, 1, 1, 1e-6, 0])
    assert read("(a:1.5) (xyz)").unknown == {"xyz": ()}
    assert len(read("").tokens) == 4


@pytest.mark.parametrize("numbers", [np, jnp], ids=["numpy", "jax"])
def test_weights_on_features_keep_each_chunks_mean(numbers):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((2, 5, 3)).astype(np.float32) + 0.5
    weights = np.ones((2, 5), np.float32)
    same = weighted.weigh(numbers.asarray(features), numbers.asarray(weights))
    np.testing.assert_array_equal(np.asarray(same), features)
    weights[0, 2] = 1.5
    found = np.asarray(weighted.weigh(numbers.asarray(features), numbers.asarray(weights)))
    np.testing.assert_array_equal(found[1], features[1])
    weights[0, 4] = 0  # of what fills up
    again = np.asarray(weighted.weigh(numbers.asarray(features), numbers.asarray(weights)))
    np.testing.assert_array_equal(again, found)
    assert found[0].mean() == pytest.approx(features[0].mean(), rel=1e-5)
    ratio = found[0] / features[0]
    np.testing.assert_allclose(ratio[2] / ratio[0], 1.5, rtol=1e-5)
