"""AttnGAN's text encoder: parity with its module, both ways, as a run's text encoder."""

import jax
import numpy as np
import pytest
from helpers import REPOSITORY
from support.conversion import assert_same_bits

from jaxgen import config as configs
from jaxgen import weights
from jaxgen.encoders import convert as encoders
from jaxgen.encoders import damsm
from jaxgen.errors import UserError
from jaxgen.nn.text import LSTMEncoder
from jaxgen.runs import convert as convert_models
from jaxgen.tasks.t2i import task as t2i
from jaxgen.weights.nets import open_nets


def published(words=50, embedding=20, hidden=12, seed=0):
    """A random state dict of RNN_ENCODER."""
    rng = np.random.default_rng(seed)
    shapes = {"encoder.weight": (words, embedding)}
    for end in ("", "_reverse"):
        shapes[f"rnn.weight_ih_l0{end}"] = (4 * hidden, embedding)
        shapes[f"rnn.weight_hh_l0{end}"] = (4 * hidden, hidden)
        shapes[f"rnn.bias_ih_l0{end}"] = shapes[f"rnn.bias_hh_l0{end}"] = (4 * hidden,)
    return {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}


def test_equals_the_original_on_texts_of_different_lengths(fixtures_dir):
    golden = np.load(fixtures_dir / "damsm_rnn.npz")
    state = {k.removeprefix("sd:"): golden[k] for k in golden.files if k.startswith("sd:")}
    kind, own = encoders.to_own(state)
    assert (kind.name, list(own)) == ("AttnGAN text encoder", ["text"])
    captions, lengths = golden["captions"], golden["lengths"]
    # Theirs begin at id 1, ours at 3.
    tokens = np.where(captions > 0, captions + 2, 0).astype(np.int32)
    mask = np.arange(captions.shape[1])[None] < lengths[:, None]
    module = LSTMEncoder(size=52, width=24, embedding=20)
    text = jax.jit(module.apply)(own["text"], tokens, mask)
    for ours, theirs in (
        (text.words, golden["words"].transpose(0, 2, 1)),
        (text.sentence, golden["sent"]),
    ):
        assert np.abs(np.asarray(ours) - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_there_and_back():
    state = published()
    own = encoders.to_own(state)[1]
    _, back = encoders.to_published(weights.flatten(own))
    for end in ("", "_reverse"):
        both = state[f"rnn.bias_ih_l0{end}"] + state[f"rnn.bias_hh_l0{end}"]
        state[f"rnn.bias_ih_l0{end}"] = both
        state[f"rnn.bias_hh_l0{end}"] = np.zeros_like(both)
    assert_same_bits(back, state)
    again = encoders.to_own(back)[1]
    assert_same_bits(weights.flatten(again), weights.flatten(own))


def test_new_words_are_neutral():
    table = published()["encoder.weight"]
    ours = damsm.from_torch(published())["params"]["tokens"]
    np.testing.assert_array_equal(ours[[0, *range(3, 52)]], table)
    assert not ours[1].any()
    np.testing.assert_allclose(ours[2], table[1:].mean(axis=0), rtol=1e-5, atol=1e-7)


def test_what_is_not_whole_or_another_network_is_refused():
    state = published()
    del state["rnn.bias_hh_l0"]
    with pytest.raises(
        UserError, match=r"4 missing: rnn\.bias_ih_l0\.f .*1 extra: rnn\.bias_ih_l0"
    ):
        damsm.from_torch(state)
    two_layers = {**published(), "rnn.weight_ih_l1": np.zeros((48, 24), np.float32)}
    assert encoders.kind_of(two_layers) is None
    gru = {k: v[:33] if k.startswith("rnn") else v for k, v in published().items()}
    assert encoders.kind_of(gru) is None


def test_converted_file_is_a_run_s_text_encoder(tmp_path):
    """As `train.init_from.text` reads it, for a config of the published vocabulary."""
    weights.write_tensors(tmp_path / "text_encoder.safetensors", published())
    said = convert_models.write_own(
        tmp_path / "text_encoder.safetensors", tmp_path / "t.safetensors"
    )
    assert "AttnGAN text encoder: text, 4,208 parameters" in said
    nets = open_nets(tmp_path / "t.safetensors", ("text",)).nets
    config = configs.load(f"{REPOSITORY}/configs/ssagan.py:tiny")
    config.data.vocabulary = tuple(f"word{i}" for i in range(49))
    config.model.text.update(
        kind="lstm", width=24, embedding=20, bidirectional=True, trained_by="none"
    )
    config.train.init_from.text = str(tmp_path / "t.safetensors")
    tokens = np.zeros((1, 4), np.int32)
    expected = jax.eval_shape(
        t2i.make_text_encoder(config).init, jax.random.key(0), tokens, tokens == 0
    )
    shapes = lambda tree: jax.tree.map(lambda a: (a.shape, np.dtype(a.dtype)), tree)  # noqa: E731
    assert shapes(nets["text"]) == shapes(expected)
    convert_models.write_torch(tmp_path / "t.safetensors", tmp_path / "back.safetensors")
    assert weights.read_tensors(tmp_path / "back.safetensors").keys() == published().keys()
