"""VQGAN's networks and verb from a config; losses and phases are `jaxgen.tasks.autoencoder`'s."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.errors import UserError
from jaxgen.keys import WIDEST, Key, Table, weight, whole
from jaxgen.models.vqgan import maskgit, quantize
from jaxgen.models.vqgan.networks import Autoencoder
from jaxgen.nn import autoencoder as halves
from jaxgen.nn.patchgan import NLayerDiscriminator
from jaxgen.task import Task
from jaxgen.tasks.autoencoder import config as defaults
from jaxgen.tasks.autoencoder import task as autoencoder
from jaxgen.tasks.autoencoder.losses import AutoencoderLosses
from jaxgen.tasks.common import choose, make_module, module_keys, module_of, with_own
from jaxgen.verbs.encode.contract import Encode

# Form of the networks -> (encoder, decoder).
FORMS: dict[str, tuple[Any, Any]] = {
    "taming": (halves.Encoder, halves.Decoder),
    "maskgit": (maskgit.Encoder, maskgit.Decoder),
}


def keys(config: ConfigDict) -> Table:
    """What the config's own sections hold; see `jaxgen.train.family.check`."""
    form = _form(config)
    encoder, _ = module_of(config, "autoencoder", FORMS)
    limits: Any = {name: limit for name, limit in defaults.LIMITS.items() if hasattr(encoder, name)}
    if encoder is halves.Encoder:
        limits["groups"] = {"least": 0}
    return with_own(
        defaults.KEYS,
        autoencoder={
            "form": Key("taming", "of the networks", choices=tuple(FORMS)),
            **module_keys(encoder, **limits),
        },
        quantize={
            "form": Key("vq", "of the quantiser", choices=tuple(quantize.FORMS)),
            "codes": whole(256, "entries of the codebook", 2, most=2**24),
            "width": whole(16, "channels of what is quantised", most=WIDEST),
            **quantize.keys(form),
        },
        temperature={  # of quantisers that draw their codes
            "start": weight(1.0, "gumbel: temperature at the first step"),
            "end": weight(0.0625, "gumbel: and from `steps` on, reached by a cosine"),
            "steps": whole(1000, "gumbel: steps until that"),
        },
        discriminator=module_keys(NLayerDiscriminator),
    )


def _form(config: ConfigDict) -> str:
    """`model.quantize.form`; a UserError if there is no such."""
    module_of(config, "quantize", quantize.FORMS)
    form: str = config.model.quantize.form
    return form


def make_autoencoder(config: ConfigDict) -> Autoencoder:
    """Net "g" of `config.model.autoencoder` and `config.model.quantize`.

    Raises:
      UserError: settings that don't go together.
    """
    settings = config.model.autoencoder.to_dict()
    form = choose(FORMS, settings.pop("form"), "model.autoencoder.form")
    encoder = make_module(form[0], "autoencoder", config, **settings)
    channels = config.model.channels
    decoder = make_module(form[1], "autoencoder", config, channels=channels, **settings)
    autoencoder.check_groups(encoder)
    chosen = config.model.quantize.to_dict()
    width = chosen["width"]
    if form is FORMS["maskgit"]:
        if width != encoder.latent:
            raise UserError(
                f"model.quantize.width={width} must be model.autoencoder.latent={encoder.latent} "
                "with form=maskgit, which quantises the latents as they are"
            )
        width = 0
    return Autoencoder(encoder, decoder, quantize.make(**chosen), width)


def encode_verb(config: ConfigDict) -> Encode:
    """The verb of the config's autoencoder."""
    return autoencoder.encode_verb(
        config,
        make_autoencoder(config),
        codes=config.model.quantize.codes,
        vectors=lambda net: net.quantize.vectors(),
        paint=Autoencoder.draw,
    )


def verbs(config: ConfigDict) -> dict[str, Any]:
    """What a trained VQGAN can do: {"encode": ...}."""
    return {"encode": encode_verb(config)}


class VQGANLosses(AutoencoderLosses):
    """With the temperature of quantisers that draw their codes."""

    def schedules(self, step) -> dict[str, Any]:
        """From `start` by half a cosine to `end`."""
        plan = self.config.model.temperature
        done = jnp.minimum(step / plan.steps, 1.0)
        share = 0.5 * (1.0 + jnp.cos(jnp.pi * done))
        return {"temperature": plan.end + (plan.start - plan.end) * share}


def make_task(config: ConfigDict) -> Task:
    """The Task of this config; see `jaxgen.task`.

    Raises:
      UserError: pictures that the networks can't take.
    """
    kind = autoencoder.check_pictures(config)
    d = autoencoder.make_discriminator(config)
    losses = VQGANLosses(make_autoencoder(config), d, config, kind)
    return autoencoder.make_task(config, losses, encode_verb(config))
