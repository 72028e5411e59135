"""A Stable Diffusion of some thousand random numbers, as `jaxgen convert` makes one."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
from helpers import REPOSITORY
from PIL import Image

from jaxgen import config as configs
from jaxgen.data.text.clip_bpe import END, START, CLIPTokenizer, _letters
from jaxgen.models.clip.text import HF_TEXT
from jaxgen.models.ldm.change import CHANGE
from jaxgen.models.ldm.convert import _model
from jaxgen.models.ldm.unet_layout import DIFFUSERS
from jaxgen.models.vae import convert as vae
from jaxgen.runs.model import Model
from jaxgen.train.family import load_task
from jaxgen.train.start import find_parts

WORDS = ("a", "cat", "dog", "of", "photo", "picture", "red", "the", "toy")
CONTEXT, WIDTH = 16, 16
UNET = {
    "out": 4, "channels": (8,), "blocks": 1, "attention": (0,), "middle_attention": False,
    "depth": 1, "heads": 2, "head_width": 0, "linear": False, "groups": 4, "context": WIDTH,
}  # fmt: skip
VAE = {
    "channels": 3, "features": 32, "widths": (1, 1), "blocks": 1, "attention": (), "latent": 4,
    "scaling": 0.5,
}  # fmt: skip


@functools.cache
def tokenizer() -> CLIPTokenizer:
    """CLIP's kind, which has `WORDS` whole and all else by letters."""
    letters = list(_letters())
    pieces, merges = [*letters, *(f"{letter}</w>" for letter in letters)], []
    for word in WORDS:
        said = word[0] if len(word) > 1 else f"{word}</w>"
        for i, letter in enumerate(word[1:], 2):
            more = letter if i < len(word) else f"{letter}</w>"
            if (said, more) not in merges:
                merges.append((said, more))
            said += more
            pieces += [said] if said not in pieces else []
    return CLIPTokenizer({piece: i for i, piece in enumerate([*pieces, START, END])}, merges)


def tiny_sd(seed: int = 0) -> Model:
    """The whole model."""
    ids = tokenizer().size
    text = {"ids": ids, "context": CONTEXT, "width": WIDTH, "layers": 1, "heads": 2,
            "mlp": 2 * WIDTH, "activation": "quick_gelu", "pad": ids - 1, "skip": 0}  # fmt: skip
    found, rng = [], np.random.default_rng(seed)
    for layout, sizes in ((DIFFUSERS, UNET), (vae.DIFFUSERS, VAE), (HF_TEXT, text)):
        config = layout.config(sizes)
        shapes = layout.expected(config)
        tree = jax.tree.map(lambda x: rng.normal(0, 0.15, x.shape).astype(np.float32), shapes)
        found.append((sizes, config, tree))
    found[2][1].model.vocabulary = tokenizer().to_json()
    schedule = {"kind": "scaled-linear", "steps": 1000, "first": 0.00085, "last": 0.012,
                "zero_snr": False, "shift": 1.0}  # fmt: skip
    made = _model("sd", "CompVis Stable Diffusion", *found, "eps", schedule, 4)
    return Model("sd", made.config, made.nets, 0, made_of=made.parts)


def sd15_config(base: Path, pictures: Path, variant: str = "tiny", **changes):
    """configs/sd15.py on the tiny model; `variant` with the sizes of `tiny`."""
    config = configs.load(f"{REPOSITORY}/configs/sd15.py:{variant}")
    small = configs.load(f"{REPOSITORY}/configs/sd15.py:tiny")
    config.model.denoiser = small.model.denoiser
    for key in ("model.sampling.steps", "data.size", "train.steps",
                "train.checkpoint_every", "train.log_every", "train.dtype", "train.tensorboard",
                "train.eval_every"):  # fmt: skip
        configs.set_key(config, key, configs.get_key(small, key))
    config.train.batch_size = 2
    config.data.path = str(pictures)
    whole = config.train.init_from if variant in ("", "latents", "dreambooth") else config.parts
    whole.g = str(base)
    for key, value in changes.items():
        configs.set_key(config, key.replace("__", "."), value)
    return config


def some_pictures(folder: Path, count: int = 3, seed: int = 0) -> Path:
    """Random pictures of 32 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        colour = rng.integers(0, 256, (4, 4, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(colour).save(folder / f"{i}.png")
    return folder


def begun(base: Path, pictures: Path, folder: Path, variant: str = "tiny", **changes: Any) -> Any:
    """What a variant's run in `folder` begins with: (config, task, parts)."""
    config = sd15_config(base, pictures, variant, **changes)
    made_of = find_parts(config, folder)
    return config, load_task(config, made_of), made_of


def initial(task: Any) -> Any:
    """The nets that a task trains, as they begin."""
    return jax.jit(lambda: task.init(jax.random.key(0), {})[0])()


def with_change(started: Any, folder: Path, seed: int = 0, **changes: Any) -> Path:
    """A run's export whose change is of random numbers; `started` as `begun` with its folders."""
    config, task, made_of = started(**changes)
    rng = np.random.default_rng(seed)
    change = jax.tree.map(
        lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), initial(task)[CHANGE]
    )
    model = Model("run", config, {CHANGE: {"params": change}}, 4, made_of=made_of)
    return model.export(folder)
