"""Where diffusion happens: among pixels, or among the latents of a trained autoencoder.

A place of either has a deviation of about 1: pixels are in [-1, 1], latents scaled by their
autoencoder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.errors import UserError
from jaxgen.verbs.encode.contract import Encode
from jaxgen.verbs.offered import latents_of

FIRST = "first_stage"  # the part


@dataclasses.dataclass(frozen=True, eq=False)
class Space:
    """Pixels where `verb` is None, else the latents that it makes.

    factor: pixels of a place along each axis. channels: numbers of a place. scaling: what its
    autoencoder multiplies latents by, where that is a fixed number.
    """

    verb: Encode | None = None
    channels: int = 3
    scaling: float = 1.0

    @property
    def factor(self) -> int:
        """Pixels of a place along each axis."""
        return self.verb.factor if self.verb else 1

    @property
    def nets(self) -> tuple[str, ...]:
        """Nets of the autoencoder by a verb's names."""
        return tuple(f"{FIRST}/{net}" for net in self.verb.nets) if self.verb else ()

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Of one picture's x."""
        return height // self.factor, width // self.factor, self.channels

    def drawn(self, stage: Any, pictures: jax.Array, rng: jax.Array) -> jax.Array:
        """x of pictures (b, h, w, 3) in [-1, 1], as training has it: latents are drawn.

        Args: stage: the part's nets by their own names.
        """
        if self.verb is None:
            return pictures
        assert self.verb.moments is not None  # as `latents_of` made sure
        return sample(self.verb.moments(stage, pictures), rng)

    def usual(self, nets: Mapping[str, Any], pictures: jax.Array) -> jax.Array:
        """x of pictures without chance; `nets` by a verb's names."""
        return pictures if self.verb is None else self.verb.encode(self._own(nets), pictures)

    def unscaled(self, nets: Mapping[str, Any], pictures: jax.Array) -> jax.Array:
        """The same before the autoencoder's scaling: what InstructPix2Pix's net sees beside x."""
        return self.usual(nets, pictures) / self.scaling

    def pictures(self, nets: Mapping[str, Any], x: jax.Array) -> jax.Array:
        """x -> pictures float32, about [-1, 1]."""
        if self.verb is None:
            return x
        return self.verb.decode(self._own(nets), x).astype(jnp.float32)

    def _own(self, nets: Mapping[str, Any]) -> dict[str, Any]:
        assert self.verb is not None
        return {net: nets[f"{FIRST}/{net}"] for net in self.verb.nets}


def make_space(config: ConfigDict) -> Space:
    """Of a config with its parts filled in (`jaxgen.weights.parts.filled`).

    Raises:
      UserError: an autoencoder of codes, or a size that it can't take.
    """
    given = config.get("parts", {}).get(FIRST)
    if not isinstance(given, ConfigDict):
        return Space()
    verb = latents_of(given, f"parts.{FIRST}")
    if config.data.size % verb.factor:
        raise UserError(
            f"data.size={config.data.size} must be a multiple of {verb.factor}, the pixels of a "
            f"latent of parts.{FIRST}"
        )
    return Space(verb, verb.width, given.model.get("scaling", 0.0) or 1.0)


def sample(moments: jax.Array, rng: jax.Array) -> jax.Array:
    """Latents of moments (..., 2 d): mean and log of the variance."""
    mean, logvar = jnp.split(moments, 2, axis=-1)
    return mean + jnp.exp(0.5 * logvar) * jax.random.normal(rng, mean.shape)
