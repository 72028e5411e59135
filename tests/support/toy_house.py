"""A family, a verb and its command that are no part of jaxgen: all that a newcomer writes.

The family "tinters" learns the mean colour of its training pictures, and can `tint` a picture with
it (a verb of its own) or `upscale` one by repeating its pixels.
"""

import dataclasses
import functools
import importlib.machinery
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import typer

from jaxgen import config as configs
from jaxgen.data.captioned import examples, section, tokenizers
from jaxgen.data.picture_files import read_image, write_image
from jaxgen.task import Phase, Task
from jaxgen.tasks.common import to_float
from jaxgen.verbs import Option, settings
from jaxgen.verbs.upscale.contract import Upscale

FAMILY, VERB = "tinters", "tint"


# ---- verbs/tint/contract.py


@dataclasses.dataclass(frozen=True, eq=False)
class Tint:
    """apply: (nets, x (h, w, 3), given) -> (h, w, 3), both float32 in [-1, 1]."""

    nets: tuple[str, ...]
    apply: Callable[[Any, jax.Array, Any], jax.Array]
    options: Mapping[str, Option]

    def facts(self):
        return {"colours": 1}

    def says(self):
        return "Tints pictures"

    def example(self, name, prompt):
        return "tinted = model.tint(array)", f"jaxgen tint in.png out.png --model {name}"

    def trace(self, nets):
        shape = jax.ShapeDtypeStruct((2, 2, 3), "float32")
        jax.eval_shape(self.apply, nets, shape, {"amount": np.float32(1)})

    @functools.cached_property
    def program(self):
        return jax.jit(self.apply)


# ---- verbs/tint/use.py


class Tinter:
    def __init__(self, verb, nets, name):
        self.verb, self.nets, self.name = verb, nets, name

    def __call__(self, image, **options):
        wanted = settings(self.verb.options, options, self.name)
        given = {key: np.float32(value) for key, value in wanted.items()}
        nets = {net: self.nets[net] for net in self.verb.nets}
        y = self.verb.program(nets, image.astype(np.float32) / 127.5 - 1.0, given)
        return np.asarray(jnp.round((y + 1.0) * 127.5), np.uint8)


# ---- cli/tint.py


def tint(source: str, out: str, model: str = typer.Option(), amount: float = typer.Option(0.5)):
    """Tint a picture."""
    from jaxgen.runs.model import load

    write_image(out, load(model).tint(read_image(source), amount=amount))


# ---- models/tinters


def _apply(nets, x, given):
    return x + given["amount"] * (nets["g"]["params"]["colour"][None, None] - x)


def _enlarge(nets, x, given):
    del nets, given
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def verbs(config):
    del config
    amount = Option(0.5, "how much of the colour", least=0.0, most=1.0)
    return {
        VERB: Tint(("g",), _apply, {"amount": amount}),
        "upscale": Upscale(("g",), _enlarge, scale=2, radius=1),
    }


def make_task(config):
    def init(rng, batch):
        del rng, batch
        return {"g": {"colour": jnp.zeros(3)}}, {}

    def loss(params, mutable, frozen, batch, rng, step):
        del frozen, rng, step
        mean = to_float(batch["image"]).mean(axis=(0, 1, 2))
        return jnp.square(params["g"]["colour"] - mean).sum(), (mutable, {})

    return Task(init, (Phase("g", ("g",), loss),), lambda: examples.train_data(config.data))


def toy_config(source, steps=100):
    config = configs.base(FAMILY)
    config.data = section.defaults()
    config.data.update(source=source, size=8, count=6)
    config.optimizer = {"g": configs.optimizer(0.05)}
    config.train.update(
        steps=steps, batch_size=6, log_every=20, eval_every=-1, checkpoint_every=20,
        compilation_cache=False, tensorboard=False,
    )  # fmt: skip
    return config


@pytest.fixture
def toy_house(monkeypatch):
    """The toys in the places where jaxgen looks for such by name, and one line in COMMANDS."""
    from jaxgen import cli

    found = {
        f"jaxgen.models.{FAMILY}": {
            "make_task": make_task, "verbs": verbs, "resolve": tokenizers.resolve
        },
        f"jaxgen.verbs.{VERB}": {"__path__": []},
        f"jaxgen.verbs.{VERB}.use": {"bind": Tinter},
    }  # fmt: skip
    for name, content in found.items():
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(cli.COMMANDS, VERB, tint)
