"""Stable Diffusion's text towers: counts, and parity with transformers in every hidden state."""

import jax
import numpy as np
import pytest
from support.diffusion import assert_near, golden, state_dict

from jaxgen import weights
from jaxgen.encoders.clip.text import TextTower
from jaxgen.encoders.clip.text_keys import hf_text_rules, join_hf

TINY = {
    "sd_clip_text_tiny": TextTower(49408, 77, 32, 2, 4),
    "sd2_clip_text_tiny": TextTower(49408, 77, 32, 3, 2, "gelu", mlp=96),
}


def shapes(net):
    return jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 77), "int32"))


def test_published_count():
    params = shapes(TextTower(49408, 77, 768, 12, 12))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 123_060_480


@pytest.mark.parametrize("name", TINY)
def test_equals_transformers(fixtures_dir, name):
    """Embeddings first, then each block; last and penultimate with the final norm; the first end's
    feature."""
    file, net = golden(fixtures_dir, name), TINY[name]
    tensors = {f"text_model.{key}": value for key, value in state_dict(file).items()}
    variables = weights.convert(
        join_hf(tensors), hf_text_rules("text_model.", "params"), shapes(net)
    )
    ids = file["ids"].astype(np.int32)

    @jax.jit
    def run(ids):
        states = [net.apply(variables, ids, i, False) for i in range(net.layers + 1)]
        return states, net.apply(variables, ids), net.apply(variables, ids, net.layers - 1)

    states, last, penultimate = run(ids)
    most = max(1e-5, 10 * float(file["f64_rel"]))
    for ours, theirs in zip(states, file["hidden_states"], strict=True):
        assert_near(ours, theirs, most)
    assert_near(last, file["last_hidden_state"], most)
    assert_near(penultimate, file["penultimate_ln"], most)
    ends = (ids == 49407).argmax(axis=1)
    assert_near(np.asarray(last)[np.arange(len(ids)), ends], file["pooled"], most)
