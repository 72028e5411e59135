"""Prompts of a diffusion model: weights on words, and more words than its encoder reads."""

import jax
import numpy as np
import pytest
from support.tiny_ldm import tiny_drawer, tiny_ldm_config, tiny_nets

from jaxgen.errors import UserError
from jaxgen.models.ldm.losses import LDMLosses

SHORT = "a large red circle"
LONG = " ".join([SHORT, "and a small blue square"] * 3)  # 27 words; the encoder reads 11
ASK = {"seed": 3, "steps": 2, "guidance": 2.0}


@pytest.fixture(scope="module")
def drawer():
    return tiny_drawer(tiny_ldm_config())


def test_weights_act_on_the_same_noise(drawer):
    plain = drawer(SHORT, **ASK)
    np.testing.assert_array_equal(drawer("a large (red:1) circle", **ASK), plain)
    found = drawer.read("a large (red:1.5) circle")
    assert found.words == tuple(SHORT.split())
    heavy = drawer("a large (red:8) circle", **ASK).astype(int)
    other = drawer("square", **ASK).astype(int)  # of noise of its own
    assert 0 < np.abs(heavy - plain).mean() < np.abs(other - plain).mean()


def test_a_long_prompt_is_read_to_its_end(drawer):
    assert drawer.read(LONG).cut == ()
    changed = LONG.rsplit(" ", 1)[0] + " circle"
    first, second = drawer(LONG, same_noise=True, **ASK), drawer(changed, same_noise=True, **ASK)
    assert (first != second).any()


@pytest.mark.parametrize("asked", [SHORT, LONG])
def test_a_negative_prompt_may_be_of_another_length(drawer, asked):
    plain = drawer(asked, **ASK)
    for negative in ("a green square", LONG + " green"):
        assert (drawer(asked, negative=negative, **ASK) != plain).any()


def test_texts_of_all_lengths_in_one_call(drawer):
    texts = [SHORT, LONG, "a blue square", ""]
    together = drawer(texts, n=2, **ASK)
    for text, pictures in zip(texts, together, strict=True):
        np.testing.assert_array_equal(drawer(text, n=2, **ASK), pictures)
    with pytest.raises(UserError, match="no way between"):
        drawer.between(SHORT, LONG, steps=3, seed=3, guidance=2.0)


def test_a_texts_one_vector_is_no_longer_for_a_long_text():
    config = tiny_ldm_config(model__sentence=True)
    condition, nets = LDMLosses(config).condition, tiny_nets(config)
    long, short = condition.read(LONG), condition.read(LONG[: LONG.index(" small")])
    whole, first = (
        condition.embed(nets["text"], p.tokens[None], p.mask[None]) for p in (long, short)
    )
    assert short.tokens.shape == condition.nothing.shape
    assert len(short.words) < len(condition.nothing) - 1  # so the first chunk of LONG holds more
    assert whole["label"].shape == first["label"].shape
    leveled = condition.level(nets["text"], whole, first)
    assert leveled[0]["context"].shape == leveled[1]["context"].shape
    np.testing.assert_array_equal(leveled[1]["label"], first["label"])
    assert leveled[1]["mask"].sum() == first["mask"].sum() + 2  # two starts


def test_chunks_are_read_apart():
    config = tiny_ldm_config()
    condition, nets = LDMLosses(config).condition, tiny_nets(config)
    long = condition.read(LONG)
    length = len(condition.nothing)
    chunks = len(long.tokens) // length
    assert chunks == 3
    embed = jax.jit(lambda tokens, mask: condition.embed(nets["text"], tokens, mask))
    whole = embed(long.tokens[None], long.mask[None])
    rows = (long.tokens.reshape(chunks, length), long.mask.reshape(chunks, length))
    apart = embed(*rows)
    width = apart["context"].shape[-1]
    np.testing.assert_allclose(whole["context"][0], apart["context"].reshape(-1, width), atol=1e-6)
    np.testing.assert_array_equal(whole["mask"][0], apart["mask"].reshape(-1))
