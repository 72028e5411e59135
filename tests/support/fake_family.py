"""A text-to-image family that costs nothing: colour fields, with two masks or none, for tests."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxgen.data.text.tokens import WordTokenizer
from jaxgen.runs import model as run
from jaxgen.verbs.generate.contract import TRUNCATION, Generate

FAMILY = "daubs"
SIZE = 16
WORDS = ("a", "large", "red", "blue", "circle", "square")


def make_verb(config):
    tokenizer = WordTokenizer(WORDS, 6)

    def embed(nets, tokens, mask):
        words = jnp.take(nets["text"]["params"]["table"], tokens, axis=0) * mask[..., None]
        return {"words": words, "mask": mask, "sentence": words.sum(axis=1)}

    def draw(nets, text, z, given):
        params = nets["g"]["params"]
        x = z @ params["noise"] + text["sentence"] @ params["text"]
        x = jnp.tanh(x).reshape(-1, SIZE, SIZE, 3)
        masks = (jax.nn.sigmoid(x[:, ::4, ::4, 0]), jax.nn.sigmoid(x[..., 1]))
        return x, masks if config.model.masks else ()

    options = {"truncation": TRUNCATION}
    return Generate(("text", "g"), SIZE, (4,), tokenizer.encode, embed, draw, options)


@pytest.fixture
def daubs_family(monkeypatch, tmp_path):
    module = types.ModuleType(f"jaxgen.models.{FAMILY}")
    module.verbs = lambda config: {"generate": make_verb(config)}
    module.resolve = lambda config: config
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / ".cache"))


def daubs(masks=False, name="daubs"):
    rng = np.random.default_rng(0)
    pixels = SIZE * SIZE * 3
    arrays = {
        "table": rng.normal(0, 1, (3 + len(WORDS), 8)),
        "noise": rng.normal(0, 0.2, (4, pixels)),
        "text": rng.normal(0, 0.2, (8, pixels)),
    }
    arrays = {key: value.astype(np.float32) for key, value in arrays.items()}
    nets = {
        "text": {"params": {"table": arrays["table"]}},
        "g": {"params": {"noise": arrays["noise"], "text": arrays["text"]}},
        "d": {"params": {"unused": np.zeros(3)}},
    }
    config = ConfigDict(
        {"family": FAMILY, "data": {"source": "shapes"}, "model": {"masks": masks}, "train": {}}
    )
    config.train.dtype = "float32"
    offered = {"generate": make_verb(config)}
    return run.Model(
        name, config, nets, step=9, metrics={"colour": 0.9375, "whole": 0.875}, verbs=offered
    )
