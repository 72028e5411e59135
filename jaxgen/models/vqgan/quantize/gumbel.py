"""Codes drawn from the encoder's own distribution: the Gumbel softmax of DALL-E and VQGAN f8."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.losses import vq as losses
from jaxgen.losses.vq import EXACT
from jaxgen.models.vqgan.quantize.contract import Quantized, dense, health_of


class Gumbel(nn.Module):
    """Logits of all codes at each place; the highest, with noise in training, is the code.

    Holds (places, codes) numbers: memory grows with the codebook as in no other form.

    Attributes:
      codes: vectors of the codebook.
      width: channels of what is quantised.
      kl: weight of the divergence of each place's distribution from the uniform one.
      hard: one code each in training, with the gradient of a mix; else the mix.
      noisy: draw at evaluation, too, as taming-transformers does: encoding twice differs, and needs
        the rng "quantize".
    """

    codes: int
    width: int
    kl: float = 5e-4
    hard: bool = True
    noisy: bool = False

    def setup(self) -> None:
        self.proj = dense(self.codes)
        shape = (self.codes, self.width)
        self.table = self.param("embedding", nn.initializers.normal(1.0), shape)

    def __call__(self, z: jax.Array, train: bool = False, temperature: Any = 1.0) -> Quantized:
        """z (b, h, w, width) -> Quantized. `temperature`: above 0, may be traced; low is sharp."""
        logits = self.proj(z.astype(jnp.float32))
        scores = logits
        if (train or self.noisy) and not self.is_initializing():
            scores = logits + jax.random.gumbel(self.make_rng("quantize"), logits.shape)
        codes = jnp.argmax(scores, -1).astype(jnp.int32)
        soft = jax.nn.softmax(scores / temperature, axis=-1)
        if self.hard or not train:
            # The table's gradient is that of the code; the logits' is that of the mix.
            mix = jnp.dot(soft, jax.lax.stop_gradient(self.table), precision=EXACT)
            quantized = jnp.asarray(self.table)[codes] + (mix - jax.lax.stop_gradient(mix))
        else:
            quantized = jnp.dot(soft, self.table, precision=EXACT)
        divergence = losses.divergence_from_uniform(logits)
        parts = {"divergence": divergence} | health_of(codes, self.codes)
        return Quantized(quantized, codes, self.kl * divergence, parts)

    def lookup(self, codes: jax.Array) -> jax.Array:
        """codes (...) int32 -> vectors (..., width) float32."""
        return jnp.asarray(self.table)[codes]

    def vectors(self) -> jax.Array:
        """All codes' vectors, (codes, width) float32."""
        return self.table
