"""Prompt-to-Prompt's tables: the original's, equal to the golden arrays, and ours."""

import json

import numpy as np
import pytest
from support.diffusion import golden
from support.editing import golden_spelled

from jaxgen.data.text.clip_bpe import read_tokenizer
from jaxgen.edit import words
from jaxgen.edit.asked import read_pairs, read_spans, read_weights, within
from jaxgen.errors import UserError

LENGTH = 77


@pytest.fixture(scope="module")
def tables(fixtures_dir, data_dir):
    file = golden(fixtures_dir, "p2p_mappers")
    tokenizer = read_tokenizer(data_dir / "weights" / "bpe_simple_vocab_16e6.txt.gz")
    return file, json.loads(str(file["json"])), tokenizer


def pair_of(one, tokenizer):
    return [
        golden_spelled(one[name], tokenizer, one[f"{name}_ids"]) for name in ("source", "target")
    ]


def test_the_original_replaces_as_it_does(tables):
    file, said, tokenizer = tables
    for one, mapper in zip(said["replace"], file["replace_mapper"], strict=True):
        found = words.original_replacement(*pair_of(one, tokenizer), LENGTH)
        np.testing.assert_array_equal(found, mapper, err_msg=one["target"])


def test_the_original_refines_as_it_does(tables):
    file, said, _ = tables
    for kind, prefix in (("refine", "refine"), ("replace", "replace_pairs_refine")):
        for i, one in enumerate(said[kind]):
            mapper, taken = words.original_refinement(one["source_ids"], one["target_ids"], LENGTH)
            np.testing.assert_array_equal(mapper, file[f"{prefix}_mapper"][i], err_msg=str(one))
            np.testing.assert_array_equal(taken, file[f"{prefix}_alpha"][i], err_msg=str(one))


def test_the_original_needs_equally_many_words(tables):
    _, said, tokenizer = tables
    unequal = [one for one in said["refine"] if one["replacement_mapper"] == "ValueError"]
    assert unequal
    for one in unequal:
        with pytest.raises(UserError, match="replaces equally many alone"):
            words.original_replacement(*pair_of(one, tokenizer), LENGTH)


def test_words_are_found_where_the_original_finds_them(tables):
    _, said, tokenizer = tables
    for one in said["word_inds"]:
        spelled = golden_spelled(one["text"], tokenizer)
        assert spelled.of(one["word"]) == one["word_inds"], one
        if one.get("pos_inds"):
            assert list(spelled.places[one["by_pos"]]) == one["pos_inds"], one


def test_equalizers(tables):
    file, said, tokenizer = tables
    for one, theirs in zip(said["equalizer"], file["equalizer"], strict=True):
        spelled = golden_spelled(one["text"], tokenizer)
        named = one["words"] if isinstance(one["words"], list) else [one["words"]]
        named = [spelled.words[word] if isinstance(word, int) else word for word in named]
        given = dict(zip(named, one["values"], strict=True))
        if "zebra" in given:  # the original says nothing
            with pytest.raises(UserError, match="'zebra' is not in 'a photo'"):
                words.equalizer(spelled, given, LENGTH)
            continue
        np.testing.assert_array_equal(words.equalizer(spelled, given, LENGTH), theirs)


def test_times_of_words(tables):
    file, said, tokenizer = tables
    for i, one in enumerate(said["alpha"]):
        targets = [golden_spelled(text, tokenizer) for text in one["prompts"][1:]]
        bounds = one["cross_replace_steps"]
        bounds = bounds if isinstance(bounds, dict) else {"default_": bounds}
        spans = {
            "" if word == "default_" else word: tuple(x) if isinstance(x, list) else x
            for word, x in bounds.items()
            if word != "zebra"
        }
        rows = within(spans, targets, "replace")
        found = [
            words.replaced_when(target, row, one["num_steps"], LENGTH, original=True)
            for target, row in zip(targets, rows, strict=True)
        ]
        theirs = file[f"alpha_{i}"][:, :, 0, 0]
        np.testing.assert_array_equal(np.stack(found, axis=1), theirs, err_msg=str(one))


def test_ours_keeps_all_attention_where_the_original_loses_it(tables):
    """Rows sum to 1: each token of the source gives its attention once. The original's do not."""
    file, said, tokenizer = tables
    lost = 0
    for i, one in enumerate(said["replace"]):
        source, target = pair_of(one, tokenizer)
        mapper, taken = words.align(source, target, LENGTH)
        if len(source.words) == len(target.words) and "supercali" not in one["source"]:
            np.testing.assert_allclose(mapper.sum(axis=1), 1, atol=1e-6, err_msg=str(one))
            assert taken.min() == 1
        lost += np.abs(file["note_replace_rowsum"][i] - 1).max() > 0.5
    assert lost >= 2, "the golden arrays show what the original loses"


def test_ours_stays_aligned_after_a_word_of_another_length(tables):
    """What follows a changed word is matched with itself; in the original with its neighbour."""
    tokenizer = tables[2]
    source = golden_spelled("hamsters and tyrannosaurus on grass", tokenizer)
    target = golden_spelled("hamsters and dogs on grass", tokenizer)
    (grass_s,), (grass_t,) = source.places[-1:], target.places[-1:]
    assert grass_s != grass_t
    assert words.align(source, target, LENGTH)[0][grass_s[0], grass_t[0]] == 1
    assert words.original_replacement(source, target, LENGTH)[grass_s[0], grass_t[0]] == 0


def test_new_words_keep_their_own_maps(tables):
    tokenizer = tables[2]
    source = golden_spelled("a photo of a house", tokenizer)
    target = golden_spelled("a photo of a red house at night", tokenizer)
    mapper, taken = words.align(source, target, LENGTH)
    new = [at[0] for word, at in zip(target.words, target.places, strict=True)
           if word in ("red", "at", "night")]  # fmt: skip
    assert [int(i) for i in np.flatnonzero(taken == 0)] == new
    assert mapper[source.places[-1][0], target.find("house")[0]] == 1
    changed = golden_spelled("a photo of a castle", tokenizer)
    refined = words.refined(source, changed, *words.align(source, changed, LENGTH))
    assert [int(i) for i in np.flatnonzero(refined[1] == 0)] == changed.find("castle")


def test_a_target_of_fewer_or_more_tokens_conserves_the_end(tables):
    tokenizer = tables[2]
    long = golden_spelled("a hippopotamus eating a cheeseburger at the old harbour", tokenizer)
    short = golden_spelled("a cat", tokenizer)
    for one, other in ((long, short), (short, long)):
        mapper, _ = words.align(one, other, LENGTH)
        gone = [i for word, at in zip(one.words, one.places, strict=True)
                if word not in ("a", "cat", "hippopotamus") for i in at]  # fmt: skip
        kept = np.setdiff1d(np.arange(LENGTH), gone)
        assert (mapper.sum(axis=1)[kept] > 0.99).all()
        assert mapper.sum(axis=1).max() < 1.01


def test_what_users_write():
    assert read_spans(0.8, "replace") == {"": (0.0, 0.8)}
    assert read_spans("0.2-0.7,dog:0.4", "replace") == {"": (0.2, 0.7), "dog": (0.0, 0.4)}
    assert read_weights("dog:2.0, red:-1") == {"dog": 2.0, "red": -1.0}
    assert read_pairs("cat:dog,mat", "blend") == (["cat", "mat"], ["dog", "mat"])


@pytest.mark.parametrize(
    ("read", "says"),
    [
        (lambda: read_spans("1.2", "replace"), "replace=1.2: give shares"),
        (lambda: read_spans("0.7-0.2", "self"), "self=0.7-0.2: give shares"),
        (lambda: read_spans("dog", "replace"), "give shares"),
        (lambda: read_weights("dog"), "weight=dog: give WORD:NUMBER"),
        (lambda: read_weights("dog:nan"), "give WORD:NUMBER"),
        (lambda: read_pairs("cat:", "blend"), "blend=cat:: give SOURCE:TARGET"),
    ],
)
def test_what_cannot_be_read(read, says):
    with pytest.raises(UserError) as error:
        read()
    assert says in str(error.value)


def test_a_word_that_no_target_has():
    targets = [words.spell(["a", "dog"], [1, 1], ()), words.spell(["a", "cow"], [1, 1], ())]
    assert within({"dog": 1, "a": 2}, targets, "weight") == [{"dog": 1, "a": 2}, {"a": 2}]
    with pytest.raises(UserError, match=r"weight: the word 'dgo' is in no target; .*dog"):
        within({"dgo": 1}, targets, "weight")
