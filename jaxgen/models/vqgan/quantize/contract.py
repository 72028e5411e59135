"""What every quantiser returns, and what all share."""

from __future__ import annotations

import abc
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jaxgen.losses.vq import EXACT
from jaxgen.metrics import codebook as health


class Quantized(flax.struct.PyTreeNode):
    """z (b, h, w, width) float32: quantised, with a gradient to what was given. codes (b, h, w)
    int32. loss: float32 scalar, what the quantiser adds to the objective. parts: scalars to log.
    """

    z: jax.Array
    codes: jax.Array
    loss: jax.Array
    parts: dict[str, jax.Array]


class Quantiser(nn.Module):
    """What the forms share that may compute in fewer channels than they are given.

    Attributes:
      codes: vectors of the codebook.
      width: channels of what is quantised, and of what comes back.
    """

    codes: int
    width: int

    def project(self, size: int) -> None:
        """Declares the learned projections to `size` channels and back; none where they fit."""
        self.projected = size != self.width
        if self.projected:
            self.project_in, self.project_out = dense(size), dense(self.width)

    def __call__(self, z: jax.Array, train: bool = False, temperature: Any = 1.0) -> Quantized:
        """z (b, h, w, width) -> Quantized. `temperature` is for forms that draw (Gumbel)."""
        del temperature
        z = z.astype(jnp.float32)
        found = self.quantised(self.project_in(z) if self.projected else z, train)
        parts = found.parts | health_of(found.codes, self.codes)
        return found.replace(z=self._back(found.z), parts=parts)

    def lookup(self, codes: jax.Array) -> jax.Array:
        """codes (...) int32 -> vectors (..., width) float32."""
        return self._back(self.values(codes))

    def vectors(self) -> jax.Array:
        """All codes' vectors, (codes, width) float32."""
        return self.lookup(jnp.arange(self.codes))

    def _back(self, values: jax.Array) -> jax.Array:
        return self.project_out(values) if self.projected else values

    @abc.abstractmethod
    def quantised(self, z: jax.Array, train: bool) -> Quantized:
        """As a call, between the projections and without what is logged of the codes."""

    @abc.abstractmethod
    def values(self, codes: jax.Array) -> jax.Array:
        """codes (...) int32 -> what they stand for between the projections, (..., size)."""


def health_of(codes: jax.Array, size: int) -> dict[str, jax.Array]:
    """`usage` and `perplexity` of one global batch's codes, to log."""
    counts = health.histogram(codes, size)
    return {"usage": health.usage(counts), "perplexity": health.perplexity(counts)}


def dense(features: int) -> nn.Dense:
    """A projection of a quantiser: float32 whatever the network computes in."""
    return nn.Dense(features, dtype=jnp.float32, precision=EXACT)


def straight_through(z: jax.Array, quantized: jax.Array) -> jax.Array:
    """The value of `quantized` with the gradient of z."""
    return z + jax.lax.stop_gradient(quantized - z)


def rotated(z: jax.Array, quantized: jax.Array) -> jax.Array:
    """The value of `quantized` as z turned and scaled, both taken as constants by the gradient.

    The rotation trick (Fifty et al. 2024, section 4): the gradient keeps its angle to the code.

    Args:
      z, quantized: (n, d) float32.
    """
    stop = jax.lax.stop_gradient
    z_norm, q_norm = stop(_norm(z)), stop(_norm(quantized))
    u, q = stop(z) / z_norm, stop(quantized) / q_norm
    w = unit(u + q)
    # Two reflections: first in the bisector, then u's own part onto q.
    dot = lambda a, b: jnp.sum(a * b, -1, keepdims=True)  # noqa: E731
    turned = z - 2.0 * dot(z, w) * w + 2.0 * dot(z, u) * q
    return turned * (q_norm / z_norm)


def unit(x: jax.Array) -> jax.Array:
    """x / |x| along the last axis; of zero: zero, with a finite gradient."""
    return x / _norm(x)


def _norm(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(x), -1, keepdims=True), 1e-12))
