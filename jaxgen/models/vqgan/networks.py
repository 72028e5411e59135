"""VQGAN's autoencoder (Esser et al., CVPR 2021), layer by layer as in taming-transformers.

    f16: encoder 29,298,176, decoder 42,449,795 parameters; widths 1, 1, 2, 2, 4, attention at (4,)
    f8:  encoder 26,345,728, decoder 38,316,163; widths 1, 1, 2, 4, attention at (3,)

each with 128 features, 256 latent channels and two 1x1 convolutions of 65,792 around the codebook.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from jaxgen.nn.conv import Conv
from jaxgen.tasks.autoencoder.losses import Autoencoded


class Autoencoder(nn.Module):
    """Net "g": {encoder, quant_conv, quantize, post_quant_conv, decoder}.

    Attributes:
      encoder, decoder: of latents with `latent` channels; `jaxgen.nn.autoencoder`'s, or MaskGIT's.
      quantize: of `jaxgen.models.vqgan.quantize`.
      width: channels of the vectors that are quantised; 0: the latents as they are, without
        convolutions around the quantiser (MaskGIT).
    """

    encoder: Any
    decoder: Any
    quantize: Any
    width: int

    def setup(self) -> None:
        if not self.width:
            return
        # They stand next to the quantiser, which is float32 whatever the rest.
        self.quant_conv = Conv(self.width, 1)
        self.post_quant_conv = Conv(self.encoder.latent, 1)

    def __call__(
        self, x: jax.Array, train: bool = False, temperature: jax.Array | float = 1.0
    ) -> Autoencoded:
        """x (b, h, w, c) float32 -> `Autoencoded`; training needs the rng "quantize".

        Args: temperature: of quantisers that draw their codes (Gumbel).
        """
        found = self.quantize(self.embed(x, train), train, temperature)
        picture, hidden = self.decoder(self._latents(found.z), train)
        return Autoencoded(picture, hidden, found.loss, dict(found.parts), found.codes)

    def embed(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Pictures -> what is quantised, (b, h / f, w / f, width) float32."""
        latents = self.encoder(x, train)
        return self.quant_conv(latents) if self.width else latents

    def encode(self, x: jax.Array) -> jax.Array:
        """Pictures -> codes (b, h / f, w / f) int32."""
        return self.quantize(self.embed(x), False).codes

    def decode(self, codes: jax.Array) -> jax.Array:
        """Codes (b, h, w) -> pictures (b, h * f, w * f, c) float32."""
        return self.draw(self.quantize.lookup(codes))

    def draw(self, z: jax.Array) -> jax.Array:
        """Vectors of the codebook, or others of their kind, (b, h, w, width) -> pictures."""
        return self.decoder(self._latents(z))[0]

    def _latents(self, z: jax.Array) -> jax.Array:
        return self.post_quant_conv(z) if self.width else z
