"""A tiny model of the real family, exported or as a run directory, and pictures to use it on."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgen import config as configs
from jaxgen.models.srgan.task import make_generator
from jaxgen.runs import model as run
from jaxgen.train.checkpoint import Checkpoints
from jaxgen.train.state import TrainState

ROOT = Path(__file__).resolve().parent.parent.parent


def tiny_config(**model):
    """`configs/srgan.py:tiny`, with changes to its generator."""
    config = configs.load(f"{ROOT / 'configs' / 'srgan.py'}:tiny")
    config.model.generator.update(model)
    return config


def variables(config, seed=0):
    """Random variables of the generator; the last layer, zero at first, included."""
    shape = jnp.zeros((1, 8, 8, 3))
    drawn = jax.jit(make_generator(config).init)(jax.random.key(seed), shape)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: np.asarray(a) + rng.normal(0, 0.02, a.shape).astype("f"), drawn)


def tiny_model(seed=0, **model):
    config = tiny_config(**model)
    nets = {"g": variables(config, seed), "d": {"params": {"unused": np.zeros(3)}}}
    return run.Model("tiny", config, nets, step=7, metrics={"psnr_y": 25.5, "ssim_y": 0.75})


def write_run(folder, steps=(4, 8)):
    """A run with checkpoints of `steps`: nets seeded by the step, averages by 100 + step."""
    config = tiny_config()
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(configs.to_json(config))
    checkpoints = Checkpoints(folder)
    for step in steps:
        state = TrainState(
            step=jnp.asarray(step, jnp.int32),
            params={
                "g": jax.tree.map(jnp.asarray, variables(config, step)["params"]),
                "d": {"unused": jnp.zeros(3)},
            },
            mutable={},
            opt={"g": {"count": jnp.zeros((), jnp.int32)}},
            ema={"g": jax.tree.map(jnp.asarray, variables(config, 100 + step))},
        )
        checkpoints.save(step, state)
        checkpoints.wait()
    checkpoints.close()
    return folder


def picture(height=13, width=17, channels=3, seed=0):
    """Smooth random uint8 picture; channels 0: (h, w)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 8.0
    planes = [
        127
        + 100 * np.sin(y * rng.uniform(0.5, 2) + rng.uniform(0, 6)) * np.cos(x * rng.uniform(1, 2))
        for _ in range(channels or 1)
    ]
    image = np.stack(planes, axis=-1).astype(np.uint8)
    return image if channels else image[..., 0]


def save(path, array, **options):
    """Writes a picture, and the folders above it; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def read(path):
    return np.asarray(Image.open(path))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An exported tiny model, as the command line names it."""
    return str(tiny_model().export(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / ".cache"))
