"""Diffusion models of a few thousand random numbers, which draw in no time, for tests."""

import jax
import jax.numpy as jnp
import numpy as np
from helpers import REPOSITORY

from jaxgen import config as configs
from jaxgen.models.ldm.losses import LDMLosses
from jaxgen.models.ldm.sampler import Sampler
from jaxgen.runs.model import Model
from jaxgen.verbs.generate.use import Drawer


def tiny_ldm_config(variant="tiny", **changes):
    """One level and no attention but the middle's: seconds less to compile."""
    config = configs.load(f"{REPOSITORY}/configs/ldm.py:{variant}")
    config.model.denoiser.channels = (8,)
    for key, value in changes.items():
        configs.set_key(config, key.replace("__", "."), value)
    return config


def tiny_latent_config():
    """The same among latents of 2 pixels on a side, its autoencoder's config filled in."""
    config = tiny_ldm_config(model__denoiser__patch=1, model__denoiser__middle_attention=False)
    with config.unlocked():
        config.parts = {
            "first_stage": configs.load(f"{REPOSITORY}/configs/vae.py:tiny"),
            "text": "",
        }
    return config


def tiny_nets(config, seed=0):
    """Random numbers for all of them, also where a fresh net begins with zeros."""
    params, _ = jax.eval_shape(LDMLosses(config).init, jax.random.key(0), {})
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(seed)
    params = tree.unflatten([rng.normal(0, 0.2, x.shape).astype(np.float32) for x in leaves])
    nets = {name: {"params": tree} for name, tree in params.items()}
    if config.parts.first_stage:
        from jaxgen.models.vae.task import make_vae

        rngs = {"params": jax.random.key(0), "quantize": jax.random.key(1)}
        init = jax.jit(make_vae(config.parts.first_stage).init)
        nets["first_stage/g"] = init(rngs, jnp.zeros((1, 16, 16, 3)))
    return nets


def tiny_drawer(config):
    """Its verb `generate`, ready for use."""
    return Drawer(Sampler(LDMLosses(config), config).generate(), tiny_nets(config), "ldm")


def tiny_ldm(seed=0):
    """A whole model, such as to export."""
    config = tiny_ldm_config()
    return Model("ldm", config, tiny_nets(config, seed), step=4)


def tiny_vae():
    """A whole autoencoder of random numbers."""
    config = tiny_latent_config()
    return Model("vae", config.parts.first_stage, {"g": tiny_nets(config)["first_stage/g"]}, step=4)
