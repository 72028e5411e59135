"""Two toy families, of which the second is made of a trained model of the first.

"hues" learns a colour (net decoder, and a critic that nobody uses). "daubs_on" draws noise on that
colour: net g is its own, the decoder comes with `parts.first_stage`.
"""

import importlib.machinery
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import config as configs
from jaxgen.data.text.tokens import WordTokenizer
from jaxgen.task import Evaluation, Phase, Task
from jaxgen.verbs.generate.contract import Generate
from jaxgen.weights import parts

FIRST, SECOND = "hues", "daubs_on"
SIZE = 8


def hues_config(steps=3):
    config = _config(FIRST, steps)
    config.model = {"hue": 0.75}
    return config


def daubs_config(first_stage="", steps=4):
    config = _config(SECOND, steps)
    config.parts = {"first_stage": str(first_stage)}
    return config


def _config(family, steps):
    config = configs.base(family)
    config.data = {"workers": 0, "threads": 0}
    config.optimizer = {"g": configs.optimizer(0.1)}
    config.train.update(
        steps=steps, batch_size=2, log_every=1, eval_every=-1, checkpoint_every=2,
        compilation_cache=False, tensorboard=False,
    )  # fmt: skip
    return config


def _task(init, net, loss, **more):
    records = [{"x": np.float32(i)} for i in range(4)]
    return Task(init, (Phase("g", (net,), loss),), lambda: (records, lambda data: data), **more)


def _make_hues(config):
    def init(rng, batch):
        del batch
        hue = jax.random.uniform(rng, (3,))
        return {"decoder": {"hue": hue}, "critic": {"unused": jnp.zeros(3)}}, {}

    def loss(params, mutable, frozen, batch, rng, step):
        del mutable, frozen, batch, rng, step
        return jnp.square(params["decoder"]["hue"] - config.model.hue).sum(), ({}, {})

    return _task(init, "decoder", loss)


def _generate(nets, draw):
    tokenizer = WordTokenizer(("red",), 4)

    def embed(nets, tokens, mask):
        del nets, mask
        return {"sentence": tokens.astype(jnp.float32)}

    return {"generate": Generate(nets, SIZE, (2,), tokenizer.encode, embed, draw)}


def _hues_verbs(config):
    del config

    def draw(nets, text, z, given):
        del text
        hue = nets["decoder"]["params"]["hue"]
        return jnp.broadcast_to(hue, (z.shape[0], SIZE, SIZE, 3)), ()

    return _generate(("decoder",), draw)


def _wanted(config):
    del config
    return {"first_stage": parts.Wanted(families=(FIRST,), nets=("decoder",))}


def _make_daubs(config):
    assert config.parts.first_stage.family == FIRST

    def init(rng, batch):
        del rng, batch
        return {"g": {"w": jnp.zeros((2, SIZE))}}, {}

    def loss(params, mutable, frozen, batch, rng, step):
        del mutable, batch, rng, step
        hue = frozen["first_stage"]["decoder"]["params"]["hue"]
        return jnp.square(params["g"]["w"] - hue.mean()).sum(), ({}, {"hue": hue.mean()})

    def evaluate(nets, frozen, step):
        del frozen, step
        return Evaluation({"hue": float(nets["first_stage/decoder"]["params"]["hue"].mean())})

    return _task(init, "g", loss, evaluate=evaluate)


def _daubs_verbs(config):
    assert config.parts.first_stage.model.hue == 0.75

    def draw(nets, text, z, given):
        del text
        hue = nets["first_stage/decoder"]["params"]["hue"]
        rows = 0.1 * jnp.tanh(z @ nets["g"]["params"]["w"])
        return hue[None, None, None] - jnp.abs(rows)[:, :, None, None] * jnp.ones(
            (1, 1, SIZE, 1)
        ), ()

    return _generate(("first_stage/decoder", "g"), draw)


def _module(family, **functions):
    module = types.ModuleType(f"jaxgen.models.{family}")
    module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
    vars(module).update(functions)
    return module


def modules():
    """The two families by the names under which jaxgen looks for them."""
    found = (
        _module(FIRST, make_task=_make_hues, verbs=_hues_verbs),
        _module(SECOND, make_task=_make_daubs, verbs=_daubs_verbs, parts=_wanted),
    )
    return {module.__name__: module for module in found}


@pytest.fixture(scope="module", autouse=True)
def stacked_families(tmp_path_factory):
    """The two families can be found by name."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules().items():
            patch.setitem(sys.modules, name, module)
        patch.setenv("JAXGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
