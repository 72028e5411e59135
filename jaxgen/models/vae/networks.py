"""The autoencoder of latent diffusion (Rombach et al., CVPR 2022, appendix G), KL-f8.

83,653,863 parameters: encoder 34,163,592, decoder 49,490,179, 72 and 20 around the latents,
with 128 features, widths 1, 2, 4, 4, two blocks, attention in the middle alone, 4 latents
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.autoencoder import Decoder, Encoder
from jaxgen.nn.conv import Conv
from jaxgen.tasks.autoencoder.losses import Autoencoded

DECAY = 0.99  # of the running deviation of latents


class VAE(nn.Module):
    """Net "g": {encoder, quant_conv, post_quant_conv, decoder}.

    Attributes:
      encoder: with 2 * `latent` channels out.
      decoder: of as many channels as the pictures.
      latent: channels of the latents.
      scaling: what brings latents to a deviation of about 1, where a diffusion model works; 0: the
        inverse of the deviation that training saw, which is then in the collection "latents".
    """

    encoder: Encoder
    decoder: Decoder
    latent: int
    scaling: float = 0.0

    def setup(self) -> None:
        self.quant_conv = Conv(2 * self.latent, 1)
        self.post_quant_conv = Conv(self.latent, 1)
        if not self.scaling:
            self.mean = self.variable("latents", "mean", jnp.zeros, ())
            self.square = self.variable("latents", "square", jnp.ones, ())

    def __call__(self, x: jax.Array, train: bool = False) -> Autoencoded:
        """x (b, h, w, c) float32 -> `Autoencoded`; training draws latents by the rng "quantize".

        The bottleneck's loss is the divergence from a standard normal, summed over a picture's
        latents, over the number of its pixels' values: the published weight 1e-6 stands beside
        means over these.
        """
        moments = self.moments(x, train)
        mean, logvar = split(moments)
        z = mean
        if train:
            z = sample(moments, jax.random.normal(self.make_rng("quantize"), mean.shape))
            self._watch(mean, logvar)
        picture, hidden = self.decoder(self.post_quant_conv(z), train)
        kl = divergence(moments).mean()
        values = x.shape[1] * x.shape[2] * x.shape[3]
        return Autoencoded(picture, hidden, kl / values, {"kl": kl}, None)

    def moments(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Pictures -> (b, h / f, w / f, 2 * latent) float32, see `split`."""
        y: jax.Array = self.quant_conv(self.encoder(x, train))
        return y

    def scale(self) -> jax.Array:
        """What latents are multiplied by; a float32 scalar."""
        if self.scaling:
            return jnp.float32(self.scaling)
        return jax.lax.rsqrt(jnp.maximum(self.square.value - self.mean.value**2, 1e-12))

    def scaled_moments(self, x: jax.Array) -> jax.Array:
        """As `moments`, of the scaled latents."""
        mean, logvar = split(self.moments(x))
        scale = self.scale()
        return jnp.concatenate([mean * scale, logvar + 2 * jnp.log(scale)], axis=-1)

    def encode(self, x: jax.Array) -> jax.Array:
        """Pictures -> the means of their latents, scaled, (b, h / f, w / f, latent)."""
        return split(self.moments(x))[0] * self.scale()

    def decode(self, z: jax.Array) -> jax.Array:
        """Scaled latents (b, h, w, latent) -> pictures (b, h * f, w * f, c) float32."""
        picture: jax.Array = self.decoder(self.post_quant_conv(z / self.scale()))[0]
        return picture

    def _watch(self, mean: jax.Array, logvar: jax.Array) -> None:
        if self.scaling or not self.is_mutable_collection("latents"):
            return
        square = jnp.square(mean) + jnp.exp(logvar)
        for variable, value in ((self.mean, mean), (self.square, square)):
            new = jax.lax.stop_gradient(value.mean())
            variable.value = DECAY * variable.value + (1.0 - DECAY) * new


def split(moments: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Moments (..., 2 * latent) -> (mean, log of the variance in [-30, 20])."""
    mean, logvar = jnp.split(moments, 2, axis=-1)
    return mean, jnp.clip(logvar, -30.0, 20.0)


def sample(moments: jax.Array, noise: jax.Array) -> jax.Array:
    """Latents, not scaled, of moments (..., 2 * latent) and standard normal noise (..., latent)."""
    mean, logvar = split(moments)
    return mean + jnp.exp(0.5 * logvar) * noise


def divergence(moments: jax.Array) -> jax.Array:
    """KL from a standard normal, summed over each picture's latents: (b,) float32, nats."""
    mean, logvar = split(moments)
    each = 0.5 * (jnp.square(mean) + jnp.exp(logvar) - 1.0 - logvar)
    return each.sum(axis=(1, 2, 3))
