"""The KL autoencoder's networks and verb from a config; losses are `jaxgen.tasks.autoencoder`'s."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from jaxgen.keys import Key, Table, whole
from jaxgen.models.vae.networks import VAE
from jaxgen.nn.autoencoder import Decoder, Encoder
from jaxgen.nn.patchgan import NLayerDiscriminator
from jaxgen.task import Task
from jaxgen.tasks.autoencoder import config as defaults
from jaxgen.tasks.autoencoder import task as autoencoder
from jaxgen.tasks.autoencoder.losses import AutoencoderLosses
from jaxgen.tasks.common import make_module, module_keys, with_own
from jaxgen.verbs.encode.contract import Encode


def keys(config: ConfigDict) -> Table:
    """What the config's own sections hold; see `jaxgen.train.family.check`."""
    del config
    limits: Any = defaults.LIMITS
    settings = module_keys(Encoder, groups={"least": 0}, **limits)
    return with_own(
        defaults.KEYS,
        autoencoder={**settings, "latent": whole(4, "channels of the latents", most=4096)},
        scaling=Key(
            0.0,
            "what a diffusion model's latents are multiplied by; 0: the inverse of their deviation "
            "in training",
            least=0,
            most=1e6,
        ),
        discriminator=module_keys(NLayerDiscriminator),
    )


def make_vae(config: ConfigDict) -> VAE:
    """Net "g" of `config.model.autoencoder`.

    Raises:
      UserError: settings that don't go together.
    """
    settings = config.model.autoencoder.to_dict()
    latent, channels = settings.pop("latent"), config.model.channels
    encoder = make_module(Encoder, "autoencoder", config, latent=2 * latent, **settings)
    decoder = make_module(
        Decoder, "autoencoder", config, channels=channels, latent=latent, **settings
    )
    autoencoder.check_groups(encoder)
    return VAE(encoder, decoder, latent, config.model.scaling)


def encode_verb(config: ConfigDict) -> Encode:
    """The verb of the config's autoencoder: latents as a diffusion model has them."""
    net = make_vae(config)
    return autoencoder.encode_verb(
        config, net, codes=0, width=net.latent, moments=VAE.scaled_moments
    )


def verbs(config: ConfigDict) -> dict[str, Any]:
    """What a trained autoencoder can do: {"encode": ...}."""
    return {"encode": encode_verb(config)}


def make_task(config: ConfigDict) -> Task:
    """The Task of this config; see `jaxgen.task`.

    Raises:
      UserError: pictures that the networks can't take.
    """
    kind = autoencoder.check_pictures(config)
    d = autoencoder.make_discriminator(config)
    losses = AutoencoderLosses(make_vae(config), d, config, kind)
    return autoencoder.make_task(config, losses, encode_verb(config))
