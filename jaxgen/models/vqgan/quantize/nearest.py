"""Codebooks whose nearest vector is the code: trained by gradient, by averages, or a linear map."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.losses import vq as losses
from jaxgen.models.vqgan.quantize import search
from jaxgen.models.vqgan.quantize.contract import (
    Quantized,
    dense,
    health_of,
    rotated,
    straight_through,
    unit,
)


def uniform(limit: float) -> nn.initializers.Initializer:
    """Uniform in [-limit, limit]."""

    def init(rng: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(rng, shape, dtype, -limit, limit)

    return init


class Nearest(nn.Module):
    """What the forms of this file share; see `jaxgen.models.vqgan.quantize.make`.

    With `train`, and where the collection "codebook" is mutable, running statistics are updated:
    over the global batch. The output and the loss are always those of the codebook before.

    Attributes:
      codes: vectors of the codebook.
      width: channels of what is quantised.
      dim: channels of the codebook, with a learned projection before and behind; 0: `width`.
      normalize: compare directions only: unit vectors on both sides.
      rotation: gradient by the rotation trick instead of straight through.
      entropy: weight of MaskGIT's entropy loss, which wants each choice sharp and all codes used;
        0: none. It holds distances to all codes at once.
      entropy_temperature: of the softmax over distances in it.
    """

    codes: int
    width: int
    dim: int = 0
    normalize: bool = False
    rotation: bool = False
    entropy: float = 0.0
    entropy_temperature: float = 0.01

    def setup(self) -> None:
        size = self.dim or self.width
        if size != self.width:
            self.project_in, self.project_out = dense(size), dense(self.width)
        self.make_codebook(size)

    def __call__(self, z: jax.Array, train: bool = False, temperature: Any = 1.0) -> Quantized:
        """z (b, h, w, width) -> Quantized. `temperature` is for forms that draw (Gumbel)."""
        del temperature
        z = z.astype(jnp.float32)
        projected = self.dim not in (0, self.width)
        if projected:
            z = self.project_in(z)
        flat = z.reshape(-1, z.shape[-1])
        if self.normalize:
            flat = unit(flat)
        codebook = self.embedding()
        codes = search.nearest(flat, codebook)
        chosen = codebook[codes]
        loss, parts = self.losses(flat, chosen)
        if self.entropy:
            logits = search.squared_distances(flat, codebook) / -self.entropy_temperature
            parts["entropy"] = losses.entropy_loss(logits)
            loss = loss + self.entropy * parts["entropy"]
        quantized = (rotated if self.rotation else straight_through)(flat, chosen)
        if train and self.is_mutable_collection("codebook") and not self.is_initializing():
            self.update(jax.lax.stop_gradient(flat), codes)
        quantized = quantized.reshape(z.shape)
        if projected:
            quantized = self.project_out(quantized)
        parts |= health_of(codes, self.codes)
        return Quantized(quantized, codes.reshape(z.shape[:-1]), loss, parts)

    def lookup(self, codes: jax.Array) -> jax.Array:
        """codes (...) int32 -> vectors (..., width) float32."""
        found = self.embedding()[codes]
        return self.project_out(found) if self.dim not in (0, self.width) else found

    def vectors(self) -> jax.Array:
        """All codes' vectors, (codes, width) float32."""
        return self.lookup(jnp.arange(self.codes))

    def make_codebook(self, size: int) -> None:
        """Declares the variables."""
        raise NotImplementedError

    def embedding(self) -> jax.Array:
        """(codes, dim): the vectors that are compared."""
        raise NotImplementedError

    def losses(self, flat: jax.Array, chosen: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(loss, parts) of vectors (n, d) and their codes' vectors."""
        raise NotImplementedError

    def update(self, flat: jax.Array, codes: jax.Array) -> None:
        """Changes the running statistics after a batch: vectors (n, d), codes (n,)."""


class Learned(Nearest):
    """A codebook trained by gradient: VQ-VAE's and VQGAN's.

    Attributes:
      beta: weight of the commitment.
      legacy: that weight on the codebook's part instead, as taming-transformers trained.
    """

    beta: float = 0.25
    legacy: bool = False

    def make_codebook(self, size: int) -> None:
        """See `Nearest`."""
        init = uniform(1.0 / self.codes)
        self.table = self.param("embedding", init, (self.codes, size))

    def embedding(self) -> jax.Array:
        """See `Nearest`."""
        return unit(self.table) if self.normalize else self.table

    def losses(self, flat, chosen):
        """See `Nearest`."""
        loss = losses.codebook_loss(flat, chosen, self.beta, self.legacy)
        return loss, {"distance": losses.squared_error(flat, chosen)}
